"""Tables of other people: their columns, delimiters, encodings and notations, detected and read."""

import pytest

from tests.data.formats.conftest import tags_of, unknown_of
from tfwsss.data.recognition import recognise
from tfwsss.errors import DataError

NAMES = ("a", "b", "c")


@pytest.fixture
def photos(write_photo):
    for number, name in enumerate(NAMES):
        write_photo(f"{name}.png", seed=number)


@pytest.fixture
def table(photos, tmp_path, read_data):
    """table(text, name=..., encoding=..., **fields): (what is recognised, the data set)."""

    def write(text, name="tags.csv", encoding="utf-8", **fields):
        (tmp_path / name).write_bytes(text.encode(encoding))
        found = recognise(tmp_path / name)
        return found, read_data({**found.data, **fields})

    return write


def test_three_states_of_a_tag(table):
    found, dataset = table("image,tags\na.png,dog|?cat\nb.png,cat|-dog\nc.png, cat | dog \n")
    assert tags_of(dataset) == {"a": ["dog"], "b": ["cat"], "c": ["cat", "dog"]} and unknown_of(dataset) == {"a": ["cat"]}
    assert dataset.tag_matrix().tolist() == [[0, 1], [1, 0], [1, 1]] and dataset.known_matrix().tolist() == [[0, 1], [1, 1], [1, 1]]
    _, open_ended = table("image,tags\na.png,dog|?cat\nb.png,cat|-dog\nc.png,cat\n", unlisted="unknown")
    assert unknown_of(open_ended) == {"a": ["cat"], "c": ["dog"]}


@pytest.mark.parametrize(("tags", "words"), [("dog|?dog", "present and as unknown"), ("dog|-dog", "present and as absent"), ("?dog|-dog", "unknown and as absent")])
def test_a_tag_in_two_states(table, tags, words):
    with pytest.raises(DataError, match=rf"tags.csv, line 3: 'dog' is given as {words}"):
        table(f"image,tags\na.png,dog\nb.png,{tags}\n")


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("image;tags\na.png;dog\nb.png;dog|cat\nc.png;\n", {"delimiter": ";"}),
        ("file_name\tlabel\na.png\tdog\nb.png\tdog,cat\nc.png\t\n", {"delimiter": "\t", "separator": ",", "image_column": "file_name"}),
        ("filename,labels\na.png,dog\nb.png,dog cat\nc.png,cat\n", {"separator": " "}),
        ("image,tags\na.png,\"['dog']\"\nb.png,\"['dog', 'cat']\"\nc.png,[]\n", {"separator": "list"}),
        ("a.png,dog\nb.png,dog|cat\nc.png,\n", {"header": False, "image_column": "1", "tags_column": "2"}),
        ("image_id, dog, cat\na.png, 1, 0\nb.png, 1, 1\nc.png, 0, 0\n", {"layout": "one_hot", "image_column": "image_id"}),
        ("image_id,dog,cat\na,1,0\nb,1.0,true\nc,0,\n", {"layout": "one_hot", "suffix": ".png"}),
        ("image_id,width,dog,cat\na.png,40,1,0\nb.png,41,1,1\nc.png,42,0,0\n", {"layout": "one_hot", "classes": ["dog", "cat"]}),
        ("image,label\na.png,dog\nb.png,dog\nb.png,cat\nc.png,cat\n", {"layout": "long"}),
    ],
)
def test_dialects_are_detected_and_read(table, text, fields):
    found, dataset = table(text)
    assert {name: found.data.get(name) for name in fields} == fields
    tags = {key: sorted(names) for key, names in tags_of(dataset).items()}
    assert tags["a"] == ["dog"] and tags["b"] == ["cat", "dog"] and set(dataset.classes) == {"dog", "cat"}
    assert any("delimiter" in line for line in found.says)


@pytest.mark.parametrize(("encoding", "named"), [("cp1252", "cp1252"), ("utf-16", "utf-16"), ("utf-8-sig", "utf-8")])
def test_encodings(table, encoding, named):
    found, dataset = table("image,tags\na.png,Käse\nb.png,dog\n", encoding=encoding)
    assert found.data["encoding"] == named and dataset.classes == ("Käse", "dog")


def test_combinations_are_noticed_before_they_become_classes(table):
    found, _ = table("image;tags\na.png;dog,person\nb.png;dog\nc.png;person,dog\n")
    assert found.data["separator"] == ","
    assert any("without it 2 combinations such as 'dog,person' would be classes of their own" in line for line in found.says)


def test_unknown_in_one_hot(table):
    _, dataset = table("image,dog,cat\na.png,1,-1\nb.png,0,1\nc.png,?,\n", unlisted="unknown")
    assert unknown_of(dataset) == {"a": ["cat"], "c": ["dog", "cat"]} and dataset.classes == ("dog", "cat")


def test_groups_stand_in_a_column(table, write_photo):
    for number in range(40):
        write_photo(f"p{number}.png", seed=number)
    rows = "".join(f"p{number}.png,dog,scene{number // 4}\n" for number in range(40))
    found, dataset = table(f"image,tags,group\n{rows}", val_fraction=0.3)
    assert 0 < len(dataset) < 40
    groups = {sample.group for sample in dataset.samples}
    assert all(sum(sample.group == group for sample in dataset.samples) == 4 for group in groups)


def test_copies_by_roboflow_stay_together(table, write_photo, tmp_path, read_data):
    (tmp_path / "train").mkdir()
    names = [f"{original}_jpg.rf.{copy:032x}" for original in range(12) for copy in range(3)]
    for number, name in enumerate(names):
        write_photo(f"train/{name}.png", seed=number)
    (tmp_path / "train/_classes.csv").write_text("filename, dog, cat\n" + "".join(f"{name}.png, 1, 0\n" for name in names[:-1]) + f"{names[-1]}.png, 0, 1\n")
    found = recognise(tmp_path / "train")
    assert found.data["layout"] == "one_hot" and found.data["root"] == tmp_path / "train"
    train, val = (read_data({**found.data, "val_fraction": 0.4}, split) for split in ("train", "val"))
    assert len(train) + len(val) == 36 and not {s.group for s in train.samples} & {s.group for s in val.samples}
    assert len({sample.group for sample in (*train.samples, *val.samples)}) == 12


def test_roboflow_splits_have_a_table_each(write_photo, tmp_path, read_data):
    for number, split in enumerate(("train", "valid")):
        write_photo(f"{split}/x.png", seed=number)
        (tmp_path / split / "_classes.csv").write_text("filename, dog, cat\nx.png, 1, 1\n")
    found = recognise(tmp_path)
    assert found.data["train_csv"] == "train/_classes.csv" and found.data["val_csv"] == "valid/_classes.csv" and found.data["relative_to"] == "table"
    assert read_data(found.data).samples[0].image == tmp_path / "train/x.png"
    assert read_data(found.data, "val").samples[0].id == "valid/x"


def test_mask_values_are_no_tags(write_photo, tmp_path):
    write_photo("train/x.png")
    (tmp_path / "train/_classes.csv").write_text("Pixel Value, Class\n0, background\n1, dog\n")
    with pytest.raises(DataError, match="`Pixel Value, Class`: a list of mask values, no table of tags"):
        recognise(tmp_path / "train")


def test_open_images_codes_get_names(table, tmp_path):
    (tmp_path / "class-descriptions.csv").write_text("/m/01,Dog\n/m/02,\"Cat, tame\"\n")
    text = "ImageID,Source,LabelName,Confidence\na,verification,/m/01,1\na,machine,/m/02,0.7\nb,verification,/m/02,1\nb,verification,/m/01,0\nb,crowdsource,/m/02,0\n"
    _, dataset = table(text, "train-annotations.csv", class_names="class-descriptions.csv")
    assert dataset.classes == ("Dog",) and tags_of(dataset) == {"a": ["Dog"], "b": []}
    _, dataset = table(text, "train-annotations.csv", class_names="class-descriptions.csv", classes=["Dog", "Cat, tame"])
    assert unknown_of(dataset) == {"a": ["Cat, tame"], "b": ["Cat, tame"]}  # doubtful, and contradictory
    with pytest.raises(DataError, match="line 2: confidence '7', expected a number in 0..1"):
        table("ImageID,LabelName,Confidence\na,dog,7\n")


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        ("image,tags\na.png,dog\n", {"separator": "list"}, r"line 2: 'dog', expected a list such as"),
        ("image,tags\na.png,\"['dog'\"\n", {"separator": "list"}, r"line 2: .* expected a list"),
        ("image,dog,cat\na.png,1,0.3\n", {"layout": "one_hot", "tags_column": "x"}, r"line 2: column 'cat': '0.3', expected 1, 0, -1 or nothing"),
        ("image,tags\na.png,dog\n", {"image_column": "photo"}, r"line 1: expected the columns photo,tags"),
        ("image,tags\na.png,dog\n", {"train_csv": "none.csv"}, r"none.csv: no such file, expected a table"),
        ("image,tags\na.png,dog\n", {"groups": ("groups.csv",)}, r"data.groups: .*groups.csv: no such file"),
    ],
)
def test_tables_that_are_otherwise_than_the_configuration_says(photos, tmp_path, read_data, text, fields, message):
    (tmp_path / "tags.csv").write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        read_data({"format": "folder", "root": tmp_path, **fields})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "message"),
    [("{", "line 2: not valid JSON"), ("[]", "line 2: list, expected an object"), ('{"file_name": "b.png", "tags": {"a": 1}}', "line 2: an object where tags are expected"), ('{"file_name": "b.png", "tags": [[1]]}', "line 2: a list of something else")],
)
def test_bad_lines_of_json(photos, tmp_path, read_data, line, message):
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png", "tags": ["dog"]}\n' + line)
    with pytest.raises(DataError, match=message):
        read_data({"format": "folder", "root": tmp_path, "train_csv": "metadata.jsonl", "image_column": "file_name"})


def test_a_table_whose_photos_are_nowhere(tmp_path):
    (tmp_path / "tags.csv").write_text("image,tags\nx.png,dog\n")
    with pytest.raises(DataError, match="'x.png', 0 of 1 are in the folders near it; name theirs with --photos"):
        recognise(tmp_path)


def test_a_folder_that_can_be_read_in_two_ways_asks(write_photo, tmp_path):
    for number, name in enumerate(("dog/a", "cat/b")):
        write_photo(f"{name}.png", seed=number)
    (tmp_path / "tags.csv").write_text("image,tags\ndog/a.png,dog|wolf\ncat/b.png,cat\n")
    with pytest.raises(DataError) as caught:
        recognise(tmp_path)
    assert "can be read in 2 ways; which one is meant?" in str(caught.value)
    assert "--format folder: table tags.csv" in str(caught.value) and "--format class_folders: a folder for each class" in str(caught.value)
    assert recognise(tmp_path, "folder").data["format"] == "folder"
    with pytest.raises(DataError, match="--format tables: expected one of"):
        recognise(tmp_path, "tables")
    with pytest.raises(DataError, match="no cvat"):
        recognise(tmp_path, "cvat")
