"""The VOC devkit layout and PSA's lists and tags."""

import io
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from tfwsss.config import VocData
from tfwsss.data.cls_labels import read_cls_labels
from tfwsss.data.formats.voc import CLASSES, read_voc
from tfwsss.errors import DataError


@pytest.fixture
def devkit(tmp_path):
    """devkit(train=ids or lines, xml={id: object names}): writes the parts that are given."""

    def write(train=None, xml=None):
        if train is not None:
            folder = tmp_path / "ImageSets/Segmentation"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "train.txt").write_text("\n".join(train) + "\n")
        for image_id, names in (xml or {}).items():
            objects = "".join(
                f"<object><name>{n}</name><difficult>1</difficult><part><name>head</name></part></object>"
                for n in names
            )
            path = tmp_path / "Annotations" / f"{image_id}.xml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(f"<annotation><filename>x</filename>{objects}</annotation>")

    return write


@pytest.fixture
def read(tmp_path):
    return lambda split="train", **fields: read_voc(VocData(format="voc", root=tmp_path, **fields), split)


def test_tags_come_from_the_annotations(devkit, read, tmp_path):
    devkit(["2007_000032", "2007_000039"], {"2007_000032": ["person", "aeroplane", "person"]})
    dataset = read()
    assert dataset.classes == CLASSES and len(CLASSES) == 20
    assert [(s.id, s.image, s.tags) for s in dataset.samples] == [
        ("2007_000032", tmp_path / "JPEGImages/2007_000032.jpg", (0, 14)),
        ("2007_000039", tmp_path / "JPEGImages/2007_000039.jpg", ()),
    ]
    assert dataset.unknown_tags == ()  # parts of persons are no objects


def test_psa_list_as_a_path(devkit, read, tmp_path):
    devkit(xml={"2007_000032": ["cat"]})
    listed = tmp_path / "train_aug.txt"
    listed.write_text("/JPEGImages/2007_000032.jpg /SegmentationClassAug/2007_000032.png\n\n")
    for name in (str(listed), "train_aug.txt"):
        (sample,) = read(train_list=name).samples
        assert (sample.id, sample.image) == ("2007_000032", tmp_path / "JPEGImages/2007_000032.jpg")


def test_some_of_the_classes(devkit, read, write_mask):
    devkit(["a"], {"a": ["sofa", "dog", "cat"]})
    # VOC numbers: cat 8, dog 12, sofa 18; 21 is none of them
    write_mask("SegmentationClass", "a", [[0, 8, 12], [18, 255, 21]])
    dataset = read(classes=("dog", "cat"))
    assert dataset.samples[0].tags == (0, 1)
    assert dataset.unknown_tags == (("sofa", 1),)
    np.testing.assert_array_equal(dataset.mask(dataset.samples[0]), [[0, 2, 1], [255, 255, 255]])
    assert dataset.masks.unknown_values(dataset.samples[0]) == (21,)


def test_all_classes_keep_their_numbers(devkit, read, write_mask):
    devkit(["a"], {"a": ["dog"]})
    label = np.r_[np.arange(21), 255].reshape(2, 11)
    write_mask("SegmentationClass", "a", label)
    dataset = read()
    np.testing.assert_array_equal(dataset.mask(dataset.samples[0]), label)


def test_masks_are_optional(devkit, read):
    devkit(["a"], {"a": ["dog"]})
    assert read().masks is None
    assert read("val", val_list=None) is None


def test_tags_from_a_table_by_id_or_by_path(devkit, read, write_table):
    devkit(["a", "b", "c"])
    write_table("JPEGImages/a.jpg,cat|dog", "b,sheep|zebra")
    dataset = read(tags="tags.csv")
    assert [s.tags for s in dataset.samples] == [(7, 11), (16,), ()]
    assert dataset.unknown_tags == (("zebra", 1),)


def test_evaluation_photos_need_no_tags(devkit, read, tmp_path):
    devkit(["a"])
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("b\n")
    assert read("val").samples[0].tags == ()
    with pytest.raises(DataError, match=r"data\.tags: no folder .*Annotations"):
        read("train")


@pytest.mark.parametrize("line", ["../secret", "/../../secret.jpg x", "/JPEGImages/../../x.jpg y", "//etc/x.jpg y"])
def test_lists_cannot_leave_the_folder(devkit, read, line):
    devkit([line], {"a": ["dog"]})
    with pytest.raises(DataError, match=r"train\.txt, line 1: .* leaves the data set's folder"):
        read()


def test_bad_lists_and_classes(devkit, read, write_table, tmp_path):
    devkit(["a", "b", "a"], {"a": ["dog"]})
    with pytest.raises(DataError, match=r"train\.txt, line 3: 'a' is listed twice"):
        read()
    with pytest.raises(DataError, match=r"no image list 'trian': tried .*trian\.txt, "):
        read(train_list="trian")
    with pytest.raises(DataError, match=r"'aeroplan' is not a class of PASCAL VOC; did you mean 'aeroplane'"):
        read(classes=("aeroplan",))
    devkit([""])
    with pytest.raises(DataError, match="the list is empty"):
        read()
    devkit(["a"])
    write_table("z,dog")
    with pytest.raises(DataError, match=r"tags\.csv knows none of the 1 training photos, such as 'a'"):
        read(tags="tags.csv")


def test_entities_in_annotations_are_refused(devkit, read, tmp_path):
    devkit(["a"], {"a": ["dog"]})
    bomb = (
        '<!DOCTYPE x [<!ENTITY a "dog"><!ENTITY b "&a;&a;">]><annotation><object><name>&b;</name></object></annotation>'
    )
    (tmp_path / "Annotations/a.xml").write_text(bomb)
    with pytest.raises(DataError, match=r"a\.xml: has a document type declaration"):
        read()
    (tmp_path / "Annotations/a.xml").write_text("<annotation><object>")
    with pytest.raises(DataError, match=r"a\.xml: not valid XML"):
        read()


# ------------------------------------------------------------------------------------------------ cls_labels


def write_npy(path, content, protocol=None):
    header = io.BytesIO()
    np.save(header, np.array({}, dtype=object), allow_pickle=True)
    start = header.getvalue()
    start = start[: start.index(b"\n") + 1]
    path.write_bytes(start + pickle.dumps(content, protocol))
    return path


def labels(*present):
    return np.isin(np.arange(20), present).astype(np.float32)


def test_cls_labels_as_numpy_writes_them(tmp_path, devkit, read):
    path = tmp_path / "cls_labels.npy"
    np.save(path, {"2007_000032": labels(0, 14), "2007_000039": labels(19)}, allow_pickle=True)
    found = read_cls_labels(path)
    assert list(found) == ["2007_000032", "2007_000039"]
    np.testing.assert_array_equal(found["2007_000032"], labels(0, 14) > 0)
    devkit(["2007_000039", "2007_000032", "2007_000033"])
    assert [s.tags for s in read(tags="cls_labels.npy").samples] == [(19,), (0, 14), ()]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_cls_labels_of_every_pickle_protocol(tmp_path, protocol):
    content = np.array({"a": labels(3), "b": labels(4, 5)}, dtype=object)
    if protocol == 5:
        with pytest.raises(DataError, match="refused: it (names numpy|uses the operation BYTEARRAY8)"):
            read_cls_labels(write_npy(tmp_path / "c.npy", content, protocol))
        return
    found = read_cls_labels(write_npy(tmp_path / "c.npy", content, protocol))
    np.testing.assert_array_equal(found["b"], labels(4, 5) > 0)


def test_cls_labels_with_the_number_keys_of_irn(tmp_path):
    np.save(tmp_path / "c.npy", {2007000032: labels(1), np.int32(2011003276): labels(2)}, allow_pickle=True)
    assert list(read_cls_labels(tmp_path / "c.npy")) == ["2007_000032", "2011_003276"]


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: np.array(x, dtype=object), lambda x: {"a": x}])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_malicious_cls_labels_run_nothing(tmp_path, wrap, protocol):
    trace = tmp_path / "trace"
    for attack in (Runs(os.system, f"touch {trace}"), Runs(eval, f"open({str(trace)!r}, 'w')"), Runs(Path, "x")):
        path = write_npy(tmp_path / "c.npy", wrap(attack), protocol)
        with pytest.raises(DataError, match=r"c\.npy: refused: it names \w+\.\w+, which tags do not need"):
            read_cls_labels(path)
    assert not trace.exists()


def test_allowed_names_cannot_be_changed_by_the_pickle(tmp_path):
    # BUILD with a (state, slots) pair sets attributes on whatever find_class returned.
    attack = b"cnumpy\ndtype\n(N}S'_function'\nI1\nstb."
    path = write_npy(tmp_path / "c.npy", None)
    path.write_bytes(path.read_bytes().removesuffix(pickle.dumps(None)) + attack)
    with pytest.raises(DataError, match="refused: sets the attribute _function"):
        read_cls_labels(path)
    np.save(tmp_path / "good.npy", {"a": labels(1)}, allow_pickle=True)
    assert list(read_cls_labels(tmp_path / "good.npy")) == ["a"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected a dict"),
        ({"a": np.float32([0, 2])}, r"'a': expected 2 values of 0 or 1, found \[0.0, 2.0\]"),
        ({"a": labels(1), "b": labels(1)[:5]}, "'b': expected 20 values"),
        ({"a": np.zeros((2, 2))}, "'a': expected a vector"),
        ({"a": "text"}, "'a': expected a vector"),
        ({1.5: labels(1)}, "the key 1.5 is no image id"),
        (["a"], "expected a dict"),
    ],
)
def test_cls_labels_of_another_kind(tmp_path, content, message):
    box = np.empty((), object)
    box[()] = content
    with pytest.raises(DataError, match=rf"c\.npy: {message}"):
        read_cls_labels(write_npy(tmp_path / "c.npy", box, 3))


def test_cls_labels_that_are_no_such_file(tmp_path, devkit, read):
    np.save(tmp_path / "numbers.npy", np.zeros((3, 20), np.float32))
    with pytest.raises(DataError, match=r"numbers\.npy: an array float32 \[3, 20\], expected one pickled dict"):
        read_cls_labels(tmp_path / "numbers.npy")
    (tmp_path / "text.npy").write_text("hello")
    with pytest.raises(DataError, match=r"text\.npy: not a \.npy file"):
        read_cls_labels(tmp_path / "text.npy")
    with pytest.raises(DataError, match="no such file"):
        read_cls_labels(tmp_path / "none.npy")
    devkit(["a"])
    np.save(tmp_path / "six.npy", {"a": labels(1)[:6]}, allow_pickle=True)
    with pytest.raises(DataError, match=r"six\.npy: 'a' has 6 values, expected 20"):
        read(tags="six.npy")


# ------------------------------------------------------------------------------------------------ real photos


@pytest.mark.photos
@pytest.mark.skipif("TFWSSS_PHOTOS" not in os.environ, reason="TFWSSS_PHOTOS names no VOC devkit with tags.csv")
def test_real_photos():
    from tfwsss.data.check import check_images

    classes = ("cat", "cow", "dog", "horse", "sheep", "person")
    root = Path(os.environ["TFWSSS_PHOTOS"])
    config = VocData(format="voc", root=root, tags="tags.csv", mask_folder="SegmentationClassAug", classes=classes)
    val = read_voc(config, "val")
    assert len(val) > 0 and (val.tag_matrix().sum(axis=1) >= 1).all()
    problems, digests = check_images(val, workers=2, require_tags=True)
    assert problems == [] and set(digests) == {s.id for s in val.samples}
    for sample in val.samples[:50]:
        mask = val.mask(sample)
        assert mask.shape == val.read(sample).shape[:2]
        assert val.masks.unknown_values(sample) == ()
        drawn = set(np.unique(mask).tolist()) - {0, 255}
        assert drawn <= {tag + 1 for tag in sample.tags}
