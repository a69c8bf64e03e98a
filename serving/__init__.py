"""What runs an exported segmenter: TensorFlow Serving (`tf_serving`) and ONNX Runtime (`onnx`)."""
