"""A folder of photos and a table of tags: any file names, nested folders, the tables of other tools."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tfwsss.config import FolderData
from tfwsss.data.dataset import Dataset
from tfwsss.data.formats.format import Format, Found
from tfwsss.data.rows import Annotations
from tfwsss.data.table_detection import recognise_tables
from tfwsss.data.table_file import Dialect, read_table
from tfwsss.data.tag_table import read_class_names, rows_of_long, rows_of_one_hot, rows_of_tags
from tfwsss.data.tagged import require_folder, tagged_dataset


def read_folder(config: FolderData, split: Literal["train", "val"]) -> Dataset | None:
    """Read one split; see `tfwsss.data.tagged.tagged_dataset`.

    Raises:
        DataError: a table is missing or malformed (see `tfwsss.data.tag_table`), or nothing is left in a split.
    """
    require_folder(config.root)
    return tagged_dataset(config, split, lambda name: _read(config, name), config.train_csv, config.val_csv)


def _read(config: FolderData, name: str) -> Annotations:
    path = config.root / name
    table = read_table(path, Dialect(config.delimiter, config.encoding, config.header), expected=f"{config.image_column},{config.tags_column}")
    if config.layout == "tags":
        rows = rows_of_tags(table, config.image_column, config.tags_column, config.separator, config.suffix)
    elif config.layout == "one_hot":
        rows = rows_of_one_hot(table, config.image_column, config.classes and (*config.classes, *config.none), config.suffix)
    else:
        names = {} if config.class_names is None else read_class_names(config.root / config.class_names)
        rows = rows_of_long(table, config.image_column, config.tags_column, config.confidence_column, names, config.suffix)
    if config.relative_to == "table" and (folder := Path(name).parent) != Path():
        rows = [row.moved(folder) for row in rows]
    classes = None
    if config.layout == "one_hot" and config.classes is None:  # in the order of the columns
        classes = tuple(column for column in table.columns if column not in (config.image_column, "group"))
    return Annotations(path, tuple(rows), classes)


def _recognise(path: Path, photos: Path | None) -> list[Found]:
    return [Found({"format": "folder", **table.fields}, table.says, table.files) for table in recognise_tables(path, photos)]


FORMAT = Format("folder", lambda config, split, work_dir: read_folder(config, split), _recognise)
