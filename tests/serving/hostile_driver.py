"""Runs the hostile files through the runtime in a process whose address space is limited.

    python hostile_driver.py MODEL RESULTS

writes RESULTS (.npz): `mask/<name>` for files that were segmented, `error/<name>` with the error's class and message for
those that were refused, and `megabytes`: how far the process' memory rose above what it had before the first file.
"""

import resource
import sys
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]
ADDRESS_SPACE = 1 << 30


def status(field: str) -> int:
    """A memory figure of this process in bytes, as VmRSS, VmHWM (its peak) or VmSize."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field + ":"))


def main(model: str, results: str) -> None:
    sys.path.insert(0, str(ROOT))
    from tests.hostile.corpus import corpus
    from tfwsss_onnx import ImageError, Segmenter

    warnings.simplefilter("ignore")
    segmenter = Segmenter(model, device="cpu", threads=1)
    segmenter.warm_up([(24, 40)])
    files = [(file.name, file.data) for file in corpus()]
    Path("/proc/self/clear_refs").write_text("5")  # making the files took memory, too: start the peak anew
    before = status("VmHWM")
    limit = status("VmSize") + ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    found = {}
    for name, data in files:
        try:
            found[f"mask/{name}"] = segmenter(data)
        except ImageError as error:
            found[f"error/{name}"] = np.array([type(error).__name__, str(error)])
    found["megabytes"] = np.array((status("VmHWM") - before) / 1e6)
    np.savez(results, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
