"""How functions of this package are compiled.

numba keeps what it has compiled in a file beside the source, and looks only at that source to see whether it is still
valid: a compiled function therefore calls compiled functions of its own file only.
"""

import numba


def compiled(function, **more):
    """numba's compiler for this package: at the first call, without the global lock, kept for later processes."""
    options = {"nogil": True, "error_model": "numpy", **more}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither the package's folder nor a cache folder of the user can be written
        return numba.njit(**options)(function)
