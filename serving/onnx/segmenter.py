"""One exported segmenter on one device."""

import json
from pathlib import Path
from typing import Literal

import numpy as np
import onnxruntime

from .errors import DeviceError, ImageError, ModelError
from .images import to_array
from .overlay import overlay
from .tiling import plan, round_up

FORMAT = "tfwsss.segmenter/1"
_CUDA = "CUDAExecutionProvider"
_CPU = "CPUExecutionProvider"
_TOGETHER = 8  # photos of a list that are in memory at once


def _open(path: Path, providers, options):
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has one class for each status and no common base
        raise ModelError(f"{path}: not a usable ONNX model: {error}") from None


def _read_metadata(session, path: Path) -> dict:
    properties = session.get_modelmeta().custom_metadata_map
    if properties.get("format") != FORMAT:
        raise ModelError(f"{path}: metadata 'format' is {properties.get('format')!r}, expected {FORMAT!r}; was it exported by tfwsss?")
    metadata = {}
    for key, text in properties.items():
        try:
            metadata[key] = json.loads(text)
        except ValueError:
            metadata[key] = text
    return metadata


class Segmenter:
    """Photo in, mask out.

    Args:
        path: an exported .onnx file.
        device: "cpu"; "cuda"; or "auto", CUDA where it works and else the CPU. With "cuda" a session that fell back to
            the CPU is an error; ONNX Runtime itself only logs it.
        threads: CPU threads for one photo; None leaves it to ONNX Runtime (one per core).
        tile: photos with a longer side are cut into overlapping tiles of at most this many pixels a side.
        overlap: pixels at a tile's cut that are computed and thrown away. None takes what the network needs for results
            equal to those without tiles, or a quarter of `tile` when it needs more or looks at the whole photo (image
            pooling, group normalisation): see `seamless`.
        max_megapixels: files with more pixels are refused before decoding.

    Attributes:
        labels: names by label, background first.
        palette: uint8 [L, 3], RGB by label.
        metadata: everything the file says about itself.
        device: "cpu" or "cuda", where it runs.
        seamless: True when tiled masks equal untiled ones (of the photo with its right and bottom edge repeated up to a
            multiple of the network's stride).

    Raises:
        ModelError: the file is missing or not an exported segmenter.
        DeviceError: `device` is unknown, or "cuda" and unusable.
        ValueError: `tile` or `overlap` do not fit the network's stride.
    """

    def __init__(
        self,
        path,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        *,
        threads: int | None = None,
        tile: int = 1536,
        overlap: int | None = None,
        max_megapixels: float = 50.0,
    ):
        path = Path(path)
        if not path.is_file():
            raise ModelError(f"{path}: no such file")
        self._session = self._connect(path, device, threads)
        self.device = "cuda" if self._session.get_providers()[0] == _CUDA else "cpu"
        self.metadata = _read_metadata(self._session, path)
        self.labels: tuple[str, ...] = tuple(self.metadata["labels"])
        self.palette = np.array(self.metadata["palette"], np.uint8)
        self._has_mask = "mask" in self.metadata["outputs"]
        self._max_megapixels = max_megapixels
        self._set_tiles(tile, overlap)

    @staticmethod
    def _connect(path: Path, device: str, threads: int | None):
        if device not in ("auto", "cpu", "cuda"):
            raise DeviceError(f"device: found {device!r}, expected auto, cpu or cuda")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4 if device == "auto" else 3  # trying CUDA in vain is no error with "auto"
        if threads is not None:
            options.intra_op_num_threads = threads
        available = onnxruntime.get_available_providers()
        if device == "cuda" and _CUDA not in available:
            raise DeviceError(f"device cuda: this onnxruntime has only {', '.join(available)}; install onnxruntime-gpu")
        providers: list = [_CPU]
        if device != "cpu" and _CUDA in available:
            # The default searches the fastest algorithm anew for every image size, which takes seconds each time.
            providers = [(_CUDA, {"cudnn_conv_algo_search": "HEURISTIC"}), _CPU]
        session = _open(path, providers, options)
        active = session.get_providers()[0]
        if device == "cuda" and active != _CUDA:
            raise DeviceError(f"device cuda: onnxruntime fell back to {active}; are the NVIDIA driver, CUDA and cuDNN that onnxruntime {onnxruntime.__version__} needs installed?")
        return session

    def _set_tiles(self, tile: int, overlap: int | None) -> None:
        stride, reach = self.metadata["receptive_field"]["stride"], self.metadata["receptive_field"]["reach"]
        if tile < 4 * stride:
            raise ValueError(f"tile: found {tile}, expected at least {4 * stride} (4 times the network's stride)")
        self._stride = stride
        self._tile = tile // stride * stride
        if overlap is None:
            needed = self._tile if reach is None else round_up(reach, stride)
            overlap = needed if 2 * needed < self._tile else self._tile // 4
        self._overlap = round_up(overlap, stride)
        if overlap < 0 or 2 * self._overlap >= self._tile:
            raise ValueError(f"overlap: found {overlap}, expected 0 or more and less than half of the tile's {self._tile} pixels")
        self.seamless = reach is not None and self._overlap >= reach

    def __call__(self, image):
        """Segment one photo or a list of photos.

        Args:
            image: uint8 array [H, W, 3] RGB, path, bytes of an image file (JPEG, PNG, WEBP, BMP, TIFF, GIF) or PIL image; or
                a list of these, of any sizes (equal ones run together). Files and PIL images are turned upright by their EXIF orientation and
                transparent pixels laid over white, as in training.

        Returns:
            uint8 [H, W], 0 background and k the label `labels[k]`; for a list, a list of them.

        Raises:
            ImageError: an image is unreadable, too large, or an array of another type or shape.
        """
        if isinstance(image, (list, tuple)):
            groups = (image[start : start + _TOGETHER] for start in range(0, len(image), _TOGETHER))
            return [mask for group in groups for mask in self._group(group)]
        array = to_array(image, self._max_megapixels)
        if max(array.shape[:2]) > self._tile:
            return self._tiled(array)
        return self.batch(array[None])[0]

    def _group(self, images) -> list[np.ndarray]:
        """Masks of a few photos; those of one size run together."""
        arrays = [to_array(image, self._max_megapixels) for image in images]
        by_shape: dict[tuple, list[int]] = {}
        for index, array in enumerate(arrays):
            by_shape.setdefault(array.shape, []).append(index)
        masks: list = [None] * len(arrays)
        for shape, indices in by_shape.items():
            if max(shape[:2]) > self._tile:
                found = [self._tiled(arrays[index]) for index in indices]
            else:
                found = self.batch(np.stack([arrays[index] for index in indices]))
            for index, mask in zip(indices, found, strict=True):
                masks[index] = mask
        return masks

    def batch(self, images: np.ndarray) -> np.ndarray:
        """Segment photos of one size in one run, without tiles: uint8 [B, H, W, 3] RGB -> uint8 [B, H, W].

        Raises:
            ImageError: another type or shape.
        """
        if not isinstance(images, np.ndarray) or images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] != 3 or not images.size:
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            raise ImageError(f"images: found {found}, expected a uint8 array [batch, height, width, 3]")
        if self._has_mask:
            return self._session.run(["mask"], {"images": images})[0]
        return self._session.run(["scores"], {"images": images})[0].argmax(axis=3).astype(np.uint8)

    def scores(self, images: np.ndarray) -> np.ndarray:
        """Class probabilities of photos of one size: uint8 [B, H, W, 3] RGB -> float32 [B, H, W, L].

        Raises:
            ModelError: the file was exported without the output `scores`.
        """
        if "scores" not in self.metadata["outputs"]:
            raise ModelError(f"this file has the outputs {self.metadata['outputs']}; export it with outputs=('scores',)")
        return self._session.run(["scores"], {"images": images})[0]

    def overlay(self, image, mask: np.ndarray, opacity: float = 0.5):
        """The photo with the classes' colours over it, as a PIL image; `image` as in a call, `mask` its result."""
        from PIL import Image

        return Image.fromarray(overlay(to_array(image, self._max_megapixels), mask, self.palette, opacity))

    def _tiled(self, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        rows, columns = (plan(round_up(side, self._stride), self._tile, self._overlap, self._stride) for side in (height, width))
        padding = ((0, rows[-1].stop - height), (0, columns[-1].stop - width), (0, 0))
        padded = np.pad(image, padding, mode="edge")
        mask = np.empty(padded.shape[:2], np.uint8)
        for row in rows:
            for column in columns:
                found = self.batch(padded[None, row.start : row.stop, column.start : column.stop])[0]
                kept = found[row.keep_start - row.start : row.keep_stop - row.start, column.keep_start - column.start : column.keep_stop - column.start]
                mask[row.keep_start : row.keep_stop, column.keep_start : column.keep_stop] = kept
        return np.ascontiguousarray(mask[:height, :width])
