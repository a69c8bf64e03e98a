"""Fuzz every reader of foreign files with a seed.

    python -m tests.fuzz.run --seconds 3600            # all readers for an hour
    python -m tests.fuzz.run --seed 7 --files 200 --only torch.pth cls_labels.npy

Each file goes to a reader that may return, or raise its own error; anything else is a finding: another exception, more than
`--megabytes` of memory on top of what was held before, or more than `--longest` seconds of processor time (a process that goes on for ten
times that is stopped with a traceback). Findings are kept in `--keep` under the reader's name and the seed; the exit code is their number, 125 at most.
"""

from __future__ import annotations

import argparse
import collections
import faulthandler
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.changes import hostile
from tests.fuzz.readers import Reader, readers


def status(field: str) -> int:
    """A memory figure of this process in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) * 1024


def processor_seconds() -> float:
    """Of this process and its ended children: what else the machine does is no finding."""
    return sum(os.times()[:4])


def examined(reader: Reader, path: Path, megabytes: float, longest: float) -> tuple[str, str]:
    """(outcome, what is wrong or "") of one file."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, started = status("VmRSS"), processor_seconds()
    faulthandler.dump_traceback_later(10 * longest, exit=True)
    try:
        reader.read(path)
        outcome, wrong = "read", ""
    except reader.error as error:
        outcome, wrong = "refused", "" if len(str(error)) < 2000 else f"a message of {len(str(error))} characters"
    except Exception as error:
        outcome, wrong = "finding", f"{type(error).__name__}: {error}"[:300]
    finally:
        faulthandler.cancel_dump_traceback_later()
    risen, took = (status("VmHWM") - before) / 1e6, processor_seconds() - started
    if risen > megabytes:
        wrong = f"{risen:.0f} MB of memory"
    if took > longest:
        wrong = f"{took:.1f} seconds"
    return outcome, wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=60, help="stop after so long (default: %(default)s)")
    parser.add_argument("--files", type=int, default=10**9, help="stop after so many files for each reader")
    parser.add_argument("--only", nargs="+", help="names of readers")
    parser.add_argument("--megabytes", type=float, default=250)
    parser.add_argument("--longest", type=float, default=20)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"))
    arguments = parser.parse_args()
    outcomes, findings, started = collections.Counter(), 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        chosen = {name: reader for name, reader in readers(folder).items() if not arguments.only or name in arguments.only}
        for name, reader in chosen.items():  # what is changed must have been good
            (folder / f"whole-{name}").write_bytes(reader.sample)
            reader.read(folder / f"whole-{name}")
        resource.setrlimit(resource.RLIMIT_AS, (status("VmSize") + 8 * 2**30,) * 2)
        for number in range(arguments.files):
            if time.perf_counter() - started > arguments.seconds:
                break
            for name, reader in chosen.items():
                if name.endswith("h5") and number % 20:  # each starts a process
                    continue
                if name == "recipe.safetensors" and number % 5:  # and each of these may build a network
                    continue
                path = folder / f"hostile-{name}"
                path.write_bytes(hostile(name, reader.sample, random.Random(f"{arguments.seed} {number} {name}")))
                outcome, wrong = examined(reader, path, arguments.megabytes, arguments.longest)
                outcomes[name, outcome] += 1
                if wrong:
                    findings += 1
                    arguments.keep.mkdir(parents=True, exist_ok=True)
                    kept = arguments.keep / f"{arguments.seed}-{number}-{name}"
                    kept.write_bytes(path.read_bytes())
                    print(f"{kept}: {wrong}", flush=True)
    for (name, outcome), count in sorted(outcomes.items()):
        print(f"{name}: {count} {outcome}")
    print(f"{sum(outcomes.values())} files in {time.perf_counter() - started:.0f} s, {findings} findings")
    return min(findings, 125)


if __name__ == "__main__":
    sys.exit(main())
