"""Corrected files that do not fit: one line that names the place, and nothing is taken for a mask."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from tfwsss.data.dataset import Sample
from tfwsss.errors import DataError
from tfwsss.exchange import TOOLS, LabelledPhoto, Photos
from tfwsss.exchange.labelled import require_names


def refusal(read, path):
    with pytest.raises(DataError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    return message


CVAT = [
    ('name="one.png"', 'name="eleven.png"', "image 1: 'eleven.png' is none of the 4 training photos"),
    ('name="one.png"', 'name="/two.png"', "'/two.png'|is photo 'two'"),
    ('name="one.png"', 'name="../../one.bmp/x"', "is none of the 4 training photos"),
    ('width="40" height="32"', 'width="41" height="32"', "has 41x32 px, expected the photo's 40x32"),
    ('width="40" height="32"', 'width="4000000" height="3200000"', "expected the photo's 40x32"),
    ('<mask label="disc"', '<mask label="cat"', "mask 1: label 'cat' is no class, expected background, ignore, square, disc"),
    ('<mask label="disc"', "<mask", "mask 1: has no label"),
    ('rle="', 'rle="1, ', "run lengths do not add up to"),
    ('rle="', 'rle="-5, ', "run lengths do not add up to"),
    ('rle="', 'rle="x, ', "invalid literal"),
    ('left="', 'left="30', "lies outside the photo's 40x32"),
    ('left="', 'left="nan" other="', "cannot convert float NaN"),
    ('left="', 'other="', "has no left"),
    ('z_order="0"', 'z_order="x"', "z_order: invalid literal"),
    ("<mask ", '<polyline label="disc" points="1,1;2,2"/><mask ', "polyline 1: has no area"),
    ("<mask ", '<polygon label="disc" points="1,1;2,2"/><mask ', "polygon 1: 2 points, expected three or more"),
    ("<mask ", '<polygon label="disc" points="1,1;2,2;inf,3"/><mask ', "expected three or more of finite numbers"),
    ("<mask ", '<polygon label="disc" points="1"/><mask ', "polygon 1: not enough values"),
    ("<mask ", '<box label="disc" xtl="1" ytl="1" xbr="5" ybr="5" rotation="30"/><mask ', "box 1: is rotated"),
    ("<image ", '<track id="1"/><image ', "this is CVAT for video"),
    ("<annotations>", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>", "document type declaration"),
    ("</annotations>", "", "not valid XML"),
]


@pytest.mark.parametrize(("old", "new", "message"), CVAT)
def test_cvat(drawn, tmp_path, old, new, message):
    text = (drawn.folder / "ours/cvat.xml").read_text()
    place = text.index(old, text.index("<annotations>") if old in ("<annotations>", "</annotations>", "<image ") else text.index('<image id="1"'))
    (tmp_path / "a.xml").write_text(text[:place] + text[place:].replace(old, new, 1))
    assert re.search(message, refusal(drawn.read, tmp_path / "a.xml"))


def test_cvat_of_nothing(drawn, tmp_path):
    (tmp_path / "a.xml").write_text("<annotations/>")
    assert "no images" in refusal(drawn.read, tmp_path / "a.xml")


def change(*path, to):
    """A function that sets or, with to=None, removes what is at a path in the first task with a disc."""

    def apply(tasks):
        place = tasks[0]
        for key in path[:-1]:
            place = place[key]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return apply


RESULT = ("annotations", 0, "result", 0)
LABEL_STUDIO = [
    (change("data", "image", to="/data/upload/1/0123abcd-eleven.png"), "task 1: .*eleven.png' is none of the 4 training photos"),
    (change("data", to={}), "0 texts in data end like a photo"),
    (change("annotations", to="x"), "not Label Studio's JSON"),
    (change("annotations", 0, "result", to={}), "an annotation without a list `result`"),
    (change(*RESULT, to=5), "an annotation without a list `result` of objects"),
    (change(*RESULT, "original_width", to=41), "result 1: has 41x32 px, expected the photo's 40x32"),
    (change(*RESULT, "original_width", to=None), "result 1: has Nonex32 px"),
    (change(*RESULT, "image_rotation", to=90), "result 1: is rotated"),
    (change(*RESULT, "type", to="keypointlabels"), "keypointlabels: expected one label"),
    (change(*RESULT, "value", "brushlabels", to=["disc", "square"]), "brushlabels: expected one label"),
    (change(*RESULT, "value", "brushlabels", to=["cat"]), "label 'cat' is no class"),
    (change(*RESULT, "value", "format", to="png"), "a brush of format 'png', expected rle"),
    (change(*RESULT, "value", "rle", to=[1, 2]), "ends early"),
    (change(*RESULT, "value", "rle", to={"a": 1}), "list of bytes"),
    (change(*RESULT, "value", "rle", to=[[1], [2, 3]]), "result 1: "),
    (change(*RESULT, "value", "rle", to=None), "has no 'rle'"),
    (change(*RESULT, to={"type": "polygonlabels", "original_width": 40, "original_height": 32, "value": {"polygonlabels": ["disc"], "points": [[1, 2], ["a", 3], [4, 5]]}}), "result 1: "),
    (change(*RESULT, to={"type": "keypointlabels", "original_width": 40, "original_height": 32, "value": {"keypointlabels": ["disc"]}}), "keypointlabels: has no area"),
    (lambda tasks: tasks[0]["annotations"].append({"result": []}), "2 annotations, expected one; cancel the others"),
    (lambda tasks: [task.update(annotations=[]) for task in tasks], "no task with an annotation"),
    (lambda tasks: tasks.append(tasks[0]), "is photo 'one', as .*task 1 is"),
]


@pytest.mark.parametrize(("damage", "message"), LABEL_STUDIO)
def test_label_studio(drawn, tmp_path, damage, message):
    tasks = json.loads((drawn.folder / "tools/labelstudio.json").read_text())
    damage(tasks)
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    assert re.search(message, refusal(drawn.read, tmp_path / "a.json"))


def set_first(key, field, value):
    return lambda content: content[key][0].__setitem__(field, value)


COCO = [
    (set_first("images", "file_name", "eleven.png"), "image 1: 'eleven.png' is none of the 4 training photos"),
    (set_first("images", "width", 41), "has 41x32 px, expected the photo's 40x32"),
    (set_first("categories", "name", "cat"), "category 1: label 'cat' is no class"),
    (lambda content: [one.pop("segmentation") for one in content["annotations"]], "has an object with a box but no outline"),
    (lambda content: content["annotations"][0]["segmentation"].__setitem__("counts", "00"), "annotation 1: "),
    (lambda content: content.pop("categories"), "no list 'categories'|lacks the field"),
    (lambda content: content.update(images=[], annotations=[]), "lists no images"),
]


@pytest.mark.parametrize(("damage", "message"), COCO)
def test_coco(drawn, tmp_path, damage, message):
    content = json.loads((drawn.folder / "ours/coco.json").read_text())
    damage(content)
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert re.search(message, refusal(drawn.read, tmp_path / "a.json"))


def test_folders(drawn, tmp_path):
    folder = tmp_path / "masks"
    folder.mkdir()
    assert "no PNG masks" in refusal(drawn.read, folder)
    for name, values, message in (
        ("one", np.full((32, 40), 3, np.uint8), "values 3, expected 0..2 and 255"),
        ("one", np.zeros((32, 41), np.uint8), "has 41x32 px, expected the photo's 40x32"),
        ("one", np.zeros((32, 40, 3), np.uint8), "a mask of mode RGB"),
        ("eleven", np.zeros((32, 40), np.uint8), "'eleven.png' is none of the 4 training photos"),
    ):
        Image.fromarray(values).save(folder / f"{name}.png")
        assert message in refusal(drawn.read, folder)
        (folder / f"{name}.png").unlink()
    Image.fromarray(np.zeros((32, 40), np.uint8)).save(folder / "one.png")
    (folder / "data.yaml").write_text("names: [")
    assert "data.yaml: cannot be read" in refusal(drawn.read, folder)


def test_other_files(drawn, tmp_path):
    for name, text, message in (("a.txt", "x", "expected CVAT's .xml"), ("a.json", "{", "not valid JSON"), ("a.json", "5", "not a COCO instances file")):
        (tmp_path / name).write_text(text)
        assert message in refusal(drawn.read, tmp_path / name)
    for name in ("no.txt", "no.xml", "no.json"):
        assert "no such file" in refusal(drawn.read, tmp_path / name)


def test_photos_are_found_by_the_end_of_their_path(drawn):
    one, other, alone = (Sample(name, drawn.samples[0].image, ()) for name in ("a/x", "b/x", "c/deep.er/y"))

    def find(text, *others):
        return Photos([one, other, alone], 1.0).find(text, "here", others)

    assert find("task/b/x.jpg") is other and find("a\\x.png") is one and find("y.JPG") is alone and find("deep.er/y.jpg") is alone
    assert find("0123abcd-y.png", "y.png") is alone
    for text, message in (("x.jpg", "may be 'a/x' or 'b/x'"), ("z/x", "is none of"), ("", "is none of"), ("ay.jpg", "is none of")):
        with pytest.raises(DataError, match=message):
            find(text)


def test_names_that_a_form_cannot_hold(drawn, tmp_path):
    with pytest.raises(DataError, match="characters that XML cannot hold"):
        TOOLS["cvat"].write([LabelledPhoto("a\x01.png", drawn.photos[0].image, 1.0, {}, drawn.photos[0].label)], drawn.classes, tmp_path / "a.xml")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="class 'ignore'"):
        require_names(("dog", "ignore"))


def test_shapes_drawn_by_hand_lie_on_top(drawn, tmp_path):
    text = (drawn.folder / "ours/cvat.xml").read_text()
    shapes = '<box label="background" xtl="0" ytl="0" xbr="40" ybr="4" z_order="1"/><polygon label="square" points="0,0;4,0;4,4;0,4" z_order="2"/><ellipse label="disc" cx="20" cy="20" rx="4" ry="4"/><tag label="disc"/>'
    text = text.replace('<image id="3" name="two.png" width="40" height="32">', f'<image id="3" name="two.png" width="40" height="32">{shapes}')
    (tmp_path / "a.xml").write_text(text)
    label = drawn.read(tmp_path / "a.xml")["two"]
    assert (label[:4, :4] == 1).all() and not label[:4, 4:].any()
    assert label[20, 20] == 2 and label[4, 39] == 255
    tasks = json.loads((drawn.folder / "tools/labelstudio.json").read_text())
    place = {"original_width": 40, "original_height": 32}
    tasks[2]["annotations"][0]["result"] = [
        {**place, "type": "rectanglelabels", "value": {"x": 0, "y": 0, "width": 50, "height": 50, "rectanglelabels": ["disc"]}},
        {**place, "type": "polygonlabels", "value": {"points": [[0, 0], [25, 0], [25, 25], [0, 25]], "polygonlabels": ["square"]}},
        {"type": "choices", "value": {"choices": ["blurred"]}},
    ]
    (tmp_path / "a.json").write_text(json.dumps(tasks))
    expected = np.zeros((32, 40), np.uint8)
    expected[:16, :20], expected[:8, :10] = 2, 1
    np.testing.assert_array_equal(drawn.read(tmp_path / "a.json")["three"], expected)
