import dataclasses

import numpy as np
import pytest

from tfwsss.report.rows import ImageRow


@pytest.fixture
def make_row():
    """A photo of noise, the hardest to compress, with every step filled in; keyword arguments replace fields."""

    def make(image_id="img", height=60, width=80, seed=0, **changes):
        random = np.random.default_rng(seed)
        label = np.zeros((height, width), np.uint8)
        label[height // 4 : height // 2, width // 4 : width // 2] = 1
        affinity_label = label.copy()
        affinity_label[height // 2 :] = 255
        row = ImageRow(
            id=image_id,
            tags=(0, 2),
            photo=random.integers(0, 256, (height, width, 3), np.uint8),
            cam=(np.array([0, 2]), random.random((2, 8, 10), np.float32)),
            affinity_label=affinity_label,
            walk=label[::8, ::8].astype(np.int32),
            pseudo_label=label,
            prediction=label,
            mask=label,
        )
        return dataclasses.replace(row, **changes)

    return make
