"""One exported segmenter on one device."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .bound_run import BoundRun
from .cancellation import Cancellation
from .crf import dense_crf
from .errors import ImageError, ModelError
from .images import load_decoders, to_array
from .metadata import read_metadata
from .overlay import overlay
from .photo_size import enlarged, reduced, reduced_size
from .providers import connect
from .tiling import plan, round_up

WARM_UP_RUNS = 2  # ONNX Runtime plans its memory at the first photo of a size and takes it at the second
_TOGETHER = 8  # photos of a list that are in memory at once


class Segmenter:
    """Photo in, mask out.

    Where the file's metadata have a `long_side`, photos with a longer side are made smaller as in training, and their masks enlarged
    again: they are as fine as what the network sees, and take no more time and memory than a photo of that size.

    Args:
        path: an exported .onnx file.
        device: "cpu"; "cuda"; "tensorrt"; or "auto", CUDA where it works and else the CPU. With "cuda" or "tensorrt" a
            session that fell back to another device is an error; ONNX Runtime itself only logs it.
        threads: CPU threads for one photo; None leaves it to ONNX Runtime (one per core).
        tile: photos with a longer side (after they have been made smaller, see above) are cut into overlapping tiles of at most this many pixels a side.
        overlap: pixels at a tile's cut that are computed and thrown away. None takes what the network needs for results
            equal to those without tiles, or a quarter of `tile` when it needs more or looks at the whole photo (image
            pooling, group normalisation): see `seamless`.
        max_megapixels: files with more pixels are refused before decoding.
        engine_cache: folder of TensorRT's compiled engines; None takes `<path>.tensorrt`. TensorRT compiles for minutes at
            the first photo (and at a size outside those seen so far); the next process finds the result there.
        spinning: CPU threads that wait for work keep their core busy. That is a little faster on a machine of one's own; where
            other threads or processes want the cores, False is faster by far.
        io_binding: keep input and output in the device's memory between runs; None does so on a GPU.

    Attributes:
        labels: names by label, background first.
        palette: uint8 [L, 3], RGB by label.
        metadata: everything the file says about itself.
        tile: the longest side that is not cut.
        device: "cpu", "cuda" or "tensorrt", where it runs.
        seamless: True when tiled masks equal untiled ones (of the photo with its right and bottom edge repeated up to a
            multiple of the network's stride).

    Raises:
        ModelError: the file is missing or not an exported segmenter.
        DeviceError: `device` is unknown, or not "auto" and unusable.
        ValueError: `tile` or `overlap` do not fit the network's stride.
    """

    def __init__(
        self,
        path,
        device: str = "auto",
        *,
        threads: int | None = None,
        tile: int = 1536,
        overlap: int | None = None,
        max_megapixels: float = 50.0,
        engine_cache=None,
        io_binding: bool | None = None,
        spinning: bool = True,
    ):
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"{path}: no such file")
        self._session, self.device = connect(path, device, threads, None if engine_cache is None else Path(engine_cache), spinning)
        self.metadata = read_metadata(self._session.get_modelmeta().custom_metadata_map, path)
        self.labels: tuple[str, ...] = tuple(self.metadata["labels"])
        self.palette = np.array(self.metadata["palette"], np.uint8)
        self._long_side: int | None = self.metadata.get("long_side")
        self._has_mask = "mask" in self.metadata["outputs"]
        if io_binding is None:
            io_binding = self.device != "cpu"
        self._bound = BoundRun(self._session, "cpu" if self.device == "cpu" else "cuda") if io_binding else None
        self.max_megapixels = max_megapixels
        self.set_tile(tile, overlap)

    @property
    def tile(self) -> int:
        """The longest side, in pixels, that is not cut into tiles; none is longer than `long_side`, rounded up."""
        return self._tile

    def set_tile(self, tile: int, overlap: int | None = None) -> None:
        """Cut photos anew; arguments and errors as at the start."""
        stride, reach = self.metadata["receptive_field"]["stride"], self.metadata["receptive_field"]["reach"]
        if tile < 4 * stride:
            raise ValueError(f"tile: found {tile}, expected at least {4 * stride} (4 times the network's stride)")
        self._stride = stride
        largest = tile if self._long_side is None else min(tile, max(round_up(self._long_side, stride), 4 * stride))
        self._tile = largest // stride * stride
        if overlap is None:
            needed = self._tile if reach is None else round_up(reach, stride)
            overlap = needed if 2 * needed < self._tile else self._tile // 4
        self._overlap = round_up(overlap, stride)
        if overlap < 0 or 2 * self._overlap >= self._tile:
            raise ValueError(f"overlap: found {overlap}, expected 0 or more and less than half of the tile's {self._tile} pixels")
        self.seamless = reach is not None and self._overlap >= reach

    def __call__(self, image, cancellation: Cancellation | None = None):
        """Segment one photo or a list of photos.

        Args:
            image: uint8 array [H, W, 3] RGB, path, bytes of an image file (JPEG, PNG, WEBP, BMP, TIFF, GIF) or PIL image; or
                a list of these, of any sizes (equal ones run together). Files and PIL images are turned upright by their EXIF orientation and
                transparent pixels laid over white, as in training.
            cancellation: lets another thread stop the run.

        Returns:
            uint8 [H, W], 0 background and k the label `labels[k]`; for a list, a list of them.

        Raises:
            ImageError: an image is unreadable, too large, or an array of another type or shape.
            Cancelled: by `cancellation`.
        """
        if isinstance(image, (list, tuple)):
            groups = (image[start : start + _TOGETHER] for start in range(0, len(image), _TOGETHER))
            return [mask for group in groups for mask in self._group(group, cancellation)]
        array = self.read(image)
        if self.is_tiled(array.shape[0], array.shape[1]):
            return self._tiled(array, lambda tile: self.batch(tile, cancellation))
        return self.batch(array[None], cancellation)[0]

    def read(self, image) -> np.ndarray:
        """A photo in any form of a call as uint8 [H, W, 3], the pixels that are segmented.

        Raises:
            ImageError: as a call.
        """
        return to_array(image, self.max_megapixels)

    def run_size(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) that the network sees of a photo of this size."""
        return reduced_size(height, width, self._long_side)

    def is_tiled(self, height: int, width: int) -> bool:
        """Whether a photo of this size is cut into tiles."""
        return max(self.run_size(height, width)) > self._tile

    def _group(self, images, cancellation) -> list[np.ndarray]:
        """Masks of a few photos; those of one size run together."""
        arrays = [self.read(image) for image in images]
        by_shape: dict[tuple, list[int]] = {}
        for index, array in enumerate(arrays):
            by_shape.setdefault(array.shape, []).append(index)
        masks: list = [None] * len(arrays)
        for shape, indices in by_shape.items():
            if self.is_tiled(shape[0], shape[1]):
                found = [self(arrays[index], cancellation) for index in indices]
            else:
                found = list(self.batch(np.stack([arrays[index] for index in indices]), cancellation))
            for index, mask in zip(indices, found):
                masks[index] = mask
        return masks

    def batch(self, images: np.ndarray, cancellation: Cancellation | None = None) -> np.ndarray:
        """Segment photos of one size in one run, without tiles: uint8 [B, H, W, 3] RGB -> uint8 [B, H, W].

        Raises:
            ImageError: another type or shape.
            Cancelled: by `cancellation`.
        """
        if self._has_mask:
            return self._run("mask", images, cancellation)
        return self._run("scores", images, cancellation).argmax(axis=3).astype(np.uint8)

    def scores(self, images: np.ndarray, cancellation: Cancellation | None = None) -> np.ndarray:
        """Class probabilities of photos of one size: uint8 [B, H, W, 3] RGB -> float32 [B, H, W, L].

        Raises:
            ModelError: the file was exported without the output `scores`.
            ImageError: another type or shape.
        """
        if "scores" not in self.metadata["outputs"]:
            raise ModelError(f"this file has the outputs {self.metadata['outputs']}; export it with outputs=('scores',)")
        return self._run("scores", images, cancellation)

    def refined(self, image, **crf) -> np.ndarray:
        """Segment one photo and refine the outlines with a dense CRF, as in training; slow (some 0.1 s for 375x500 pixels on a CPU).

        Args:
            image: as in a call.
            **crf: parameters of `dense_crf`.

        Returns:
            uint8 [H, W] labels.

        Raises:
            ModelError: the file was exported without the output `scores`.
            DependencyError: numba is not installed.
            ImageError: as a call.
        """
        array = self.read(image)
        seen = reduced(array, self._long_side)
        tiled = self.is_tiled(seen.shape[0], seen.shape[1])
        scores = self._tiled(seen, self.scores) if tiled else self.scores(seen[None])[0]
        return enlarged(dense_crf(seen, scores, **crf).argmax(axis=2).astype(np.uint8), *array.shape[:2])

    def warm_up(self, sizes=((512, 512),), batches=(1,)) -> float:
        """Run photos without content, so that the first real one does not wait for memory, kernels, engines or decoders.

        Args:
            sizes: (height, width) of the photos to come.
            batches: how many of them run together.

        Returns:
            Seconds taken.
        """
        started = time.perf_counter()
        load_decoders()
        for height, width in sizes:
            for batch in batches:
                blank = np.zeros((batch, height, width, 3), np.uint8)
                for _ in range(WARM_UP_RUNS):
                    if self.is_tiled(height, width):
                        self(blank[0])
                    else:
                        self.batch(blank)
        return time.perf_counter() - started

    def overlay(self, image, mask: np.ndarray, opacity: float = 0.5):
        """The photo with the classes' colours over it, as a PIL image; `image` as in a call, `mask` its result."""
        from PIL import Image

        return Image.fromarray(overlay(self.read(image), mask, self.palette, opacity))

    def _run(self, output: str, images: np.ndarray, cancellation: Cancellation | None) -> np.ndarray:
        """What the network finds in photos of one size, as large as they are."""
        self._require(images)
        height, width = images.shape[1:3]
        if self.run_size(height, width) == (height, width):
            return self._run_graph(output, images, cancellation)
        found = self._run_graph(output, np.stack([reduced(image, self._long_side) for image in images]), cancellation)
        return np.stack([enlarged(one, height, width) for one in found])

    @staticmethod
    def _require(images) -> None:
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise ImageError(f"images: found {found}, expected a uint8 array [batch, height, width, 3]")

    def _run_graph(self, output: str, images: np.ndarray, cancellation: Cancellation | None) -> np.ndarray:
        images = np.ascontiguousarray(images)
        options = None if cancellation is None else cancellation.run_options
        try:
            if self._bound is not None:
                return self._bound(output, images, options)
            return self._session.run([output], {"images": images}, options)[0]
        except Exception:
            if cancellation is not None:
                cancellation.check()
            raise

    def in_steps(self, image: np.ndarray, cancellation: Cancellation | None = None) -> Iterator[np.ndarray | None]:
        """A call for one photo uint8 [H, W, 3], run by run: None after each tile but the last, then the mask. Other runs may come between."""
        if self.is_tiled(image.shape[0], image.shape[1]):
            yield from self._by_tiles(image, lambda tile: self.batch(tile, cancellation))
        else:
            yield self.batch(image[None], cancellation)[0]

    def _tiled(self, image: np.ndarray, run) -> np.ndarray:
        *_, whole = self._by_tiles(image, run)
        assert whole is not None  # it comes last
        return whole

    def _by_tiles(self, image: np.ndarray, run) -> Iterator[np.ndarray | None]:
        """What `run` ([1, h, w, 3] -> [1, h, w, ...]) gives for a whole photo, put together from its tiles; None after each but the last."""
        image, whole_size = reduced(image, self._long_side), image.shape[:2]
        height, width = image.shape[:2]
        rows, columns = (plan(round_up(side, self._stride), self._tile, self._overlap, self._stride) for side in (height, width))
        padding = ((0, rows[-1].stop - height), (0, columns[-1].stop - width), (0, 0))
        padded = np.pad(image, padding, mode="edge")
        whole: np.ndarray | None = None
        for row, column in itertools.product(rows, columns):
            if whole is not None:
                yield None
            found = run(padded[None, row.start : row.stop, column.start : column.stop])[0]
            kept = found[row.keep_start - row.start : row.keep_stop - row.start, column.keep_start - column.start : column.keep_stop - column.start]
            if whole is None:
                whole = np.empty(padded.shape[:2] + found.shape[2:], found.dtype)
            whole[row.keep_start : row.keep_stop, column.keep_start : column.keep_stop] = kept
        assert whole is not None  # there is a tile
        yield enlarged(np.ascontiguousarray(whole[:height, :width]), *whole_size)
