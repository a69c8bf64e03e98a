"""Labels of every form: what tools have written is read, what is written is what tools have read, and every pixel comes back."""

import json

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pycocotools.coco import COCO

from tfwsss.data.dataset import Sample
from tfwsss.errors import DataError
from tfwsss.exchange import TOOLS, LabelledPhoto, Photos, read_corrected
from tfwsss.exchange.label_studio import labelling_interface
from tfwsss.exchange.outlines import polygons_of

FILES = {"cvat": "cvat.xml", "labelstudio": "labelstudio.json", "coco": "coco.json"}


def annotated(path):
    """What Label Studio makes of a task when somebody submits its prediction."""
    tasks = json.loads(path.read_text())
    for task in tasks:
        task["annotations"] = [{"result": task.pop("predictions")[0]["result"]}]
    path.write_text(json.dumps(tasks))


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, label in expected.items():
        np.testing.assert_array_equal(found[name], label, err_msg=name)


@pytest.mark.parametrize("file", FILES.values())
def test_files_of_the_tools(drawn, file):
    """Written by datumaro (CVAT, COCO) and label-studio-sdk (brushes)."""
    if file == "coco.json":  # datumaro writes every mask as a crowd
        assert all(one["iscrowd"] for one in json.loads((drawn.folder / "tools" / file).read_text())["annotations"])
    assert_equal(drawn.read(drawn.folder / "tools" / file), drawn.labels)


@pytest.mark.parametrize("tool", FILES)
def test_what_is_written_is_what_the_tools_have_read(drawn, tmp_path, tool):
    """`ours` was read by datumaro, label-studio-sdk and cvat-sdk, with every pixel equal: tests/data/fixtures/make/masks_with_*.py."""
    TOOLS[tool].write(drawn.photos, drawn.classes, tmp_path / "written")
    assert (tmp_path / "written").read_bytes() == (drawn.folder / "ours" / FILES[tool]).read_bytes()


@pytest.mark.parametrize("tool", [*FILES, "folders"])
def test_every_pixel_comes_back(drawn, tmp_path, tool):
    path = tmp_path / TOOLS[tool].output
    TOOLS[tool].write(drawn.photos, drawn.classes, path)
    if tool == "labelstudio":
        annotated(path)
    assert_equal(drawn.read(path), drawn.labels)


def test_pycocotools_reads_the_instances(drawn, tmp_path):
    TOOLS["coco"].write(drawn.photos, drawn.classes, tmp_path / "labels.json")
    index = COCO(str(tmp_path / "labels.json"))
    values = {"square": 1, "disc": 2, "ignore": 255}
    for photo in index.imgs.values():
        label = np.zeros((photo["height"], photo["width"]), np.uint8)
        for one in index.imgToAnns[photo["id"]]:
            label[index.annToMask(one) == 1] = values[index.cats[one["category_id"]]["name"]]
            assert one["area"] == int((label == values[index.cats[one["category_id"]]["name"]]).sum())
        np.testing.assert_array_equal(label, drawn.labels[photo["file_name"].removesuffix(".png")])
    scores = {one["score"] for one in index.anns.values() if index.cats[one["category_id"]]["name"] == "disc"}
    assert scores == {0.5}  # the class's own, not the photo's


def test_confidence_where_the_form_has_a_place_for_it(drawn, tmp_path):
    TOOLS["labelstudio"].write(drawn.photos, drawn.classes, tmp_path / "tasks.json")
    tasks = json.loads((tmp_path / "tasks.json").read_text())
    assert [task["predictions"][0]["score"] for task in tasks] == [0.25, 0.35, 0.45, 0.55]
    assert tasks[1]["predictions"][0]["result"][0]["score"] == 0.5
    TOOLS["cvat"].write(drawn.photos, drawn.classes, tmp_path / "labels.xml")
    assert '<attribute name="confidence">0.5000</attribute>' in (tmp_path / "labels.xml").read_text()


def test_folders(drawn, tmp_path):
    val = LabelledPhoto("below/x.png", drawn.photos[0].image, 1.0, {}, drawn.photos[0].label, "val")
    TOOLS["folders"].write([*drawn.photos, val], drawn.classes, tmp_path / "set")
    assert yaml.safe_load((tmp_path / "set/data.yaml").read_text()) == {
        "path": ".", "train": "images/train", "val": "images/val", "masks_dir": "masks", "ignore_index": 255, "nc": 3, "names": {0: "background", 1: "square", 2: "disc"},
    }  # fmt: skip
    for photo in (*drawn.photos, val):
        copy = tmp_path / "set/images" / photo.split / photo.name
        assert copy.read_bytes() == photo.image.read_bytes() and copy.stat().st_ino != photo.image.stat().st_ino
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "set/masks" / photo.split / f"{photo.id}.png")), photo.label)
    assert_equal(drawn.read(tmp_path / "set/masks/train"), drawn.labels)
    with pytest.raises(DataError, match="names: .*expected those of the data set: background, disc, square"):
        drawn.read(tmp_path / "set", ("disc", "square"))



@given(arrays.arrays(bool, st.tuples(st.integers(1, 10), st.integers(1, 10))))
def test_outlines_enclose_their_pixels(mask):
    seen = np.zeros(mask.shape, int)
    for polygon in polygons_of(mask):
        seen += even_odd(polygon, mask.shape)
    np.testing.assert_array_equal(seen, mask)  # every pixel once


def even_odd(polygon, shape):
    """Whether a ray to the left of each pixel's centre crosses the polygon an odd number of times."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside = np.zeros(shape, bool)
    for (x0, y0), (x1, y1) in zip(polygon, [*polygon[1:], polygon[0]], strict=True):
        crosses = (y0 > y) != (y1 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x > x0 + (y - y0) * (x1 - x0) / np.float64(y1 - y0))
    return inside


def test_yolo(drawn, tmp_path):
    TOOLS["yolo"].write(drawn.photos, drawn.classes, tmp_path / "set")
    text = (tmp_path / "set/data.yaml").read_text()
    assert text.startswith("# val: there are no evaluation photos") and yaml.safe_load(text)["names"] == {0: "square", 1: "disc"}
    for photo in drawn.photos:
        label = np.zeros(photo.label.shape, np.uint8)
        for line in (tmp_path / f"set/labels/train/{photo.id}.txt").read_text().splitlines():
            number, *values = line.split()
            points = np.array(values, float).reshape(-1, 2)
            assert points.min() >= 0 and points.max() <= 1
            label[even_odd((points * (40, 32)).tolist(), label.shape)] = int(number) + 1
        np.testing.assert_array_equal(label, np.where(photo.label == 255, 0, photo.label))


def test_the_labelling_interface_is_what_the_sdk_has_validated_the_predictions_for(drawn):
    assert (drawn.folder / "ours/interface.xml").read_text() == labelling_interface(drawn.classes)


@pytest.mark.parametrize("tool", [*FILES, "folders"])
def test_names_with_odd_characters(drawn, tmp_path, tool):
    name = "farm 1/a&b <c> \"d\" 'e' #1?x=2+3%41;ü.tar"
    photo = drawn.photos[1]
    (tmp_path / "photo.png").write_bytes(photo.image.read_bytes())
    path = tmp_path / TOOLS[tool].output
    TOOLS[tool].write([LabelledPhoto(f"{name}.png", tmp_path / "photo.png", 0.5, {}, photo.label)], drawn.classes, path)
    if tool == "labelstudio":
        annotated(path)
    found = []
    read_corrected(path, Photos([Sample(name, photo.image, ()), Sample("other", photo.image, ())], 1.0), drawn.classes, found.append)
    assert [one.sample.id for one in found] == [name]


@settings(max_examples=25, deadline=None)
@given(label=arrays.arrays(np.uint8, (9, 11), elements=st.sampled_from([0, 1, 2, 255])))
@pytest.mark.parametrize("tool", [*FILES, "folders"])
def test_any_label_map_comes_back(tmp_path_factory, tool, label):
    folder = tmp_path_factory.mktemp("any")
    Image.new("RGB", (11, 9)).save(folder / "photo.png")
    sample = Sample("a/photo", folder / "photo.png", (0, 1))
    path = folder / TOOLS[tool].output
    TOOLS[tool].write([LabelledPhoto("a/photo.png", sample.image, 0.5, {}, label)], ("x", "y & <z>"), path)
    if tool == "labelstudio":
        annotated(path)
    found = []
    read_corrected(path, Photos([sample], 1.0), ("x", "y & <z>"), found.append)
    np.testing.assert_array_equal(found[0].label, label)
