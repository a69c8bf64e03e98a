"""Names of the results of `tfwsss predict`: one for each photo, and never that of a photo or the model."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfwsss.errors import DataError
from tfwsss_pipelines.deployment.predict import predict_files, result_names

PART = st.sampled_from(["a", "A", "b", "a.jpg", "a.jpg.jpg", "b.png"])


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        (["x.jpg", "y.jpg"], ["x", "y"]),
        (["x.jpg", "x.png"], ["x.jpg", "x.png"]),
        (["a/x.jpg", "b/x.jpg", "y.jpg"], ["a/x.jpg", "b/x.jpg", "y"]),
        (["c/a/x.jpg", "d/a/x.jpg"], ["c/a/x.jpg", "d/a/x.jpg"]),
        (["x.jpg", "./x.jpg", "a/../x.jpg"], ["x"]),
        (["x.jpg", "x.png", "x.jpg.jpg"], ["photos/x.jpg", "x.png", "x.jpg.jpg"]),
        (["X.jpg", "x.jpg"], ["X", "x"]),
        (["a/X.jpg", "b/x.jpg"], ["a/X.jpg", "b/x.jpg"]),
    ],
)
def test_results_have_the_shortest_name_that_tells_them_apart(photos, expected):
    names = list(result_names([Path("/photos", photo) for photo in photos]).values())
    assert names == expected


@given(st.lists(st.lists(PART, min_size=1, max_size=3), min_size=1, max_size=8))
def test_no_two_photos_have_one_result(paths):
    photos = [Path("/", *parts) for parts in paths]
    names = result_names(photos)
    assert set(map(Path.resolve, names)) == set(map(Path.resolve, photos))
    assert len(set(names.values())) == len(names)
    assert not any(Path(name).is_absolute() or ".." in Path(name).parts for name in names.values())


@pytest.mark.parametrize(("photo", "overlay"), [("a.png", False), ("a.overlay.jpg", True)])
def test_a_photo_is_not_replaced_by_its_result(tmp_path, photo, overlay):
    for name in (photo, "a.jpg") if overlay else (photo,):
        (tmp_path / name).write_bytes(b"mine")
    photos = sorted(tmp_path.iterdir())
    with pytest.raises(DataError, match="would replace a photo or the model"):
        predict_files(photos, tmp_path / "model.onnx", tmp_path, overlay=overlay)
    assert all(path.read_bytes() == b"mine" for path in photos)


def test_the_model_is_not_replaced(tmp_path):
    (tmp_path / "model.png").write_bytes(b"mine")
    with pytest.raises(DataError, match="would replace a photo or the model"):
        predict_files([tmp_path / "photos/model.jpg"], tmp_path / "model.png", tmp_path)
