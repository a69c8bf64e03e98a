"""Segments photo files with an exported ONNX model, as a downstream program would."""

import errno
import threading
from pathlib import Path

import numpy as np

from tfwsss.errors import DataError, ExportError
from tfwsss.storage.artifacts import save_label
from tfwsss.storage.atomic import atomic_path

from ..engine.progress import console, progress_bar


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


def _refuse_overwriting(names: dict[Path, str], output: Path, suffixes: tuple[str, ...], model: Path) -> None:
    inputs = {path.resolve() for path in (*names, model)}
    for image, name in names.items():
        for suffix in suffixes:
            target = output / f"{name}{suffix}"
            if target.resolve() in inputs:
                raise DataError(f"{target}: the result of {image} would replace a photo or the model; choose another --output")


def _segment(segmenter, photo: np.ndarray, model: Path, time_limit_s: float) -> np.ndarray:
    """The mask of one photo; a file may hold any program, also one that never ends."""
    from tfwsss_onnx import Cancellation, Cancelled

    cancellation = Cancellation()
    timer = threading.Timer(time_limit_s, cancellation.cancel)
    timer.daemon = True
    timer.start()
    try:
        mask = segmenter(photo, cancellation)
    except Cancelled:
        raise ExportError(f"{model}: more than {time_limit_s:g} s for a photo of {photo.shape[1]}x{photo.shape[0]} pixels (--time-limit-s)") from None
    finally:
        timer.cancel()
    if not isinstance(mask, np.ndarray) or mask.dtype != np.uint8 or mask.shape != photo.shape[:2]:
        found = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else type(mask).__name__
        raise ExportError(f"{model}: gives {found} for a photo of {list(photo.shape[:2])}, expected uint8 of the same size; was it exported by tfwsss?")
    return mask


def predict_files(images: list[Path], model: Path, output: Path, *, overlay: bool = False, device: str = "auto", max_megapixels: float = 50.0, time_limit_s: float = 600.0) -> int:
    """Write <output>/<name>.png (indexed labels, VOC palette) for each photo, and <name>.overlay.jpg if wanted.

    A photo that cannot be read, is larger than `max_megapixels`, or has a name to which ours add too much, is reported and left out.

    Returns:
        The number of photos left out.

    Raises:
        ExportError: the model cannot be loaded, or not on this device; it takes longer than `time_limit_s` for a photo, or gives
            something else than a label for each pixel.
        DataError: a result would replace a photo or the model.
        OSError: nothing can be written to `output`.
    """
    from tfwsss.data.image import read_image
    from tfwsss_onnx import Segmenter, SegmenterError

    names = result_names(images)
    _refuse_overwriting(names, output, (".png", ".overlay.jpg") if overlay else (".png",), model)
    output.mkdir(parents=True, exist_ok=True)
    try:
        segmenter = Segmenter(model, device=device)
    except SegmenterError as error:
        raise ExportError(str(error)) from None
    failed = 0
    with progress_bar("predict", len(names)) as bar:
        for image, name in names.items():
            try:
                photo = read_image(image, max_megapixels)
                mask = _segment(segmenter, photo, model, time_limit_s)
                save_label(output, name, mask)
                if overlay:
                    with atomic_path(output / f"{name}.overlay.jpg") as path:
                        segmenter.overlay(photo, mask).save(path, quality=90)
            except (DataError, SegmenterError) as error:
                console.print(f"left out: {error}", markup=False, soft_wrap=True)
                failed += 1
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                console.print(f"left out: {image}: results called after it would have a longer name than the file system takes", markup=False, soft_wrap=True)
                failed += 1
            bar.advance()
    console.print(f"{len(names) - failed} label maps in {output}", markup=False)
    return failed
