"""Segments photo files with an exported ONNX model, as a downstream program would."""

from pathlib import Path

from tfwsss.errors import ExportError, TfwsssError
from tfwsss.storage.artifacts import save_label
from tfwsss.storage.atomic import atomic_path

from ..engine.progress import console, progress_bar


def _names(images: list[Path]) -> dict[Path, str]:
    """Result name of each photo: its stem, or its whole name where two photos share a stem."""
    stems = [image.stem for image in images]
    return {image: image.stem if stems.count(image.stem) == 1 else image.name for image in images}


def predict_files(images: list[Path], model: Path, output: Path, *, overlay: bool = False, device: str = "auto") -> int:
    """Write <output>/<name>.png (indexed labels, VOC palette) for each photo, and <name>.overlay.jpg if wanted.

    A photo that cannot be read is reported and left out.

    Returns:
        The number of photos left out.

    Raises:
        ExportError: the model cannot be loaded, or not on this device.
    """
    from tfwsss.data.image import read_image
    from tfwsss_onnx import Segmenter, SegmenterError

    try:
        segmenter = Segmenter(model, device=device)
    except SegmenterError as error:
        raise ExportError(str(error)) from None
    failed = 0
    with progress_bar("predict", len(images)) as bar:
        for image, name in _names(images).items():
            try:
                photo = read_image(image)
                mask = segmenter(photo)
                save_label(output, name, mask)
                if overlay:
                    with atomic_path(output / f"{name}.overlay.jpg") as path:
                        segmenter.overlay(photo, mask).save(path, quality=90)
            except (TfwsssError, SegmenterError) as error:
                console.print(f"left out: {error}", markup=False, soft_wrap=True)
                failed += 1
            bar.advance()
    console.print(f"{len(images) - failed} label maps in {output}", markup=False)
    return failed
