"""The photos that a command is given: files, folders, patterns and lists, and what their results are called."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tfwsss.data.photo_files import photos_below
from tfwsss.errors import DataError


class Photo(NamedTuple):
    """A photo and what its results are called."""

    id: str
    image: Path


def chosen_photos(images: Iterable[Path], lists: Iterable[Path] = ()) -> list[Path]:
    """The photos that a command's arguments mean.

    Args:
        images: photos; folders, for all photos below them; and where there is no such file, patterns with * and ** for folders.
        lists: files with one of these in each line; "-" is the standard input.

    Raises:
        DataError: there is no photo in a folder, none for a pattern, or none at all.
        OSError: a list cannot be read.
    """
    found = [photo for image in images for photo in _meant(image)]
    for path in lists:
        found += [photo for line in _lines(path) for photo in _meant(Path(line))]
    if not found:
        raise DataError("no photos given")
    return found


def _lines(path: Path) -> Iterator[str]:
    if str(path) == "-":
        yield from (line.rstrip("\r\n") for line in sys.stdin if line.strip())
        return
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        yield from (line.rstrip("\r\n") for line in file if line.strip())


def _meant(path: Path) -> Iterator[Path]:
    if path.is_dir():
        photos = list(photos_below(path))
        if not photos:
            raise DataError(f"{path}: no photos in this folder")
        yield from photos
    elif glob.has_magic(str(path)) and not path.exists():
        photos = sorted(Path(name) for name in glob.iglob(str(path), recursive=True))  # noqa: PTH207  (it may be absolute)
        if not photos:
            raise DataError(f"{path}: no such photo, and no photos that this is a pattern of")
        yield from (photo for photo in photos if photo.is_file())
    else:
        yield path


def result_names(images: list[Path]) -> dict[Path, str]:
    """Result name of each photo: its stem; its whole name where two photos share a stem; with as many of its folders as tell it from the others."""
    paths = {image: image.resolve() for image in images}
    first = {path: image for image, path in reversed(paths.items())}  # a photo that is given twice has one result
    kept = [image for image in paths if first[paths[image]] == image]
    level = dict.fromkeys(kept, 0)  # 0: stem, 1: name, 2: its folder and name, ...

    def name(image: Path) -> str:
        return "/".join(paths[image].parts[1:][-level[image] :]) if level[image] else image.stem

    while True:
        groups: dict[str, list[Path]] = {}
        for image in kept:
            groups.setdefault(name(image).casefold(), []).append(image)
        # The letters' case tells two names apart only where it is all that tells the photos apart.
        same = [group for group in groups.values() if len({name(image) for image in group}) < len(group) or len({str(paths[image]).casefold() for image in group}) > 1]
        shared = [image for group in same for image in group if level[image] + 1 < len(paths[image].parts)]
        if not shared:
            return {image: name(image) for image in kept}
        for image in shared:
            level[image] += 1


def refuse_overwriting(names: dict[Path, str], output: Path, suffixes: tuple[str, ...], model: Path) -> None:
    """
    Raises:
        DataError: a result would replace a photo or the model.
    """
    inputs = {path.resolve() for path in (*names, model)}
    for image, name in names.items():
        for suffix in suffixes:
            target = output / f"{name}{suffix}"
            if target.resolve() in inputs:
                raise DataError(f"{target}: the result of {image} would replace a photo or the model; choose another --output")
