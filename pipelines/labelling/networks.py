"""What runs a trained network on photos: TensorFlow, or on processors ONNX Runtime, which is faster there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from tfwsss.config.schema import Runtime
from tfwsss.processes import usable_cores


def is_processor(name: str) -> bool:
    """Whether a name for tf.device is that of a processor: "/CPU:0", "/device:CPU:1"."""
    return "CPU:" in name


def takes_onnxruntime(name: str, runtime: Runtime) -> bool:
    """Whether networks on the device of that name run in ONNX Runtime."""
    if runtime.inference != "auto":
        return runtime.inference == "onnxruntime"
    return is_processor(name) and all(find_spec(module) is not None for module in ("onnxruntime", "tf2onnx"))


def network_on(name: str, runtime: Runtime, function: Callable[[Any], dict[str, Any]]) -> Callable[[np.ndarray], dict[str, Any]]:
    """A function of photos, ready to run on a device.

    Args:
        name: for tf.device; the function's variables are there.
        runtime: what runs it.
        function: TensorFlow operations, uint8 [B, H, W, 3] of any size -> {name: tensor}. Traced once.

    Returns:
        Function uint8 array [B, H, W, 3] -> {name: array, or tensor of that device}.
    """
    if takes_onnxruntime(name, runtime):
        return _onnx_session(function)
    import tensorflow as tf

    traced = tf.function(function, input_signature=[tf.TensorSpec([None, None, None, 3], tf.uint8)], autograph=False)

    def run(photos: np.ndarray) -> dict[str, Any]:
        with tf.device(name):
            return traced(photos)

    return run


def _onnx_session(function: Callable[[Any], dict[str, Any]]) -> Callable[[np.ndarray], dict[str, Any]]:
    import onnxruntime

    from tfwsss.export.frugal_converter import converted

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    # Threads that wait for work must not take the cores from those that read, refine and write.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(converted(function).SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda photos: dict(zip(names, session.run(names, {"images": photos}), strict=True))
