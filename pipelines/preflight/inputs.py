"""Everything that a run reads and did not make: the paths that the configuration names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfwsss.config import (
    AnnotatedData,
    ClassFoldersData,
    CocoData,
    Config,
    FolderData,
    PackedData,
    ScenesData,
    TaggedData,
    VocData,
)
from tfwsss.data import load_split
from tfwsss.data.dataset import MaskFolder
from tfwsss.data.formats.voc import list_paths
from tfwsss.data.scene_drawing import CLASSES
from tfwsss.data.unpacking import packed_files

TRAININGS = ("classifier", "affinitynet", "segmenter")
DEFAULT_STORE = "mlflow.db"  # in the folder of the call
TABLES = {  # fields that are paths below data.root
    FolderData: ("train_csv", "val_csv", "class_names"),
    ClassFoldersData: ("train_folder", "val_folder"),
    AnnotatedData: ("train_file", "val_file"),
}
NO_FILE = (None, "imagenet", "classifier")  # values of model.weights that name no file


def weight_files(config: Config) -> dict[str, Path]:
    """{dotted name: file} of the start weights of all trainings that begin with a file."""
    wanted = {f"{name}.model.weights": getattr(config, name).model.weights for name in TRAININGS}
    return {name: Path(weights) for name, weights in wanted.items() if weights not in NO_FILE}


def data_paths(config: Config) -> Iterator[tuple[str, Path]]:
    """(dotted name, path) of the lists, tables and folders of the data set; none for generated scenes."""
    data = config.data
    if isinstance(data, CocoData):
        for name in ("train_json", "train_images", "val_json", "val_images", "strong_masks"):
            if getattr(data, name) is not None:
                yield f"data.{name}", getattr(data, name)
        return
    if isinstance(data, ScenesData):
        return
    yield "data.root", data.root
    for name in ("mask_folder", "strong_masks"):
        if getattr(data, name) is not None:
            yield f"data.{name}", data.root / getattr(data, name)
    for kind, names in TABLES.items():
        if isinstance(data, kind):
            yield from ((f"data.{name}", data.root / getattr(data, name)) for name in names if getattr(data, name) is not None)
    if isinstance(data, TaggedData):
        yield from (("data.groups", data.root / name) for name in data.groups)
    if isinstance(data, PackedData):
        for name in ("train_files", "val_files"):
            if getattr(data, name) is not None:
                yield from ((f"data.{name}", path) for path in packed_files(data.root, getattr(data, name)))
    if isinstance(data, VocData):
        for name in ("train_list", "val_list", "train_mask_list"):
            if getattr(data, name) is not None:
                yield from ((f"data.{name}", path) for path in list_paths(data, getattr(data, name)) if path.is_file())
        for folder in ("JPEGImages", "Annotations"):
            yield "data.root", data.root / folder
        if data.tags != "xml":
            yield "data.tags", data.root / data.tags


def number_of_classes(config: Config) -> int:
    """Classes without background.

    Raises:
        DataError: the data set cannot be listed.
    """
    if isinstance(config.data, ScenesData):  # listing them would draw them
        return len(CLASSES)
    train = load_split(config.data, "train", config.work_dir)
    return 0 if train is None else train.num_classes


def photo_folders(config: Config) -> Iterator[tuple[str, Path]]:
    """(name for messages, folder) of all folders in which photos and masks lie: those that the configuration names are above them.

    Raises:
        DataError: the data set cannot be listed.
    """
    if isinstance(config.data, ScenesData | PackedData):  # their photos are written by the run
        return
    folders: dict[Path, str] = {}
    for split in ("train", "val"):
        dataset = load_split(config.data, split, config.work_dir)
        if dataset is None:
            continue
        for sample in dataset.samples:
            folders.setdefault(sample.image.parent, f"photos of {split}")
            for masks in (dataset.masks, dataset.strong_masks):
                if isinstance(masks, MaskFolder):
                    folders.setdefault(masks.path(sample).parent, f"masks of {split}")
    yield from ((name, folder) for folder, name in folders.items())


def tracking_store() -> Path | None:
    """The file or folder in which MLflow keeps runs; None where that is a server's matter. Does not import MLflow."""
    address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{DEFAULT_STORE}"
    scheme, found, path = address.partition("://")
    if not found:
        return None if address in ("databricks", "databricks-uc", "uc") else Path(address)
    return Path(path.removeprefix("/") if scheme == "sqlite" else path) if scheme in ("sqlite", "file") else None


def named_paths(config: Config, files: Iterable[Path]) -> list[tuple[str, Path]]:
    """(name for messages, path) of everything that a configuration names, and that a run reads.

    Args:
        config: of the run.
        files: the configuration's own files.
    """
    found = [("configuration", Path(file)) for file in files]
    if (store := tracking_store()) is not None:
        found.append(("MLflow's store", store))
    return [*found, *weight_files(config).items(), *data_paths(config)]
