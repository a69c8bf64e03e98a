"""Segments photo files with an exported ONNX model, as a downstream program would: any number of them, in several goes, on one machine or many."""

from __future__ import annotations

import csv
import errno
import hashlib
import io
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfwsss import __version__
from tfwsss.config import Runtime
from tfwsss.errors import DataError, ExportError
from tfwsss.storage.artifacts import save_label
from tfwsss.storage.atomic import atomic_path, read_json, write_json, write_text

from ..engine.progress import console, progress_bar
from ..engine.quarantine import PhotosLost
from ..executors.executor import executor_of
from ..executors.timing import Timing
from ..executors.work import Work
from ..labelling.photo_list import Photo, refuse_overwriting, result_names

RECORD, FAILURES = "predict.json", "failures.csv"  # in the folder of the results


class Refused(NamedTuple):
    """A photo that has no result, and why."""

    photo: str
    reason: str


@dataclass(frozen=True)
class Segmenting:
    """The job (`executors/work.py`): photo -> <folder>/<id>.png and perhaps .overlay.jpg; the result is None or `Refused`."""

    folder: Path
    model: Path
    overlay: bool
    device: str
    max_megapixels: float
    time_limit_s: float

    @property
    def network(self) -> bool:
        return self.device != "cpu"  # that is, whether it wants a GPU

    def devices(self) -> tuple[str, ...]:
        return ("ONNX Runtime's",)

    def work(self, timing: Timing) -> Work:
        from tfwsss.data.image import read_image
        from tfwsss_onnx import SegmenterError

        def read(photo: Photo) -> tuple[Photo, np.ndarray] | Refused:
            try:
                return photo, read_image(photo.image, self.max_megapixels)
            except DataError as error:
                return Refused(str(photo.image), str(error))

        def on_device(name: str):
            segmenter = self._segmenter()

            def compute(loaded: list) -> list:
                if isinstance(loaded[0], Refused):
                    return loaded
                photo, image = loaded[0]
                try:
                    return [(segmenter, image, _segment(segmenter, image, self.model, self.time_limit_s))]
                except SegmenterError as error:
                    return [Refused(str(photo.image), str(error))]

            return compute

        def finish(photo: Photo, found) -> Refused | None:
            if isinstance(found, Refused):
                return found
            segmenter, image, mask = found
            try:
                with timing.measure("writing"):
                    if self.overlay:
                        with atomic_path(self.folder / f"{photo.id}.overlay.jpg") as path:
                            segmenter.overlay(image, mask).save(path, quality=90)
                    save_label(self.folder, photo.id, mask)  # last: it says that the photo is done
            except DataError as error:
                return Refused(str(photo.image), str(error))
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
                return Refused(str(photo.image), f"{photo.image}: results called after it would have a longer name than the file system takes")
            return None

        return Work(read, finish, on_device)

    def _segmenter(self):
        from tfwsss_onnx import Segmenter, SegmenterError

        try:
            # Threads that wait for work must not take the cores from those that read and write.
            return Segmenter(self.model, device=self.device, spinning=False)
        except SegmenterError as error:
            raise ExportError(str(error)) from None


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


def predict_files(
    images: list[Path],
    model: Path,
    output: Path,
    *,
    overlay: bool = False,
    device: str = "auto",
    max_megapixels: float = 50.0,
    time_limit_s: float = 600.0,
    force: bool = False,
    runtime: Runtime | None = None,
) -> int:
    """Write <output>/<name>.png (indexed labels, VOC palette) for each photo, and <name>.overlay.jpg if wanted.

    What an earlier call has made of a photo with the same model is kept, unless the photo is newer, or with `force`. A photo that
    cannot be read, is larger than `max_megapixels`, has a name to which ours add too much, or kills the process that works on
    it, is reported, left out, and named in <output>/failures.csv; the next call tries it again.

    Args:
        images: the photos.
        model: the file.
        output: the folder.
        runtime: who does it: `executor`, `ray_address`, `cpus_per_actor` and `workers` count.

    Returns:
        The number of photos left out.

    Raises:
        ExportError: the model cannot be loaded, or not on this device; it takes longer than `time_limit_s` for a photo, or gives
            something else than a label for each pixel.
        DataError: a result would replace a photo or the model.
        OSError: nothing can be written to `output`.
    """
    runtime = runtime or Runtime()
    names = result_names(images)
    suffixes = (".png", ".overlay.jpg") if overlay else (".png",)
    refuse_overwriting(names, output, suffixes, model)
    output.mkdir(parents=True, exist_ok=True)
    job = Segmenting(output.absolute(), model.absolute(), overlay, device, max_megapixels, time_limit_s)
    if runtime.executor == "local":
        job._segmenter()  # a model that cannot be used is said before anything is written; elsewhere there may be another device
    made = partial(_is_made, job.folder, suffixes, _begun(output, model, force))
    photos = [Photo(name, image) for image, name in names.items()]
    todo = [photo for photo in photos if not made(photo)]
    if len(todo) < len(photos):
        console.print(f"{len(photos) - len(todo)} of {len(photos)} photos were done before; --force does them again")
    failed: list[Refused] = []

    def leave_out(refused: Refused, said: str) -> None:
        console.print(f"left out: {said}", markup=False, soft_wrap=True)
        failed.append(refused)

    timing = Timing()
    try:
        with executor_of(runtime) as workers, progress_bar("predict", len(todo), runtime.progress, lambda: workers.detail(timing)) as bar:
            for refused in workers.results(todo, job, timing, made):
                if refused is not None:
                    leave_out(refused, refused.reason)
                bar.advance()
    except PhotosLost as error:
        for photo in error.photos:
            leave_out(Refused(photo.photo, photo.reason), f"{photo.photo}: {photo.reason}")
    finally:
        _write_failures(output, failed)
    console.print(f"{len(photos) - len(failed)} label maps in {output}", markup=False)
    return len(failed)


def _begun(output: Path, model: Path, force: bool) -> int:
    """When the first call began that used this model, as the file system's clock says, in nanoseconds."""
    with model.open("rb") as file:
        identity = {"model": hashlib.file_digest(file, "sha256").hexdigest(), "version": __version__}
    try:
        known = read_json(output / RECORD)
    except DataError:  # whatever it is, it does not say that a result is of this model
        known = None
    if force or known != identity:
        write_json(output / RECORD, identity)
    return (output / RECORD).stat().st_mtime_ns


def _is_made(folder: Path, suffixes: tuple[str, ...], begun: int, photo: Photo) -> bool:
    """Whether all results of a photo were made of it as it is, since the first call that used this model."""
    try:
        newest = max(begun, photo.image.stat().st_mtime_ns)
        return all((folder / f"{photo.id}{suffix}").stat().st_mtime_ns >= newest for suffix in suffixes)
    except OSError:
        return False


def _write_failures(output: Path, failed: list[Refused]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(Refused._fields)
    writer.writerows((photo.encode("utf-8", "backslashreplace").decode(), reason) for photo, reason in failed)
    write_text(output / FAILURES, text.getvalue())
