"""Zip archives with a limit: PyTorch's newer format and numpy's `.npz` both are one."""

import zipfile

from tfwsss.errors import WeightsError
from tfwsss.weights.limits import MAX_ARRAYS, expanded_limit

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # the others take as much memory as the file demands


def open_zip(path) -> zipfile.ZipFile:
    """Open an archive whose entries' declared sizes are plausible together.

    Raises:
        WeightsError: not a zip archive, too many entries, a rare compression, or they would expand beyond all proportion.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise WeightsError(f"damaged zip archive: {error}") from error
    entries = archive.infolist()
    total = sum(entry.file_size for entry in entries)
    if any(entry.compress_type not in _METHODS for entry in entries):
        archive.close()
        raise WeightsError("zip archive with another compression than deflate; refused")
    if len(entries) > MAX_ARRAYS or total > expanded_limit(path):
        archive.close()
        raise WeightsError(f"zip archive of {len(entries)} entries and {total} bytes declared: implausible, refused")
    return archive


def read_entry(archive: zipfile.ZipFile, name: str) -> memoryview:
    """The bytes of one entry; never more than declared.

    Raises:
        WeightsError: there is no such entry.
    """
    try:
        return memoryview(archive.read(name))
    except KeyError:
        raise WeightsError(f"zip archive without the entry {name!r}") from None
