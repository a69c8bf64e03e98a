"""Files that are either whole or absent: written to a temporary name beside the target, then renamed."""

import contextlib
import json
import os
import shutil
import uuid
from pathlib import Path


def _temporary(path: Path) -> Path:
    # The suffix is kept last because writers such as Pillow and Keras choose the format by it.
    return path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")


@contextlib.contextmanager
def atomic_path(path):
    """Yield a temporary path in the target's folder; rename it to `path` when the block ends without error.

    The folder is created. On error the temporary file or folder is removed and `path` is left as it was.
    An existing folder at `path` is replaced.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        yield temporary
        if temporary.is_file():
            with temporary.open("rb") as file:  # on disk before it gets its name, or a power cut leaves an empty file
                os.fsync(file.fileno())
        elif path.is_dir():
            shutil.rmtree(path)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        else:
            temporary.unlink(missing_ok=True)


def write_text(path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path, value) -> None:
    """Write a JSON file atomically (two-space indent, keys in the given order)."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path):
    """Read a JSON file; None when it does not exist."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def remove_leftovers(folder) -> None:
    """Remove temporary files that a killed process left below `folder`."""
    for path in Path(folder).rglob(".*.tmp*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
