"""COCO instances: tags, and masks drawn from polygons, run lengths and crowds."""

import json

import numpy as np
import pytest
from pycocotools import mask as rle

from tfwsss.config import CocoData
from tfwsss.data.formats.coco import read_coco
from tfwsss.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 44, "name": "bottle"}]


def rectangle(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def annotation(number, image, category, shape, area=1.0, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "segmentation": shape,
        "area": area,
        "iscrowd": crowd,
    }


@pytest.fixture
def write(tmp_path):
    """write(annotations, ...) -> configuration; one photo number 7, a/one.jpg, 12 high and 20 wide."""

    def write(annotations, name="train.json", images=None, categories=CATEGORIES, classes=None, **content):
        images = images or [{"id": 7, "file_name": "a/one.jpg", "height": 12, "width": 20}]
        (tmp_path / "photos").mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories, **content}
        (tmp_path / name).write_text(json.dumps(content))
        return CocoData(
            format="coco",
            classes=classes,
            train_json=tmp_path / "train.json",
            train_images=tmp_path / "photos",
            val_json=tmp_path / "val.json",
            val_images=tmp_path / "photos",
        )

    return write


def only_mask(config):
    dataset = read_coco(config, "train")
    return dataset.mask(dataset.samples[0])


def test_tags_and_classes_in_file_order(write, tmp_path):
    images = [
        {"id": 7, "file_name": "a/one.jpg", "height": 12, "width": 20},
        {"id": 3, "file_name": "two.png", "height": 5, "width": 5},
    ]
    box = [rectangle(0, 0, 4, 4)]
    config = write([annotation(1, 7, 44, box), annotation(2, 7, 18, box), annotation(3, 7, 44, box)], images=images)
    dataset = read_coco(config, "train")
    assert dataset.classes == ("dog", "person", "bottle")
    assert [(s.id, s.image, s.tags) for s in dataset.samples] == [
        ("a/one", tmp_path / "photos/a/one.jpg", (0, 2)),
        ("two", tmp_path / "photos/two.png", ()),
    ]
    assert not dataset.mask(dataset.samples[1]).any()


def test_stdout_stays_clean(write, capsys):
    read_coco(write([]), "train")
    assert capsys.readouterr().out == ""


def test_small_objects_lie_over_large_ones_and_all_over_crowds(write):
    crowd = np.zeros((12, 20), np.uint8, order="F")
    crowd[:, 10:] = 1
    runs = rle.encode(crowd)
    runs["counts"] = runs["counts"].decode()
    config = write(
        [
            annotation(1, 7, 18, [rectangle(5, 4, 8, 8)], area=12),
            annotation(2, 7, 1, [rectangle(2, 2, 14, 10)], area=96),
            annotation(3, 7, 1, runs, area=500, crowd=1),
        ]
    )
    expected = np.zeros((12, 20), np.uint8)
    expected[:, 10:] = 255
    expected[2:10, 2:14] = 2
    expected[4:8, 5:8] = 1
    np.testing.assert_array_equal(only_mask(config), expected)


def test_uncompressed_run_lengths_go_down_the_columns(write):
    counts = [12 * 3 + 2, 4, 240 - 12 * 3 - 6]
    expected = np.zeros((12, 20), np.uint8)
    expected[2:6, 3] = 3
    shape = {"size": [12, 20], "counts": counts}
    np.testing.assert_array_equal(only_mask(write([annotation(1, 7, 44, shape)])), expected)


def test_some_of_the_classes(write):
    shapes = [annotation(1, 7, 18, [rectangle(0, 0, 5, 12)]), annotation(2, 7, 44, [rectangle(10, 0, 20, 12)])]
    config = write(shapes, classes=("bottle", "person"))
    dataset = read_coco(config, "train")
    assert dataset.classes == ("bottle", "person")
    assert dataset.samples[0].tags == (0,) and dataset.unknown_tags == (("dog", 1),)
    mask = dataset.mask(dataset.samples[0])
    assert (mask[:, :5] == 255).all() and (mask[:, 5:10] == 0).all() and (mask[:, 10:] == 1).all()


def test_val_uses_the_training_classes_by_name(write):
    write([annotation(1, 7, 18, [rectangle(0, 0, 5, 12)])])
    config = write(
        [annotation(1, 7, 2, [rectangle(0, 0, 5, 12)]), annotation(2, 7, 9, [rectangle(6, 0, 9, 12)])],
        name="val.json",
        categories=[{"id": 9, "name": "emu"}, {"id": 2, "name": "person"}],
    )
    val = read_coco(config, "val")
    assert val.classes == ("dog", "person", "bottle")
    assert val.samples[0].tags == (1,) and val.unknown_tags == (("emu", 1),)
    assert np.unique(val.mask(val.samples[0])).tolist() == [0, 2, 255]


def test_polygons_far_outside_are_cut_at_the_border(write):
    mask = only_mask(write([annotation(1, 7, 18, [[10, 0, 1e30, 0, 1e30, 1e30, 10, 1e30]])]))
    assert (mask[:, 10:] == 1).all() and not mask[:, :10].any()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"size": [20, 12], "counts": [240]}, r"a mask of \[20, 12\] \(height, width\), expected \[12, 20\]"),
        ({"size": [12, 20], "counts": [1000]}, "run lengths do not add up to 12x20"),
        ({"size": [12, 20], "counts": [-10, 250]}, "run lengths do not add up"),
        (
            {
                "size": [12, 20],
                "counts": rle.frPyObjects({"size": [9, 99], "counts": [9, 882]}, 9, 99)["counts"].decode(),
            },
            "mal",
        ),
        ({"counts": [240]}, "malformed segmentation"),
        ([[0, 0, 1, 1, float("nan"), 2]], "malformed segmentation: 6 coordinates"),
        ([[0, 0, 1, 1, 2, 2, 3]], "malformed segmentation: 7 coordinates"),
        ([["a"] * 6], "malformed segmentation"),
    ],
)
def test_malformed_shapes_are_named(write, shape, message):
    with pytest.raises(DataError, match=rf"train\.json, image 7, annotation 5: {message}"):
        only_mask(write([annotation(5, 7, 18, shape)]))


def test_size_limit_of_masks(write):
    image = {"id": 7, "file_name": "a.jpg", "height": 100_000, "width": 100_000}
    with pytest.raises(DataError, match="image 7: 100000x100000 px, the limit is 50 megapixels"):
        only_mask(write([], images=[image]))


def test_bad_files(write, tmp_path):
    config = write([])
    with pytest.raises(DataError, match=r"val\.json: .*No such file"):
        read_coco(config, "val")
    (tmp_path / "train.json").write_text("{")
    with pytest.raises(DataError, match=r"train\.json: not a COCO instances file"):
        read_coco(config, "train")
    (tmp_path / "train.json").write_text("[]")
    with pytest.raises(DataError, match=r"train\.json: not a COCO instances file"):
        read_coco(config, "train")
    (tmp_path / "train.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"train\.json: no list 'annotations'"):
        read_coco(config, "train")
    with pytest.raises(DataError, match=r"annotation 1: its image or category is not in the file"):
        read_coco(write([annotation(1, 7, 99, [])]), "train")
    with pytest.raises(DataError, match="entry lacks the field 'file_name'"):
        read_coco(write([], images=[{"id": 1, "height": 1, "width": 1}]), "train")
    with pytest.raises(DataError, match=r"data\.classes: wolf: no such category"):
        read_coco(write([], classes=("wolf",)), "train")
    image = {"id": 7, "file_name": "../a.jpg", "height": 3, "width": 3}
    with pytest.raises(DataError, match=r"image 7: '\.\./a\.jpg' leaves"):
        read_coco(write([], images=[image]), "train")
    twins = [{"id": i, "file_name": f"a.{s}", "height": 3, "width": 3} for i, s in enumerate(("jpg", "png"))]
    with pytest.raises(DataError, match=r"a\.png and a\.jpg differ only by suffix"):
        read_coco(write([], images=twins), "train")


def test_a_changed_file_is_read_again(write):
    assert read_coco(write([]), "train").samples[0].tags == ()
    assert read_coco(write([annotation(1, 7, 18, [])]), "train").samples[0].tags == (0,)


BOX_ONLY = [None, [], [[]], {}, [[1, 2, 3, 4]]]


@pytest.mark.parametrize("shape", BOX_ONLY)
def test_a_photo_with_a_box_but_no_outline_has_no_mask(write, shape):
    images = [{"id": number, "file_name": f"{number}.jpg", "height": 12, "width": 20} for number in (7, 8, 9)]
    boxes = [annotation(1, 7, 44, shape), annotation(2, 8, 44, shape)]
    dataset = read_coco(write(boxes, images=images), "train")
    assert dataset.masks is None and dataset.samples[0].tags == (2,)
    assert dataset.remarks == ("2 of 3 photos have objects with a box but no outline: they have no mask and are not scored",)
    outlined = [*boxes, annotation(3, 8, 18, [rectangle(0, 0, 4, 4)]), annotation(4, 9, 18, [rectangle(0, 0, 4, 4)])]
    dataset = read_coco(write(outlined, images=images), "train")
    assert [dataset.mask(sample) is None for sample in dataset.samples] == [True, True, False]


def test_a_field_that_is_absent_is_a_box_without_outline(write):
    bare = annotation(1, 7, 44, [])
    del bare["segmentation"]
    assert read_coco(write([bare]), "train").masks is None


@pytest.mark.parametrize("root", ["bottle", "things"])
def test_the_root_category_is_no_class(write, root):
    categories = [{"id": 0, "name": root, "supercategory": "none"}, {"id": 1, "name": "bottle", "supercategory": root}]
    dataset = read_coco(write([annotation(1, 7, 1, [rectangle(0, 0, 4, 4)])], categories=categories), "train")
    assert dataset.classes == ("bottle",) and dataset.samples[0].tags == (0,)
    assert dataset.remarks == (f"categories that no object has and that only stand above others are no classes: {root!r}",)
    # In use, it is a class like the others, and then two of one name are ambiguous.
    used = write([annotation(1, 7, 0, [rectangle(0, 0, 4, 4)])], categories=categories)
    if root == "bottle":
        with pytest.raises(DataError, match=r"train.json: categories: 'bottle' more than once; name those to use in data.classes"):
            read_coco(used, "train")
    else:
        assert read_coco(used, "train").classes == ("things", "bottle")


@pytest.mark.parametrize(("value", "crowd"), [("0", False), ("1", True), (0, False), (1, True), (False, False), (True, True), (None, False)])
def test_iscrowd_is_read_for_what_it_means(write, value, crowd):
    label = only_mask(write([annotation(1, 7, 18, [rectangle(0, 0, 20, 12)], crowd=value)]))
    assert set(np.unique(label)) == ({255} if crowd else {1})


@pytest.mark.parametrize("value", ["no", 2, [], "false"])
def test_an_iscrowd_that_means_nothing_is_refused(write, value):
    with pytest.raises(DataError, match=r"train.json: annotation 1: iscrowd: .* expected 0 or 1"):
        read_coco(write([annotation(1, 7, 18, [rectangle(0, 0, 4, 4)], crowd=value)]), "train")


def test_ids_that_stand_there_twice_are_refused(write):
    images = [{"id": 7, "file_name": name, "height": 12, "width": 20} for name in ("one.jpg", "two.jpg")]
    with pytest.raises(DataError, match="images: an id stands there more than once"):
        read_coco(write([], images=images), "train")
    with pytest.raises(DataError, match="categories: an id stands there more than once"):
        read_coco(write([], categories=[{"id": 1, "name": "dog"}, {"id": 1, "name": "cat"}]), "train")


def test_evaluation_file_without_its_photos(write):
    config = write([]).model_copy(update={"val_images": None})
    with pytest.raises(DataError, match=r"data\.val_images"):
        read_coco(config, "val")
