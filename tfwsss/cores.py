"""How many processor cores this process may use."""

import os


def usable_cores() -> int:
    """Fewer than `os.cpu_count()` in a container or under taskset."""
    if hasattr(os, "sched_getaffinity"):  # macOS has no affinity
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
