"""Time of each kind of operation of an ONNX model, for benchmarks/gpu.sh; prints one line of JSON.

    CUDA_LAUNCH_BLOCKING=1 python benchmarks/gpu/operations.py MODEL --device cuda --size 375x500

With CUDA_LAUNCH_BLOCKING=1 a kernel's start waits for its end, so that ONNX Runtime's profiler sees what each one takes.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

WARM_UPS = 2


def milliseconds(model: Path, device: str, height: int, width: int, runs: int) -> dict[str, float]:
    """{"operation (provider)": ms in one run of one photo}, the costliest first."""
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if device == "cuda" else ["CPUExecutionProvider"]
    image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling, options.profile_file_prefix = True, f"{folder}/profile"
        session = onnxruntime.InferenceSession(str(model), options, providers=providers)
        for _ in range(WARM_UPS + runs):
            session.run(["mask"], {"images": image})
        events = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[tuple[str, str], list[float]] = defaultdict(list)
    for node, kind, ms in _kernels(events):
        taken[node, kind].append(ms)
    kinds: dict[str, float] = defaultdict(float)
    for (_, kind), found in taken.items():
        kinds[kind] += float(np.median(found[WARM_UPS:]))
    return dict(sorted(kinds.items(), key=lambda item: -item[1]))


def _kernels(events: list[dict]) -> Iterator[tuple[str, str, float]]:
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found = event["args"]
            yield event["name"], f"{found['op_name']} ({found['provider'].removesuffix('ExecutionProvider')})", event["dur"] / 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--size", default="375x500", help="height x width (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    height, width = (int(side) for side in arguments.size.split("x"))
    print(json.dumps(milliseconds(arguments.model, arguments.device, height, width, arguments.runs)))


if __name__ == "__main__":
    main()
