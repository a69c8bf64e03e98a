"""Parquet files of Hugging Face datasets: a column of photos (bytes and path), a column of tags or of their numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from tfwsss.config import ParquetData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found
from tfwsss.data.formats.tfrecord import pattern_of
from tfwsss.data.unpacking import LARGEST, Packed, read_packed
from tfwsss.errors import DataError

ROWS = 16  # read at once
MOST_GROUP = 4 << 30  # bytes of one row group
TAG_COLUMNS = ("tags", "labels", "label", "classes", "class", "categories", "category")


def read_parquet(config: ParquetData, split: Literal["train", "val"], work_dir: Path) -> Dataset | None:
    """Read one split; see `tfwsss.data.unpacking.read_packed`.

    Photos are a column of bytes, or of structs with `bytes` and `path` as the library `datasets` writes them. Tags are a column
    of texts, of numbers, or of lists of them; names of numbers are those that `datasets` has left in the file, or
    `data.label_names`.

    Raises:
        DataError: a file is missing, damaged or not of this form, or lacks a column.
    """
    return read_packed(config, split, work_dir, _read)


def _read(config: ParquetData, files: list[Path]) -> tuple[tuple[str, ...] | None, Iterator[Packed]]:
    names = config.label_names or _label_names(_schema(files[0]), config.tags_field)
    return names, (photo for file in files for photo in _photos(config, file, names))


def _schema(path: Path):
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return read_schema(path)
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None


def _label_names(schema, column: str) -> tuple[str, ...] | None:
    """Names of a ClassLabel, from what `datasets` keeps in the schema."""
    try:
        feature: Any = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][column]
    except (KeyError, ValueError, TypeError, RecursionError):
        return None
    while feature:
        if isinstance(feature, list):
            feature = feature[0]
        elif not isinstance(feature, dict):
            return None
        elif isinstance(feature.get("names"), list):
            return tuple(map(str, feature["names"]))
        else:
            feature = feature.get("feature")
    return None


def _photos(config: ParquetData, path: Path, names: tuple[str, ...] | None) -> Iterator[Packed]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    columns = [config.image_field, config.tags_field, *([] if config.id_field is None else [config.id_field])]
    try:
        with ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
            if absent := [name for name in columns if name not in file.schema_arrow.names]:
                raise DataError(f"{path}: no column {absent[0]!r}, found {', '.join(file.schema_arrow.names)}")
            for group in range(file.num_row_groups):
                if (size := file.metadata.row_group(group).total_byte_size) > MOST_GROUP:
                    raise DataError(f"{path}: a row group of {size >> 20} MB, the limit is {MOST_GROUP >> 20} MB; write it anew with smaller ones")
            number = 0
            for batch in file.iter_batches(ROWS, columns=columns):
                for row in batch.to_pylist():
                    yield _photo(config, row, names, f"{path}, row {number}")
                    number += 1
    except (ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None


def _photo(config: ParquetData, row: dict[str, Any], names: tuple[str, ...] | None, place: str) -> Packed:
    image: Any = row[config.image_field]
    name = ""
    if isinstance(image, dict):
        name, image = str(image.get("path") or ""), image.get("bytes")
    if not isinstance(image, bytes):
        raise DataError(f"{place}: {config.image_field!r} (data.image_field) holds no photo's bytes")
    if len(image) > LARGEST:
        raise DataError(f"{place}: a photo of {len(image) >> 20} MB, the limit is {LARGEST >> 20} MB")
    if config.id_field is not None:
        name = str(row[config.id_field])
    tags = row[config.tags_field]
    tags = tags if isinstance(tags, list) else [] if tags is None else [tags]
    return Packed(image, tuple(sorted({_tag(tag, names, config.tags_field, place) for tag in tags} - {""})), name, place)


def _tag(value: Any, names: tuple[str, ...] | None, column: str, place: str) -> str:
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, int):
        if names is None:
            return str(value)
        if 0 <= value < len(names):
            return names[value]
        raise DataError(f"{place}: label {value}, expected 0..{len(names) - 1}")
    raise DataError(f"{place}: {column!r} (data.tags_field) holds {type(value).__name__}, expected texts or numbers, or lists of them")


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    if path.is_file():
        files = [path] if path.suffix.lower() == ".parquet" else []
    else:
        files = sorted(file for place in (path, path / "data") for file in place.glob("*.parquet"))
    if not files:
        return []
    by_split = {name: [file for file in files if file.name.casefold().startswith(name)] for name in ("train", "val")}
    train = by_split["train"] or files
    schema = _schema(train[0])
    image = next((name for name in ("image", "img", "photo", "picture") if name in schema.names), None)
    tags = next((name for name in TAG_COLUMNS if name in schema.names), None)
    if image is None or tags is None:
        raise DataError(f"{train[0]}: Parquet with the columns {', '.join(schema.names)}: which is the {'photo' if image is None else 'tag'}? Write data.image_field and data.tags_field by hand")
    root = path if path.is_dir() else path.parent
    folder = train[0].parent.relative_to(root)
    data: dict[str, object] = {"format": "parquet", "root": root, "train_files": (folder / pattern_of(train)).as_posix()}
    if by_split["train"] and by_split["val"]:
        data["val_files"] = (folder / pattern_of(by_split["val"])).as_posix()
    data |= {"image_field": image, "tags_field": tags}
    names = _label_names(schema, tags)
    says = f"Parquet, {len(train)} files; photos in {image!r}, tags in {tags!r}" + (f", which are called {', '.join(names[:8])}" if names else "")
    return [Found(data, (says,), frozenset(files))]


FORMAT = Format("parquet", read_parquet, _recognise)
