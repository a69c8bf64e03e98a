"""What kind of table a file is: encoding, delimiter, header, layout, columns, separator of tags, and where its photos are."""

from __future__ import annotations

import csv
import io
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from tfwsss.data.names import normal
from tfwsss.data.photo_files import SUFFIXES, is_photo
from tfwsss.data.table_file import Dialect, Table, read_table
from tfwsss.data.tag_spelling import joined
from tfwsss.data.tag_table import FALSE, GROUP, LIST, OPEN, TRUE
from tfwsss.errors import DataError

BEGINNING = 1 << 18  # bytes that are looked at
ROWS = 2000  # rows that are looked at
TABLES = frozenset({".csv", ".tsv", ".jsonl", ".ndjson"})
IMAGE_COLUMNS = ("image", "file_name", "filename", "image_id", "imageid", "image_path", "imagepath", "image_name", "path", "filepath", "file_path", "file", "img", "photo", "id", "name")
TAG_COLUMNS = ("tags", "tag", "labels", "label", "labelname", "classes", "class", "categories", "category", "label_name")
CONFIDENCE_COLUMNS = ("confidence",)
MASK_LIST = ("pixel value", "class")  # header of the _classes.csv beside Roboflow's masks
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class TableFound:
    """A table, or the tables of both splits: fields of `data`, what was seen, and the files."""

    fields: dict[str, Any]
    says: tuple[str, ...]
    files: frozenset[Path]


@dataclass(frozen=True)
class _Kind:
    """What one table is."""

    path: Path
    fields: dict[str, Any]
    images: tuple[str, ...]
    says: tuple[str, ...]


def recognise_tables(path: Path, photos: Path | None = None) -> list[TableFound]:
    """Tables of photos and tags: the file itself, or those in a folder and in its folders called like splits.

    Args:
        path: a file or folder.
        photos: folder of the photos; None: it is looked for near the table.

    Raises:
        DataError: a table of tags was found and no photo that it names, or it is a list of mask values.
    """
    files = _files(path)
    kinds, lists, descriptions = [], [], None
    for file in files:
        if is_mask_list(file):
            lists.append(file)
        elif _is_descriptions(file):
            descriptions = file
        elif (kind := _kind(file)) is not None:
            kinds.append(kind)
    if not kinds and lists:
        raise DataError(f"{lists[0]}: its header is `Pixel Value, Class`: a list of mask values, no table of tags; its photos have masks (*_mask.png) and no tags")
    by_split: dict[str, _Kind] = {}
    for kind in kinds:
        by_split.setdefault(_split(kind.path), kind)
    if len(kinds) == len(by_split) and {"train"} <= by_split.keys() <= {"train", "val", "test"}:
        return [_found(path, photos, by_split["train"], by_split.get("val"), descriptions)]
    return [_found(path, photos, kind, None, descriptions) for kind in kinds]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.suffix.lower() in TABLES else []
    places = [path, *sorted(folder for folder in path.iterdir() if folder.is_dir() and folder.name.casefold() in SPLITS)]
    return [file for place in places for file in sorted(place.iterdir()) if file.is_file() and file.suffix.lower() in TABLES]


def _split(path: Path) -> str:
    """The split that a table is called after; the file's own name counts most."""
    words = path.stem.casefold().replace("-", "_").split("_")
    return next((SPLITS[word] for word in (*words, path.parent.name.casefold()) if word in SPLITS), "")


def is_mask_list(path: Path) -> bool:
    """Whether a table is that of Roboflow's masks, `Pixel Value, Class`, and not of tags."""
    return tuple(name.strip().casefold() for name in _beginning(path)[0].split("\n")[0].split(",")) == MASK_LIST


def _is_descriptions(path: Path) -> bool:
    """Whether a table is of codes and names, as the class descriptions of Open Images are."""
    first = _beginning(path)[0].split("\n")[0]
    return first.startswith("/m/") and first.count(",") == 1


def _beginning(path: Path) -> tuple[str, str]:
    """(text at the beginning, encoding)"""
    with path.open("rb") as file:
        data = file.read(BEGINNING)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data[: len(data) // 2 * 2].decode("utf-16", "replace"), "utf-16"
    cut = data if len(data) < BEGINNING else data[: data.rfind(b"\n") + 1]
    try:
        return cut.decode("utf-8-sig"), "utf-8"
    except UnicodeDecodeError:
        return cut.decode("cp1252", "replace"), "cp1252"


def _dialect(path: Path) -> Dialect | None:
    """How a CSV is written; None where it has a single column, or is none."""
    text, encoding = _beginning(path)
    lines = text.splitlines()[:100]
    best, most = None, 1
    for delimiter in (",", ";", "\t", "|"):
        try:
            widths = [len(fields) for fields in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter, skipinitialspace=True) if fields]
        except csv.Error:
            continue
        if widths and len(set(widths)) == 1 and widths[0] > most:
            best, most = delimiter, widths[0]
    if best is None:
        return None
    first = next(csv.reader([lines[0]], delimiter=best, skipinitialspace=True))
    return Dialect(best, encoding, header=not any(is_photo(cell.strip()) for cell in first))


def _kind(path: Path) -> _Kind | None:
    """What a table is; None where it is not one of photos and tags."""
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    dialect = Dialect() if is_json else _dialect(path)
    if dialect is None:
        return None
    try:
        table = read_table(path, dialect, most=ROWS)
    except DataError:
        return None
    if not table.records:
        return None
    image = _image_column(table)
    if image is None:
        return None
    fields: dict[str, Any] = {"image_column": image}
    says = [f"table {path.name}: columns {', '.join(table.columns[:8])}{', ...' if len(table.columns) > 8 else ''}; photos in {image!r}"]
    if not is_json:
        fields |= {"delimiter": dialect.delimiter, "encoding": dialect.encoding, "header": dialect.header}
        says.append(f"  delimiter {dialect.delimiter!r}, encoding {dialect.encoding}, {'a header' if dialect.header else 'no header: columns are numbered'}")
    layout = _layout(table, image)
    if layout is None:
        return None
    found, more = layout
    images = tuple(str(record.cells.get(image) or "") for record in table.records)
    return _Kind(path, fields | found, images, (*says, *more))


def _image_column(table: Table) -> str | None:
    names = {name.casefold(): name for name in reversed(table.columns)}
    like = [name for name in table.columns if _share(table, name, lambda cell: is_photo(PurePosixPath(cell.replace("\\", "/")).name)) > 0.5]
    known = [names[name] for name in IMAGE_COLUMNS if name in names]
    return next((name for name in known if name in like), like[0] if like else known[0] if known else None)


def _share(table: Table, column: str, test) -> float:
    cells = [str(record.cells[column]).strip() for record in table.records if record.cells.get(column) not in (None, "")]
    return sum(map(test, cells)) / len(cells) if cells else 0.0


def _layout(table: Table, image: str) -> tuple[dict[str, Any], list[str]] | None:
    """(fields, what to say) of a table of photos."""
    names = {name.casefold(): name for name in reversed(table.columns) if name != image}
    tags = next((names[name] for name in TAG_COLUMNS if name in names), None)
    binary = [name for name in table.columns if name not in (image, GROUP) and _share(table, name, lambda cell: cell.casefold() in TRUE | FALSE | OPEN) == 1]
    if tags is not None and tags in binary and len(binary) > 1:
        tags = None  # one of many columns of 0 and 1
    if tags is None and not table.columns[0].isdigit():
        if not binary:
            return None
        return _one_hot(table, image, binary)
    if tags is None:  # without a header: the one column that is not of photos
        rest = [name for name in table.columns if name != image]
        if len(rest) != 1:
            return None
        tags = rest[0]
    images = Counter(str(record.cells.get(image)) for record in table.records)
    confidence = next((names[name] for name in CONFIDENCE_COLUMNS if name in names), None)
    if confidence is not None or max(images.values()) > 1:
        fields = {"layout": "long", "tags_column": tags, "confidence_column": confidence}
        says = [f"  a row for each tag, in {tags!r}" + (f"; {confidence!r} says 1 present, 0 absent, between them unknown" if confidence else "")]
        if confidence is not None:
            fields["unlisted"] = "unknown"
            says.append("  classes that no row mentions are unknown (data.unlisted), as in Open Images")
        return fields, says
    separator, says = _separator(table, tags)
    return {"layout": "tags", "tags_column": tags, "separator": separator}, says


def _one_hot(table: Table, image: str, binary: list[str]) -> tuple[dict[str, Any], list[str]]:
    fields: dict[str, Any] = {"layout": "one_hot"}
    says = [f"  a column for each class: {', '.join(binary[:10])}{', ...' if len(binary) > 10 else ''}"]
    if others := [name for name in table.columns if name not in (image, GROUP, *binary)]:
        fields["classes"] = binary
        says.append(f"  columns of something else are passed over: {', '.join(others)}")
    if any(record.cells.get(name, "") in ("", None) for record in table.records for name in binary):
        says.append("  empty cells say nothing: data.unlisted says whether such a class is absent or unknown")
    return fields, says


def _separator(table: Table, tags: str) -> tuple[str | None, list[str]]:
    cells = [record.cells.get(tags) for record in table.records]
    if any(isinstance(cell, list) for cell in cells):
        return "|", [f"  tags in {tags!r}, lists"]
    texts = [str(cell).strip() for cell in cells if cell not in (None, "")]
    if texts and all(text.startswith("[") and text.endswith("]") for text in texts):
        return LIST, [f"  tags in {tags!r}, lists as JSON or Python write them"]
    if any("|" in text for text in texts):
        return "|", [f"  tags in {tags!r}, '|' between them"]
    for separator, several in joined(map(normal, texts)).items():
        return separator, [f"  tags in {tags!r}, {separator!r} between them: without it {len(several)} combinations such as {several[0]!r} would be classes of their own"]
    return "|", [f"  tags in {tags!r}, one a photo"]


def _found(start: Path, photos: Path | None, train: _Kind, val: _Kind | None, descriptions: Path | None) -> TableFound:
    places = [start if start.is_dir() else start.parent, train.path.parent]
    near = [folder for place in places for folder in (place, *sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith(".")))]
    place, suffix = _where(train, [*near, train.path.parent.parent] if photos is None else [photos])
    fields, says = dict(train.fields), [*train.says]
    root = place
    if place == train.path.parent and train.path.parent != places[0] and val is not None:
        root, fields["relative_to"] = places[0], "table"
    fields = {"root": root, "train_csv": _relative(train.path, root), **({} if val is None else {"val_csv": _relative(val.path, root)}), **fields}
    if suffix:
        fields["suffix"] = suffix
    if val is not None:
        says.append(f"  evaluation photos: {val.path.name if val.path.parent == train.path.parent else val.path}")
    files = {train.path, *([val.path] if val is not None else [])}
    if descriptions is not None and fields.get("layout") == "long":
        fields["class_names"] = _relative(descriptions, root)
        files.add(descriptions)
        says.append(f"  names of the classes' codes: {descriptions.name}")
    says.append(f"  photos below {root}" + (f", {suffix} added to their names" if suffix else ""))
    return TableFound(fields, tuple(says), frozenset(files))


def _relative(path: Path, root: Path) -> str:
    try:
        return path.relative_to(root).as_posix()
    except ValueError:
        return str(path.absolute())


def _where(kind: _Kind, places: list[Path]) -> tuple[Path, str]:
    """(folder that the paths of a table are relative to, suffix that they lack)"""
    images = [image for image in kind.images[:200] if image]
    best, most = None, 0
    for place in dict.fromkeys(places):
        for suffix in ("", *sorted(SUFFIXES)):
            count = sum(1 for image in images if (place / f"{image}{suffix}".replace("\\", "/")).is_file())
            if count > most:
                best, most = (place, suffix), count
    if best is None or most * 2 < len(images):
        raise DataError(f"{kind.path}: a table of tags, but of the photos that it names, such as {(images or ['none'])[0]!r}, {most} of {len(images)} are in the folders near it; name theirs with --photos")
    return best
