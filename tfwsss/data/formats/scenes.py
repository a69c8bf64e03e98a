"""Generated scenes as a data set: written once below the work directory, then read like any folder of photos."""

import csv
import itertools
import re
import shutil
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from tfwsss.config import FolderData, ScenesData
from tfwsss.data.dataset import Dataset, class_positions
from tfwsss.data.formats.folder import read_folder
from tfwsss.data.formats.format import Format
from tfwsss.data.scene_drawing import CLASSES, draw_scene
from tfwsss.errors import DataError
from tfwsss.processes import map_in_processes, usable_cores
from tfwsss.storage.artifacts import save_label
from tfwsss.storage.atomic import atomic_folder, is_temporary, read_json, write_json

GENERATOR_VERSION = 3  # part of the settings: scenes of an older generator are drawn anew
SMALLEST = 32
_OWN_FILE = re.compile(r"scenes\.json|(train|val)\.csv|(masks/)?(train|val)/[0-9]{5,}\.png")
WORTH_PROCESSES = 64  # scenes; starting processes takes as long as drawing this many


def read_scenes(config: ScenesData, split: Literal["train", "val"], work_dir: Path) -> Dataset | None:
    """Read one split of `<work_dir>/scenes`, after drawing it if it is missing or was drawn with other settings.

    The folder holds `train/*.png`, `val/*.png`, `masks/<split>/*.png`, `train.csv`, `val.csv` and `scenes.json` with
    the settings. The same settings give the same scenes. With `config.classes` only these classes are drawn.

    Raises:
        DataError: a class is not one the generator draws, the size is below 32, or the folder is somebody else's.
    """
    folder = Path(work_dir) / "scenes"
    classes = CLASSES if config.classes is None else config.classes
    class_positions(classes)
    if strange := [name for name in classes if name not in CLASSES]:
        raise DataError(f"data.classes: {', '.join(strange)}: generated scenes have {', '.join(CLASSES)}")
    if config.size < SMALLEST:
        raise DataError(f"data.size: {config.size}, expected at least {SMALLEST} pixels")
    settings = {
        "version": GENERATOR_VERSION,
        "seed": config.seed,
        "size": config.size,
        "classes": list(classes),
        "empty_fraction": config.empty_fraction,
        "train_images": config.train_images,
        "val_images": config.val_images,
    }
    if folder.is_symlink():
        raise DataError(f"{folder}: is a link; generated scenes are written and removed there: remove the link or choose another work_dir")
    found = _settings_of(folder)
    if found is None and folder.exists():
        raise DataError(f"{folder}: exists but was not written by the scene generator; move it away")
    if found != settings:
        with atomic_folder(folder, replace=True) as temporary:
            _write(temporary, settings)
            _keep_others(folder, temporary)
    return read_folder(
        FolderData(
            format="folder",
            root=folder,
            train_csv="train.csv",
            val_csv="val.csv",
            mask_folder="masks",
            strong_masks=None if config.strong_masks is None else "masks",
            classes=classes,
            max_megapixels=config.max_megapixels,
            max_bad_fraction=config.max_bad_fraction,
        ),
        split,
    )


def _settings_of(folder: Path) -> dict | None:
    """What the scenes in a folder were drawn with; None where the generator has written nothing."""
    try:
        found = read_json(folder / "scenes.json")
    except (OSError, DataError):
        return None
    return found if isinstance(found, dict) and "version" in found and "train_images" in found else None


def _keep_others(old: Path, new: Path) -> None:
    """Copy what somebody else has put among the scenes, which are about to be removed; a kill meanwhile costs nothing."""
    for path in sorted(old.rglob("*")):
        name = path.relative_to(old)
        others = path.is_symlink() or not path.is_dir()
        if others and not _OWN_FILE.fullmatch(name.as_posix()) and not any(is_temporary(part) for part in name.parts):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, new / name, follow_symlinks=False)


def _write(folder: Path, settings: dict) -> None:
    for number, split in enumerate(("train", "val")):
        (folder / split).mkdir(parents=True)
        count = settings[f"{split}_images"]
        tasks = [(folder, split, number, index, settings) for index in range(count)]
        workers = usable_cores() if count >= WORTH_PROCESSES else 1
        rows = itertools.starmap(_draw, tasks) if workers == 1 else map_in_processes(_draw, tasks, workers)
        with (folder / f"{split}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("image", "tags"), *rows])
    write_json(folder / "scenes.json", settings)


def _draw(folder: Path, split: str, number: int, index: int, settings: dict) -> tuple[str, str]:
    """Write one scene and its mask; its row of the CSV file."""
    # A stream of its own for each scene: more scenes do not change the first ones.
    rng = np.random.default_rng([settings["seed"], number, index])
    # Of another stream, so that the scenes with objects stay as they are.
    empty = np.random.default_rng([settings["seed"], number, index, 1]).random() < settings["empty_fraction"]
    image, label = draw_scene(rng, *_shape(rng, settings["size"]), settings["classes"], empty)
    name = f"{split}/{index:05d}"
    Image.fromarray(image).save(folder / f"{name}.png", compress_level=4)
    save_label(folder / "masks", name, label)
    return f"{name}.png", "|".join(settings["classes"][value - 1] for value in np.unique(label) if value)


def _shape(rng: np.random.Generator, size: int) -> tuple[int, int]:
    short = int(round(size * rng.uniform(0.72, 1.0)))
    return (short, size) if rng.random() < 0.6 else (size, short)


FORMAT = Format("scenes", read_scenes)
