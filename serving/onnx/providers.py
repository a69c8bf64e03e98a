"""Opening an exported file on a device, and refusing ONNX Runtime's silent fallback to a slower one."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import onnxruntime

from .errors import DeviceError, ModelError

DEVICES = ("auto", "cpu", "cuda", "tensorrt")
_CPU, _CUDA, _TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
_DEVICE = {_CPU: "cpu", _CUDA: "cuda", _TENSORRT: "tensorrt"}
_NEEDED = {
    "cuda": "are the NVIDIA driver, CUDA and cuDNN that onnxruntime {version} needs installed?",
    "tensorrt": "are the NVIDIA driver, CUDA, cuDNN and TensorRT (libnvinfer) that onnxruntime {version} needs installed?",
}


def has_driver() -> bool:
    """Whether NVIDIA's driver is there; without it, trying CUDA would only print a warning."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _wanted(device: str, available, engine_cache: Path) -> list:
    # The default searches the fastest algorithm anew for every image size, which takes seconds each time.
    cuda = (_CUDA, {"cudnn_conv_algo_search": "HEURISTIC"})
    if device == "tensorrt":
        cache = {"trt_engine_cache_enable": True, "trt_engine_cache_path": str(engine_cache), "trt_timing_cache_enable": True, "trt_timing_cache_path": str(engine_cache)}
        return [(_TENSORRT, cache), cuda, _CPU]
    return [cuda, _CPU] if device == "cuda" or (device == "auto" and _CUDA in available and has_driver()) else [_CPU]


def connect(path: Path, device: str, threads: int | None = None, engine_cache: Path | None = None, spinning: bool = True):
    """Open an .onnx file.

    Args:
        path: the file.
        device: "cpu"; "cuda"; "tensorrt", with CUDA for the operations that TensorRT lacks; "auto", CUDA where it works
            and else the CPU.
        threads: CPU threads for one run; None leaves it to ONNX Runtime (one per core).
        engine_cache: folder for TensorRT's compiled engines, made if missing; None takes `<path>.tensorrt`.
        spinning: CPU threads that wait for work keep their core busy.

    Returns:
        (onnxruntime.InferenceSession, "cpu", "cuda" or "tensorrt": where it really runs).

    Raises:
        DeviceError: the device is unknown, this onnxruntime lacks it, or the session fell back to another.
        ModelError: not an ONNX file.
    """
    if device not in DEVICES:
        raise DeviceError(f"device: found {device!r}, expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    available = onnxruntime.get_available_providers()
    asked = {"cuda": _CUDA, "tensorrt": _TENSORRT}.get(device)
    if asked is not None and asked not in available:
        raise DeviceError(f"device {device}: this onnxruntime has only {', '.join(available)}; install onnxruntime-gpu")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4 if device == "auto" else 3  # trying CUDA in vain is no error with "auto"
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    engine_cache = engine_cache or path.with_name(path.name + ".tensorrt")
    if device == "tensorrt":
        engine_cache.mkdir(parents=True, exist_ok=True)
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_wanted(device, available, engine_cache))
    except Exception as error:  # onnxruntime has one class for each status and no common base
        raise ModelError(f"{path}: not a usable ONNX model: {' '.join(str(error).split())}") from None
    active = session.get_providers()[0]
    if asked is not None and active != asked:
        reason = _NEEDED[device].format(version=onnxruntime.__version__)
        raise DeviceError(f"device {device}: onnxruntime fell back to {active}; {reason}")
    return session, _DEVICE[active]
