"""Photos that a run must leave out."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfwsss.data.check import check_images
from tfwsss.data.dataset import Dataset, Sample


@pytest.fixture
def dataset(tmp_path, write_photo):
    write_photo("good.png", seed=1)
    write_photo("same.png", seed=1)
    write_photo("good.jpg", seed=2)
    write_photo("edge.png", 32, 32)
    write_photo("tiny.png", 1, 1)
    write_photo("narrow.png", 31, 400)
    write_photo("huge.png", 200, 600)
    whole = write_photo("cut.jpg", 100, 100).read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("not a photo")
    Image.new("CMYK", (40, 40)).save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.zeros((40, 40), np.uint16)).save(tmp_path / "grey16.png")
    names = [path.name for path in sorted(tmp_path.iterdir())] + ["missing.jpg"]
    samples = tuple(Sample(name, tmp_path / name, () if name == "good.jpg" else (0,)) for name in names)
    return Dataset(("dog",), samples, max_megapixels=0.1)


EXPECTED = {
    "cut.jpg": "cannot be decoded: image file is truncated",
    "empty.jpg": "the file is empty",
    "huge.png": "too large: 600x200 px are 0.12 megapixels, the limit is 0.1",
    "missing.jpg": "no such file",
    "narrow.png": "too small: 400x31 px, expected at least 32x32",
    "text.jpg": "not an image, expected one of JPEG, PNG",
    "tiny.png": "too small: 1x1 px, expected at least 32x32",
}


def test_every_reason(dataset):
    problems, digests = check_images(dataset, workers=1)
    assert [p.id for p in problems] == list(EXPECTED)[:3] + ["narrow.png", "text.jpg", "tiny.png", "missing.jpg"]
    for problem in problems:
        assert problem.reason.startswith(EXPECTED[problem.id]), problem
        assert "\n" not in problem.reason and str(problem.path) not in problem.reason
    assert set(digests) == {s.id for s in dataset.samples} - set(EXPECTED)
    assert digests["good.png"] == digests["same.png"] != digests["good.jpg"]


def test_photos_without_a_tag_count_only_when_tags_are_required(dataset):
    plain, _ = check_images(dataset, workers=1)
    problems, digests = check_images(dataset, workers=1, require_tags=True)
    (extra,) = set(problems) - set(plain)
    assert extra.id == "good.jpg" and extra.reason.startswith("no tag")
    assert "good.jpg" not in digests


def test_processes_find_the_same(dataset):
    repeated = Dataset(
        dataset.classes,
        tuple(Sample(f"{turn}/{s.id}", s.image, s.tags) for turn in range(4) for s in dataset.samples),
        max_megapixels=0.1,
    )
    steps = []
    found = check_images(repeated, workers=2, on_progress=steps.append)
    assert found == check_images(repeated, workers=1)
    assert sum(steps) == len(repeated) and min(steps) > 0


def test_workers_do_not_load_tensorflow():
    program = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tfwsss.data.check import inspect_image
if __name__ == "__main__":
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        pool.submit(inspect_image, Path("none")).result()
        sys.exit(pool.submit(eval, "'tensorflow' in __import__('sys').modules").result())
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
