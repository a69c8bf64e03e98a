"""Photos that become warm-up requests."""

import types

import numpy as np
import pytest
from PIL import Image

from tfwsss.data.image import read_image
from tfwsss_pipelines.stages.export import _warmup_photos


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_warmup_photos_are_files_that_serve_bytes_reads(tmp_path, file_format):
    path = tmp_path / "photo"
    Image.effect_noise((30, 20), 60).convert("RGB").save(path, file_format)
    dataset = types.SimpleNamespace(samples=[types.SimpleNamespace(image=path)] * 3, read=lambda sample: read_image(sample.image), max_megapixels=50.0)
    files = _warmup_photos(dataset, 2)
    assert len(files) == 2
    if file_format in ("JPEG", "PNG"):
        assert files[0] == path.read_bytes()
    else:
        (tmp_path / "encoded").write_bytes(files[0])
        assert files[0].startswith(b"\x89PNG")
        np.testing.assert_array_equal(read_image(tmp_path / "encoded"), read_image(path))
