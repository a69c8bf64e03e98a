"""Models and photos for benchmarks/gpu.sh; needs TensorFlow, and runs where the wheels are downloaded.

    python benchmarks/gpu/models.py FOLDER

Writes FOLDER/model.fp32.onnx and model.fp16.onnx (a DeepLabV3+ segmenter on MobileNetV2 with 20 classes and random weights),
product.fp32.onnx and product.fp16.onnx (one matrix product), and facts.json (arithmetic of one photo).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import onnx
from onnx import helper

from tfwsss.export import export_onnx
from tfwsss.export.flops import count_flops
from tfwsss.models import build_segmenter, normalization

CLASSES = 20


def product(kind: int) -> onnx.ModelProto:
    """a @ b of square matrices of any size."""
    values = [helper.make_tensor_value_info(name, kind, ["n", "n"]) for name in ("a", "b", "c")]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", values[:2], values[2:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="mobilenetv2")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--size", default="375x500", help="height x width that the arithmetic is counted for (default: %(default)s)")
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    keras.utils.set_random_seed(0)
    model = build_segmenter(arguments.backbone, CLASSES, width=arguments.width)
    names = [f"class {k}" for k in range(CLASSES)]
    for precision in ("fp32", "fp16"):
        path = arguments.folder / f"model.{precision}.onnx"
        export_onnx(model, path, class_names=names, normalization=normalization(arguments.backbone), precision=precision)
        onnx.save(product(onnx.TensorProto.FLOAT if precision == "fp32" else onnx.TensorProto.FLOAT16), arguments.folder / f"product.{precision}.onnx")
    flops = count_flops(onnx.load(arguments.folder / "model.fp32.onnx"), height, width)
    facts = {"model": f"segmenter {arguments.backbone}, width {arguments.width:g}", "height": height, "width": width, "flops": flops}
    (arguments.folder / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
