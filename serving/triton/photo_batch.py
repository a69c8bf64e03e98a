"""Photo files of many requests: read, segmented together where they are of one size, and answered one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tfwsss_onnx import ImageError, ImageSizeError, Segmenter, SegmenterError, mask_png

MOST_FILE_BYTES = 32_000_000
MOST_TOGETHER = 8_000_000  # pixels in one run


class PhotoBatch:
    """Segments the files of a batch; what is wrong with one of them is nothing to the others.

    Args:
        segmenter: whose `max_megapixels` is the limit of each photo, told from its header.
        most_file_bytes: longer files are refused unread.
        most_together: pixels that run together at most; a larger photo runs alone.
    """

    def __init__(self, segmenter: Segmenter, most_file_bytes: int = MOST_FILE_BYTES, most_together: int = MOST_TOGETHER):
        self._segmenter = segmenter
        self._most_file_bytes, self._most_together = most_file_bytes, most_together

    def __call__(self, files: Sequence[bytes]) -> list[bytes | SegmenterError]:
        """For each file an indexed PNG of the upright photo's size, 0 = background, or why there is none."""
        answers: list[bytes | SegmenterError] = [SegmenterError("not answered")] * len(files)
        waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
        for index, file in enumerate(files):
            try:
                photo = self._read(file)
            except SegmenterError as error:
                answers[index] = error
                continue
            height, width = photo.shape[:2]
            if self._segmenter.is_tiled(height, width):  # at once: many large photos are never in memory together
                self._answer(answers, [(index, photo)])
                continue
            group = waiting.setdefault(photo.shape, [])
            group.append((index, photo))
            if (len(group) + 1) * height * width > self._most_together:
                self._answer(answers, waiting.pop(photo.shape))
        for group in waiting.values():
            self._answer(answers, group)
        return answers

    def _read(self, file: bytes) -> np.ndarray:
        if len(file) > self._most_file_bytes:
            raise ImageSizeError(f"image: {len(file)} bytes, the limit is {self._most_file_bytes}")
        return self._segmenter.read(file)

    def _answer(self, answers: list[bytes | SegmenterError], group: list[tuple[int, np.ndarray]]) -> None:
        """Segment photos of one size and put the answers at their places."""
        try:
            if len(group) == 1:
                masks = [self._segmenter(group[0][1])]
            else:
                masks = list(self._segmenter.batch(np.stack([photo for _, photo in group])))
            found: list[bytes | SegmenterError] = [mask_png(mask, self._segmenter.palette) for mask in masks]
        except ImageError as error:
            found = [error] * len(group)
        except Exception as error:  # of ONNX Runtime or for want of memory: the rest of the batch is answered nevertheless
            line = (str(error) or type(error).__name__).splitlines()[0]
            found = [SegmenterError(f"image: cannot be segmented: {line}")] * len(group)
        for (index, _), answer in zip(group, found):
            answers[index] = answer
