"""Photos below a folder: which files are some by their names, and which of them an annotation means."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from tfwsss.data.names import normal
from tfwsss.errors import DataError

SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
NOT_OURS = frozenset({"__MACOSX", "__pycache__", "lost+found"})


def is_photo(name: str) -> bool:
    """Whether a file of this name is taken as a photo; what is in it decides later."""
    return not name.startswith(".") and PurePosixPath(name).suffix.lower() in SUFFIXES


def photos_below(folder: Path) -> Iterator[Path]:
    """Photos in a folder and those below it, in the order of their names; links to folders are not followed."""
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NOT_OURS)
        yield from (Path(place) / name for name in sorted(files) if is_photo(name))


class PhotoIndex:
    """Finds the photo that an annotation means: the path as it stands there, or the longest end of it that is one.

    Args:
        root: the data set's folder.
    """

    def __init__(self, root: Path):
        self.root = root
        self._names = _names_below(root)

    def find(self, text: str, where: str, names: tuple[str, ...] = ()) -> Path:
        """Path of the photo relative to the root; the path as it is given where there is no such file.

        Args:
            text: a path with either kind of separator, or an address.
            where: for the message.
            names: other file names that it may have.

        Raises:
            DataError: several photos have that name.
        """
        given = PurePosixPath(normal(text.replace("\\", "/")).lstrip("/"))
        parts = [part for part in given.parts if part not in ("..", ".", "/")]
        for name in (given.name, *names):
            found = self._names.get(name, ())
            # The end of the path that most of the folders agree with: photos of one name in several folders are told apart by it.
            best = max((_agreement(path.parts, (*parts[:-1], name)) for path in found), default=0)
            fitting = [path for path in found if _agreement(path.parts, (*parts[:-1], name)) == best]
            if len(fitting) > 1:
                raise DataError(f"{where}: {text!r} may be {fitting[0].as_posix()} or {fitting[1].as_posix()}")
            if fitting:
                return Path(fitting[0])
        if not parts:
            raise DataError(f"{where}: {text!r} is not the path of a file")
        return Path(*parts)


    def find_stem(self, text: str) -> Path | None:
        """Path of the photo relative to the root that is called so, but for the suffix; None where there is none."""
        given = PurePosixPath(normal(text))
        for suffix in sorted(SUFFIXES):
            for name in (f"{given.name}{suffix}", f"{given.name}{suffix.upper()}"):
                for path in self._names.get(name, ()):
                    if PurePosixPath(normal(path.parent.as_posix())) == given.parent:
                        return Path(path)
        return None


def _agreement(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Number of equal parts at the ends of two paths."""
    count = 0
    for left, right in zip(reversed(one), reversed(other), strict=False):
        if normal(left) != right:
            break
        count += 1
    return count


def _names_below(root: Path) -> dict[str, tuple[PurePosixPath, ...]]:
    found: dict[str, list[PurePosixPath]] = {}
    for path in photos_below(root):
        found.setdefault(normal(path.name), []).append(PurePosixPath(path.relative_to(root).as_posix()))
    return {name: tuple(paths) for name, paths in found.items()}
