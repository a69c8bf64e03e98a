"""Before anything is computed: who does the work photo by photo must be there when it is needed, hours later."""

from __future__ import annotations

from importlib.util import find_spec

from tfwsss.config import Runtime


def executor_problems(runtime: Runtime) -> list[str]:
    """What keeps `runtime.executor` from working, one line each."""
    if runtime.executor == "local":
        return []
    if find_spec("ray") is None:
        return ["runtime.executor: ray needs Ray, which is not installed: pip install 'tfwsss[ray]'"]
    if (runtime.ray_address or "").startswith("ray://"):
        return ["runtime.ray_address: ray:// is for programs outside a cluster; start the command on one of its machines, with auto"]
    return []
