"""numpy archives (`.npz`) with keys `layer/variable` and arrays in the Keras layout."""

import io

import numpy as np

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import Cursor
from tfwsss.weights.zipped import open_zip, read_entry


def _read_array(data: memoryview, name: str) -> np.ndarray:
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise WeightsError(f"{name}: numpy array format {version}, expected (1, 0) or (2, 0)")
    shape, fortran_order, dtype = readers[version](stream)
    if dtype.kind not in "fiu":
        raise WeightsError(f"{name}: array of type {dtype}, expected numbers")
    cursor = Cursor(data, stream.tell())
    array = cursor.array(dtype, shape[::-1] if fortran_order else shape)
    return array.T if fortran_order else array


def read(path, model) -> tuple[dict, tuple]:
    """Arrays of an `.npz` by their keys, and no foreign heads of its own."""
    with open_zip(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]
        return {name.removesuffix(".npy"): _read_array(read_entry(archive, name), name) for name in names}, ()
