// A program as somebody would write it around TensorFlow's C++ SavedModel loader:
//   segment SAVED_MODEL IMAGES HEIGHT WIDTH MASK
// IMAGES holds uint8 RGB pixels of any number of images of that size, MASK receives the labels.
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "tensorflow/cc/saved_model/loader.h"
#include "tensorflow/core/framework/tensor.h"
#include "tensorflow/core/public/session.h"

int main(int argc, char** argv) {
  if (argc != 6) return 2;
  tensorflow::SavedModelBundle bundle;
  auto status = tensorflow::LoadSavedModel({}, {}, argv[1], {"serve"}, &bundle);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::vector<char> pixels((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const int64_t height = std::stoll(argv[3]), width = std::stoll(argv[4]);
  const int64_t batch = static_cast<int64_t>(pixels.size()) / (height * width * 3);
  tensorflow::Tensor images(tensorflow::DT_UINT8, {batch, height, width, 3});
  std::copy(pixels.begin(), pixels.end(), reinterpret_cast<char*>(images.flat<uint8_t>().data()));

  const auto& signature = bundle.GetSignatures().at("serving_default");
  std::vector<tensorflow::Tensor> outputs;
  status = bundle.GetSession()->Run({{signature.inputs().at("images").name(), images}}, {signature.outputs().at("mask").name()}, {}, &outputs);
  if (!status.ok()) {
    std::cerr << status.ToString() << "\n";
    return 1;
  }
  for (int axis = 0; axis < outputs[0].dims(); ++axis) std::cout << outputs[0].dim_size(axis) << " ";
  const auto mask = outputs[0].flat<uint8_t>();
  std::ofstream(argv[5], std::ios::binary).write(reinterpret_cast<const char*>(mask.data()), mask.size());
}
