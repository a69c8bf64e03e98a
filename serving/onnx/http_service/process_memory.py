"""The memory of this process: how much it holds, how much a piece of work took at its peak, and giving back what lies idle.

Linux says so in /proc. Elsewhere `resident` gives None, and what depends on it goes by estimates.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from pathlib import Path
from typing import Callable

_STATUS = Path("/proc/self/status")
_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of glibc's mallopt


def resident() -> int | None:
    """Bytes of physical memory that this process holds, None where that cannot be read."""
    return _read("VmRSS")


def peak_above(work: Callable[[], object]) -> int | None:
    """By how many bytes memory rises at most while `work` runs, None where that cannot be read."""
    give_back()
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
    before = resident()
    work()
    peak = _read("VmHWM")
    return None if before is None or peak is None else max(0, peak - before)


def give_back() -> None:
    """Return to the system what was freed and the C library keeps; glibc only, elsewhere it does nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def return_large_blocks() -> None:
    """Make the C library return blocks of a megabyte and more as they are freed, and keep few pools; glibc only.

    Pictures come and go by the megabyte from several threads. glibc keeps up to 32 MB of them in each thread's pool.
    """
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(None)
        library.mallopt(_M_MMAP_THRESHOLD, 1 << 20)
        library.mallopt(_M_ARENA_MAX, 2)


def _read(field: str) -> int | None:
    try:
        text = _STATUS.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else None
