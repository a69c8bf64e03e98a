"""One artefact in a process of its own, driven by lines of JSON: `python -m tfwsss_pipelines.bench.worker KIND PATH DEVICE THREADS`.

Each line on standard input is a request, each answered by one line on standard output:
    {"batch": B, "height": H, "width": W, "seconds": S}  ->  {"seconds": [one per call], "cpu_seconds": C, "peak_mb": M}
At least two calls are made and as many as fit into S seconds; `cpu_seconds` is the processor time of one call, all threads
together, `peak_mb` the process's largest resident memory during them. KIND "limit" measures matrix products instead; its requests are {"seconds": S}, its answers FLOP/s by precision.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..engine.startup import load_tensorflow

SIDE = {"cpu": 1536, "cuda": 8192}  # of the square matrices of the limit: large enough for the best rate


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass  # not Linux, or not allowed: the peak is then that of the whole life


def peak_mb() -> float:
    """Largest resident memory since the last reset, MiB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _session(model, device: str, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    wanted = "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider"
    session = onnxruntime.InferenceSession(model, options, providers=[wanted])
    if session.get_providers()[0] != wanted:
        raise SystemExit(f"onnxruntime fell back to {session.get_providers()[0]}, expected {wanted}")
    return session


def _onnx(path: str, device: str, threads: int) -> Callable:
    session = _session(path, device, threads)
    names = [session.get_outputs()[0].name]
    return lambda images: session.run(names, {"images": images})


def _tensorflow(threads: int):
    load_tensorflow()
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return tf


def _saved_model(path: str, device: str, threads: int) -> Callable:
    tf = _tensorflow(threads)
    loaded = tf.saved_model.load(path)
    segment = loaded.signatures["serving_default"]
    return lambda images, loaded=loaded: segment(images=tf.constant(images))["mask"].numpy()


def _keras(path: str, device: str, threads: int) -> Callable:
    """`predict` of the network alone: normalised photos in, logits out. What the others do besides is not counted here."""
    _tensorflow(threads)
    from tfwsss.weights import load_model

    model = load_model(path)
    return lambda images: model.predict(images, batch_size=len(images), verbose=0)


def _calls(seconds: float, call: Callable, *arguments) -> list[float]:
    taken: list[float] = []
    while len(taken) < 2 or sum(taken) < seconds:
        start = time.perf_counter()
        call(*arguments)
        taken.append(time.perf_counter() - start)
    return taken


def _product(precision: str, device: str, threads: int) -> Callable:
    """A call that multiplies two square matrices in ONNX Runtime."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    side, rng = SIDE[device], np.random.default_rng(0)
    if precision == "int8":
        a, b = rng.integers(0, 256, (side, side)).astype(np.uint8), rng.integers(-127, 128, (side, side)).astype(np.int8)
    else:
        a, b = (rng.normal(0, 1, (side, side)).astype({"fp32": np.float32, "fp16": np.float16}[precision]) for _ in range(2))
    node = helper.make_node("MatMulInteger" if precision == "int8" else "MatMul", ["a", "b"], ["c"])
    result = TensorProto.INT32 if precision == "int8" else helper.np_dtype_to_tensor_dtype(a.dtype)
    inputs = [helper.make_tensor_value_info("a", helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)]
    outputs = [helper.make_tensor_value_info("c", result, (side, side))]
    graph = helper.make_graph([node], "limit", inputs, outputs, [numpy_helper.from_array(b, "b")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = _session(model.SerializeToString(), device, threads)
    binding = session.io_binding()
    binding.bind_cpu_input("a", a)
    if device == "cuda":  # copied once: the limit is that of the arithmetic
        import onnxruntime

        binding.bind_ortvalue_input("a", onnxruntime.OrtValue.ortvalue_from_numpy(a, "cuda", 0))
    binding.bind_output("c", "cuda" if device == "cuda" else "cpu")
    return lambda: session.run_with_iobinding(binding)


def _serve_limit(device: str, threads: int, answer: Callable) -> None:
    products = {precision: _product(precision, device, threads) for precision in (("fp32", "int8") if device == "cpu" else ("fp32", "fp16"))}
    for call in products.values():
        call()
    answer({"ready": True})
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        answer({precision: 2 * SIDE[device] ** 3 / min(_calls(seconds, call)) for precision, call in products.items()})


def _serve(kind: str, segment: Callable, answer: Callable) -> None:
    answer({"ready": True})
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        request = json.loads(line)
        images: np.ndarray = rng.integers(0, 256, (request["batch"], request["height"], request["width"], 3)).astype(np.uint8)
        if kind == "keras":
            images = images.astype(np.float32) / np.float32(127.5) - 1
        _reset_peak()
        before = time.process_time()
        taken = _calls(request["seconds"], segment, images)
        answer({"seconds": taken, "cpu_seconds": (time.process_time() - before) / len(taken), "peak_mb": peak_mb()})


def main(kind: str, path: str, device: str, threads: str) -> None:
    # Answers go where standard output went; whatever libraries print goes to standard error.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def answer(value: dict) -> None:
        answers.write(json.dumps(value) + "\n")

    if kind == "limit":
        _serve_limit(device, int(threads), answer)
    else:
        _serve(kind, {"onnx": _onnx, "saved_model": _saved_model, "keras": _keras}[kind](path, device, int(threads)), answer)


if __name__ == "__main__":
    main(*sys.argv[1:])
