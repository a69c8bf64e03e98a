"""TFRecord files of tf.train.Example, read without TensorFlow: https://www.tensorflow.org/tutorials/load_data/tfrecord."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tfwsss.config import TfRecordData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found
from tfwsss.data.unpacking import LARGEST, Packed, read_packed
from tfwsss.errors import DataError

Values = list[bytes] | list[int] | list[float]
IMAGE_FIELDS = ("image/encoded", "image", "image_raw", "image_bytes")
TAG_FIELDS = ("image/class/text", "image/object/class/text", "label/text", "image/class/label", "image/object/class/label", "label", "labels", "class")
NAME_FIELDS = ("image/filename", "image/source_id", "filename")
MOST_FIELDS = 10_000  # of one example


def read_tfrecord(config: TfRecordData, split: Literal["train", "val"], work_dir: Path) -> Dataset | None:
    """Read one split; see `tfwsss.data.unpacking.read_packed`.

    Raises:
        DataError: a file is missing, damaged or not of this form; an example lacks a field.
    """
    return read_packed(config, split, work_dir, _read)


def _read(config: TfRecordData, files: list[Path]) -> tuple[tuple[str, ...] | None, Iterator[Packed]]:
    return config.label_names, (photo for file in files for photo in _photos(config, file))


def _photos(config: TfRecordData, path: Path) -> Iterator[Packed]:
    for number, record in enumerate(records(path)):
        place = f"{path}, example {number}"
        fields = example(record, place)
        image = fields.get(config.image_field)
        if image is None or len(image) != 1 or not isinstance(image[0], bytes):
            raise DataError(f"{place}: {config.image_field!r} (data.image_field) is no photo; fields are {', '.join(sorted(fields)) or 'none'}")
        name = ""
        if config.id_field is not None:
            names = fields.get(config.id_field, [])
            if len(names) != 1:
                raise DataError(f"{place}: {config.id_field!r} (data.id_field): {len(names)} values, expected one")
            name = _text(names[0], place)
        tags = [_tag(value, config.label_names, place) for value in fields.get(config.tags_field, [])]
        yield Packed(image[0], tuple(sorted({tag for tag in tags if tag})), name, place)


def _text(value: Any, place: str) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise DataError(f"{place}: a text that is not UTF-8") from None


def _tag(value: Any, names: tuple[str, ...] | None, place: str) -> str:
    if isinstance(value, int) and names is not None:
        if not 0 <= value < len(names):
            raise DataError(f"{place}: label {value}, expected 0..{len(names) - 1} (data.label_names)")
        return names[value]
    return _text(value, place)


# ---------------------------------------------------------------------------------------------- the file format


def records(path: Path) -> Iterator[bytes]:
    """Records of a TFRecord file, plain or gzip: length (8 bytes), checksum of it (4), content, checksum (4). Checksums are not checked.

    Raises:
        DataError: the file cannot be read, ends inside a record, or announces one of more than 256 MB.
    """
    try:
        with path.open("rb") as raw:
            packed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            with gzip.open(raw) if packed else raw as file:
                number = 0
                while header := file.read(12):
                    length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else LARGEST + 1
                    if length > LARGEST:
                        raise DataError(f"{path}, example {number}: damaged, or not a TFRecord file")
                    content = file.read(length)
                    if len(content) < length or len(file.read(4)) < 4:
                        raise DataError(f"{path}, example {number}: the file ends inside it")
                    yield content
                    number += 1
    except DataError:
        raise
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def example(record: bytes, place: str) -> dict[str, Values]:
    """Features of a serialised tf.train.Example.

    Raises:
        DataError: it is none.
    """
    found: dict[str, Values] = {}
    try:
        for number, features in _fields(record):
            if number != 1:
                continue
            for kind, entry in _fields(features):
                if kind != 1:
                    continue
                parts = dict(_fields(entry))
                found[parts[1].decode()] = _values(parts.get(2, b""))
                if len(found) > MOST_FIELDS:
                    raise ValueError("too many features")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise DataError(f"{place}: not a tf.train.Example: {error}") from None
    return found


def _values(feature: bytes) -> Values:
    for kind, content in _fields(feature):
        if kind == 1:  # BytesList
            return [value for number, value in _fields(content) if number == 1]
        if kind == 2:  # FloatList
            floats: list[float] = []
            for number, value in _fields(content):
                if number == 1:
                    floats += struct.unpack(f"<{len(value) // 4}f", value)
            return floats
        if kind == 3:  # Int64List, packed or not
            integers: list[int] = []
            for number, value in _fields(content):
                if number == 1:
                    integers += [value] if isinstance(value, int) else _varints(value)
            return [value - 2**64 if value >= 2**63 else value for value in integers]
    return []


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """(number, content) of the fields of a serialised message: bytes, or the number of a varint."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield number, value
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if length > len(message) - place:
            raise ValueError("a field that ends behind the message")
        yield number, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _varints(packed: bytes) -> list[int]:
    values, place = [], 0
    while place < len(packed):
        value, place = _varint(packed, place)
        values.append(value)
    return values


# -------------------------------------------------------------------------------------------------- recognition


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    files = [path] if path.is_file() else sorted(file for file in path.iterdir() if file.is_file())
    files = [file for file in files if ".tfrecord" in file.name.casefold()]
    if not files:
        return []
    splits = {name: [file for file in files if file.name.casefold().startswith(name)] for name in ("train", "val")}
    train = splits["train"] or files
    try:
        fields = example(next(records(train[0])), str(train[0]))
    except StopIteration:
        raise DataError(f"{train[0]}: no example in it") from None
    image = next((name for name in IMAGE_FIELDS if name in fields), None)
    tags = next((name for name in TAG_FIELDS if name in fields), None)
    listed = ", ".join(sorted(fields))
    if image is None or tags is None:
        raise DataError(f"{train[0]}: TFRecord with the fields {listed}: which is the {'photo' if image is None else 'tag'}? Write data.image_field and data.tags_field by hand")
    data: dict[str, object] = {"format": "tfrecord", "root": train[0].parent, "train_files": pattern_of(train)}
    if splits["train"] and splits["val"]:
        data["val_files"] = pattern_of(splits["val"])
    data |= {"image_field": image, "tags_field": tags}
    name = next((name for name in NAME_FIELDS if fields.get(name) not in (None, [], [b""])), None)
    if name is not None:
        data["id_field"] = name
    says = [f"TFRecord of tf.train.Example, {len(train)} files; photos in {image!r}, tags in {tags!r}, of the fields {listed}"]
    if all(isinstance(value, int) for value in fields[tags]):
        says.append("tags are numbers: data.label_names gives them names")
    return [Found(data, tuple(says), frozenset(files))]


def pattern_of(files: list[Path]) -> str:
    """A pattern for files of one folder: their common beginning and end, or the name of the only one."""
    names = [file.name for file in files]
    if len(names) == 1:
        return names[0]
    beginning = names[0]
    while not all(name.startswith(beginning) for name in names):
        beginning = beginning[:-1]
    end = names[0][len(beginning) :]
    while not all(name[len(beginning) :].endswith(end) for name in names):
        end = end[1:]
    return f"{beginning}*{end}"


FORMAT = Format("tfrecord", read_tfrecord, _recognise)
