"""Results of `tfwsss predict`: one for each photo, never in the place of a photo or the model; and what is left out."""

import csv
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, save
from PIL import Image

from tfwsss.errors import DataError, ExportError
from tfwsss_pipelines.deployment.predict import predict_files
from tfwsss_pipelines.labelling.photo_list import chosen_photos, result_names

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


@pytest.fixture
def model(tmp_path):
    """A file that gives label 0 to a dark pixel."""
    nodes = [helper.make_node("Constant", [], ["red"], value=helper.make_tensor("v", TensorProto.INT64, [], [0])), helper.make_node("Gather", ["images", "red"], ["mask"], axis=3)]
    values = [helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in ("images", "mask")]
    model = helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]), opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    facts = {"labels": ["background", "cat"], "palette": [[0, 0, 0], [1, 2, 3]], "outputs": ["mask"], "receptive_field": {"stride": 1, "reach": 0}}
    helper.set_model_props(model, {"format": "tfwsss.segmenter/1"} | {name: json.dumps(value) for name, value in facts.items()})
    save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def test_large_photos_need_a_higher_limit(tmp_path, model, capsys):
    Image.new("RGB", (200, 100)).save(tmp_path / "large.png")
    Image.new("RGB", (50, 40)).save(tmp_path / "small.png")
    photos, output = [tmp_path / "large.png", tmp_path / "small.png"], tmp_path / "out"
    assert predict_files(photos, model, output, max_megapixels=0.01) == 1
    assert "large.png: too large: 200x100 px" in capsys.readouterr().err and sorted(path.name for path in output.iterdir()) == ["failures.csv", "predict.json", "small.png"]
    assert predict_files(photos, model, output, max_megapixels=0.02) == 0


def test_names_as_long_as_the_file_system_allows(tmp_path, model, capsys):
    photo = tmp_path / f"{'x' * 241}.png"
    Image.new("RGB", (50, 40)).save(photo)
    assert predict_files([photo], model, tmp_path / "out", overlay=True) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("x*")) == [f"{'x' * 241}.overlay.jpg", photo.name]
    longer = photo.rename(tmp_path / f"{'y' * 250}.png")  # its overlay's name would have 262 bytes
    Image.new("RGB", (50, 40)).save(tmp_path / "other.png")
    assert predict_files([longer, tmp_path / "other.png"], model, tmp_path / "more", overlay=True) == 1
    assert "longer name than the file system takes" in capsys.readouterr().err


def test_a_folder_and_what_is_no_photo_are_named_as_they_are(tmp_path, model, monkeypatch, capsys):
    """Also where the path's letters occur in the reason."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "c").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert predict_files([Path("a"), Path("c")], model, tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "a: a folder, expected the file of a photo" in said and "c: cannot be decoded: " in said


def left_out(output: Path) -> list[list[str]]:
    with (output / "failures.csv").open(newline="") as file:
        return list(csv.reader(file))


def stamps(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in output.glob("*.png")}


def test_a_second_call_does_what_the_first_has_left_and_what_has_changed(tmp_path, model, capsys):
    photos, output = [tmp_path / f"{name}.jpg" for name in "abcd"], tmp_path / "out"
    for photo in photos:
        Image.new("RGB", (50, 40), (1, 0, 0)).save(photo)
    photos[3].write_bytes(b"no photo")
    assert predict_files(photos, model, output) == 1
    assert left_out(output)[0] == ["photo", "reason"] and left_out(output)[1][0] == str(photos[3]) and len(left_out(output)) == 2
    before = stamps(output)
    assert sorted(before) == ["a.png", "b.png", "c.png"]

    (output / "a.png").unlink()
    later = max(before.values()) + 10**9
    os.utime(photos[1], ns=(later, later))
    Image.new("RGB", (50, 40)).save(photos[3])
    capsys.readouterr()
    assert predict_files(photos, model, output) == 0
    assert "1 of 4 photos were done before" in capsys.readouterr().err
    after = stamps(output)
    assert after["c.png"] == before["c.png"] and after["b.png"] != before["b.png"] and sorted(after) == ["a.png", "b.png", "c.png", "d.png"]
    assert left_out(output) == [["photo", "reason"]]

    assert predict_files(photos, model, output, overlay=True) == 0  # its overlays are missing
    assert len(list(output.glob("*.overlay.jpg"))) == 4
    again = stamps(output)
    assert predict_files([photos[2]], model, output, force=True) == 0
    assert stamps(output)["c.png"] != again["c.png"]
    again = stamps(output)
    model.write_bytes(model.read_bytes() + b"\x7a\x00")  # an empty field: another file
    assert predict_files(photos, model, output) == 0
    assert all(stamps(output)[name] != stamp for name, stamp in again.items())


def test_a_model_that_cannot_be_used_leaves_nothing(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    Image.new("RGB", (50, 40)).save(tmp_path / "a.jpg")
    with pytest.raises(ExportError):
        predict_files([tmp_path / "a.jpg"], tmp_path / "model.onnx", tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


def test_files_folders_patterns_and_lists(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one.jpg", "photos/a.jpg", "photos/b/c.PNG", "photos/notes.txt", "photos/.hidden/d.jpg", "more/e.jpg", "more/f[1].jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("more/e.jpg\n\nphotos\r\nmissing.jpg\n")
    assert [str(path) for path in chosen_photos([Path("one.jpg"), Path("photos"), Path("more/*.jpg")])] == ["one.jpg", "photos/a.jpg", "photos/b/c.PNG", "more/e.jpg", "more/f[1].jpg"]
    assert [str(path) for path in chosen_photos([Path("more/f[1].jpg"), Path("**/c.*")])] == ["more/f[1].jpg", "photos/b/c.PNG"]
    assert [str(path) for path in chosen_photos([], [Path("list.txt")])] == ["more/e.jpg", "photos/a.jpg", "photos/b/c.PNG", "missing.jpg"]
    monkeypatch.setattr("sys.stdin", ["one.jpg\n"])
    assert [str(path) for path in chosen_photos([], [Path("-")])] == ["one.jpg"]


@pytest.mark.parametrize(("given", "message"), [("empty", "empty: no photos in this folder"), ("*.jpg", r"\*.jpg: no such photo, and no photos"), (None, "no photos given")])
def test_where_there_is_no_photo(tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        chosen_photos([Path(given)] if given else [])
