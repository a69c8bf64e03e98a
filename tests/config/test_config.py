"""Configuration files: what a user gets for a typo, how presets build on each other, and that nothing is lost on disk."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tfwsss.config import Config, schema
from tfwsss.config.files import PRESET_FOLDER, load_config, parse_config, preset_names
from tfwsss.config.strict_yaml import load_yaml
from tfwsss.errors import ConfigError

SCENES = {"format": "scenes"}


def flatten(value, prefix="") -> dict:
    if not isinstance(value, dict):
        return {prefix: value}
    return {name: leaf for key, part in value.items() for name, leaf in flatten(part, f"{prefix}.{key}".lstrip(".")).items()}


def message(values) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_config(values, "my.yaml")
    first, *lines = str(caught.value).splitlines()
    assert first == "my.yaml:"
    return [line.strip() for line in lines]


def write(folder, name, values):
    path = folder / name
    path.write_text(values if isinstance(values, str) else yaml.safe_dump(values))
    return path


# --------------------------------------------------------------------------------------------------- messages


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"clasifier": {}}, "clasifier: unknown field; did you mean 'classifier'?"),
        ({"classifier": {"epoch": 3}}, "classifier.epoch: unknown field; did you mean 'epochs'?"),
        ({"segmenter": {"model": {"bakbone": "vgg16"}}}, "segmenter.model.bakbone: unknown field; did you mean 'backbone'?"),
        ({"pseudo_labels": {"crf": {"iteration": 3}}}, "pseudo_labels.crf.iteration: unknown field; did you mean 'iterations'?"),
        ({"switches": {"zzz": 1}}, "switches.zzz: unknown field"),
        # The format of the data set is no part of the name.
        ({"data": {"format": "scenes", "sise": 3}}, "data.sise: unknown field; did you mean 'size'?"),
        ({"data": {"format": "voc", "root": "x", "train_lst": "y"}}, "data.train_lst: unknown field; did you mean 'train_list'?"),
        ({"data": {"format": "voc", "root": "x", "size": 3}}, "data.size: unknown field"),  # a field of another format
        ({"data": {"format": "coco"}}, "data.train_json: required field is missing"),
        ({"data": {"format": "scenez"}}, "data.format: found 'scenez', expected one of voc, coco, folder, class_folders, label_studio, cvat, fiftyone, parquet, tfrecord, scenes; did you mean 'scenes'?"),
        ({"data": {}}, "data.format: found None, expected one of voc, coco, folder, class_folders, label_studio, cvat, fiftyone, parquet, tfrecord, scenes"),
        ({"classifier": {"epochs": "many"}}, "classifier.epochs: Input should be a valid integer, unable to parse string as an integer, found 'many'"),
        ({"classifier": 3}, "classifier: Input should be a valid dictionary or instance of Classifier, found 3"),
        ({"cams": {"scales": [1, "a"]}}, "cams.scales.1: Input should be a valid number, unable to parse string as a number, found 'a'"),
        ({"cams": {"scales": []}}, "cams.scales: Tuple should have at least 1 item after validation, not 0, found []"),
        ({"classifier": {"resize_long": [512, 256]}}, "classifier.resize_long: expected the smaller number first, found [512, 256]"),
        ({"classifier": {"optimizer": {"learning_rate": float("nan")}}}, "classifier.optimizer.learning_rate: Input should be a finite number, found nan"),
        ({"affinitynet": {"crop": 60}}, "affinitynet: crop: expected a multiple of 8 and at least 72 for radius 5, found 60"),
        ({"affinitynet": {"crop": 72, "radius": 6}}, "affinitynet: crop: expected a multiple of 8 and at least 88 for radius 6, found 72"),
        ({"classifier": {"epochs": 0}}, "classifier: epochs: 0 needs the file of a trained network as model.weights, found None"),
        ({"segmenter": {"labels": "masks"}}, "configuration: segmenter.labels: masks needs data.strong_masks, which names the masks that training may learn from"),
        ({"affinitynet": {"labels": "masks", "label_source": "scores"}}, "affinitynet: label_source: scores are the CRF's, which labels: masks does without; expected label_source: labels"),
        # A field that takes a name or a section: what is said is about the one that was meant.
        ({"affinity_labels": {"alphas": "psa"}}, "affinity_labels.alphas: Input should be 'auto', 'psa-released' or 'psa-cvpr', found 'psa'"),
        ({"affinity_labels": {"alphas": {"low": 9, "high": 4, "walk": 6}}}, "affinity_labels.alphas: expected low <= walk <= high"),
        ({"affinity_labels": {"alphas": {"low": 1, "high": 4, "wlk": 2, "walk": 2}}}, "affinity_labels.alphas.wlk: unknown field; did you mean 'walk'?"),
    ],
)  # fmt: skip
def test_one_line_names_the_field_and_what_was_found(values, expected):
    lines = message({"data": SCENES, **values})
    assert expected in lines
    assert len(lines) == (2 if "train_json" in expected else 1)


def test_every_wrong_field_is_listed():
    lines = message({"classifier": {"epochs": -1, "crop": "big"}, "seed": -1})
    assert [line.split(":")[0] for line in lines] == ["seed", "data", "classifier.epochs", "classifier.crop"]


def test_a_huge_value_is_cut_short():
    (line,) = message({"data": SCENES, "name": ["x" * 1000] * 1000})
    assert len(line) < 800


@settings(deadline=None, max_examples=150)
@given(
    st.dictionaries(
        st.sampled_from(["data", "classifier", "affinity_labels", "pseudo_labels", "cams", "other"]) | st.text(max_size=5) | st.integers(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["format", "model", "alphas", "crf", "scales", "epochs", "root"]) | st.text(max_size=5), inner, max_size=4),
            max_leaves=12,
        ),
        max_size=4,
    )
)
def test_no_mapping_gives_anything_but_a_config_or_a_named_error(values):
    try:
        assert isinstance(parse_config(values), Config)
    except ConfigError as error:
        assert len(str(error).splitlines()) >= 2


# ------------------------------------------------------------------------------------------ files and overrides


def test_extends_takes_a_file_beside_it_or_a_preset(tmp_path):
    write(tmp_path, "base.yaml", {"data": SCENES | {"size": 64}, "classifier": {"epochs": 2, "crop": 64}, "cams": {"scales": [1, 2]}})
    path = write(tmp_path, "top.yaml", {"extends": "base.yaml", "classifier": {"epochs": 5}, "cams": {"scales": [1]}})
    config = load_config(path)
    assert (config.data.size, config.classifier.epochs, config.classifier.crop, config.cams.scales) == (64, 5, 64, (1.0,))
    preset = write(tmp_path, "preset.yaml", {"extends": "demo-scenes", "seed": 7})
    assert load_config(preset) == load_config("demo-scenes", ["seed=7"])


def test_another_data_format_replaces_the_base_s(tmp_path):
    write(tmp_path, "base.yaml", {"data": {"format": "voc", "root": "x", "train_list": "y"}})
    path = write(tmp_path, "top.yaml", {"extends": "base.yaml", "data": {"format": "scenes", "size": 99}})
    assert load_config(path).data.size == 99
    assert load_config(tmp_path / "base.yaml", ["data.root=z"]).data.train_list == "y"


@pytest.mark.parametrize("chain", [["a"], ["a", "b"], ["a", "b", "c"]])
def test_a_circle_of_bases(tmp_path, chain):
    for name, base in zip(chain, chain[1:] + chain[:1], strict=True):
        write(tmp_path, f"{name}.yaml", {"extends": f"{base}.yaml", "data": SCENES})
    with pytest.raises(ConfigError, match=r"a\.yaml: 'extends' goes in a circle"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: nothing\ndata: {format: scenes}", "no configuration file or preset 'nothing'"),
        ("extends: [a]\ndata: {format: scenes}", "extends: expected the name of a preset or file, found ['a']"),
        ("a: [", "not valid YAML"),
        ("- a", "expected a mapping of sections, found list"),
        ("", "expected a mapping of sections, found NoneType"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("[" * 10000, "not valid YAML"),
    ],
)
def test_files_that_are_no_configuration(tmp_path, text, expected):
    path = write(tmp_path, "bad.yaml", text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert expected in str(caught.value) and ("bad.yaml" in str(caught.value) or "nothing" in expected)


def test_aliases_that_stand_for_gigabytes_are_harmless(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path = write(tmp_path, "bomb.yaml", "\n".join([*lines, "name: *a11", "data: {format: scenes}"]))
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert len(str(caught.value)) < 5000


def test_overrides():
    config = load_config(
        "demo-scenes",
        ["seed=3", "classifier.optimizer.learning_rate=1e-3", "pseudo_labels.crf=null", "cams.scales=[1, 0.5]", "work_dir=runs/x=y"],
    )
    assert config.seed == 3 and config.classifier.optimizer.learning_rate == 1e-3
    assert config.pseudo_labels.crf is None and config.cams.scales == (1.0, 0.5)
    assert str(config.work_dir) == "runs/x=y"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "--set 'seed': expected section.field=value"),
        ("=3", "--set '=3': expected section.field=value"),
        ("seed=[", "--set 'seed=[': the value is not valid YAML"),
        ("classifier.epoch=3", "classifier.epoch: unknown field; did you mean 'epochs'?"),
        ("classifier=3", "classifier: Input should be a valid dictionary"),
        ("seed.a=3", "seed: Input should be a valid integer, found a mapping"),
    ],
)
def test_wrong_overrides(override, expected):
    with pytest.raises(ConfigError) as caught:
        load_config("demo-scenes", [override])
    assert expected in str(caught.value)


def test_unknown_preset():
    with pytest.raises(ConfigError, match="no configuration file or preset 'demo-scnes'; did you mean 'demo-scenes'"):
        load_config("demo-scnes")


# ----------------------------------------------------------------------------------------------------- presets


@pytest.mark.parametrize("name", preset_names())
def test_preset_is_valid_explains_itself_and_survives_a_round_trip(name, tmp_path):
    config = load_config(name)
    head = (PRESET_FOLDER / f"{name}.yaml").read_text().split("\n\n")[0]
    assert head.startswith("#") and f"tfwsss run {name}" in head
    assert config.name == name and config.work_dir.parts[0] == "runs"
    path = write(tmp_path, "again.yaml", config.model_dump(mode="json"))
    assert load_config(path) == config


@pytest.mark.parametrize(
    "data",
    [
        {"format": "voc", "root": "a", "tags": "b.npy", "classes": ["cat"], "mask_folder": None, "val_list": None},
        {"format": "coco", "train_json": "a", "train_images": "b"},
        {"format": "folder", "root": "a", "val_fraction": 0.2},
        {"format": "scenes", "seed": 4},
    ],
)
@pytest.mark.parametrize("alphas", ["auto", "psa-cvpr", {"low": 1.5, "high": 9.0, "walk": 4.0}])
def test_round_trip(tmp_path, data, alphas):
    config = parse_config({"data": data, "affinity_labels": {"alphas": alphas}, "evaluate": {"crf": None}})
    path = write(tmp_path, "again.yaml", config.model_dump(mode="json"))
    assert load_config(path) == config


def test_the_faithful_presets_state_the_published_experiment():
    for name, backbone, rate in [("voc12-psa-resnet38", "resnet38", 0.01), ("voc12-psa-vgg16", "vgg16", 0.1)]:
        config = load_config(name)
        switches = config.switches.model_dump()
        assert switches.pop("affinity_width") == "released"
        assert set(switches.values()) == {"faithful"}
        for training, epochs, batch in [(config.classifier, 15, 16), (config.affinitynet, 8, 8)]:
            rule = training.optimizer
            assert (training.epochs, training.batch_size, training.crop) == (epochs, batch, 448)
            assert training.model.backbone == backbone and training.model.freeze and training.model.batch_norm == "frozen"
            assert training.model.width == 1 and training.model.output_stride == 8 and training.color_jitter
            assert (rule.name, rule.learning_rate, rule.weight_decay) == ("sgd", rate, 5e-4)
            assert (rule.head_multiplier, rule.bias_multiplier, rule.poly_power, rule.clip_norm) == (10, 2, 0.9, None)
        assert config.classifier.resize_long == (256, 512)
        assert config.cams.scales == (1.0, 0.5, 1.5, 2.0) and config.cams.flip and config.cams.dtype == "float32"
        assert config.cams.activation == "auto"
        assert config.affinity_labels.alphas == "psa-released"
        assert list(config.affinity_labels.crf.model_dump().values()) == [10, 3, 3, 80, 13, 10, "numba"]
        assert (config.affinitynet.radius, config.affinitynet.label_source, config.affinitynet.crops_per_image) == (5, "scores", 1)
        labels = config.pseudo_labels
        assert (labels.beta, labels.steps, labels.method, labels.crf) == (8, 256, "dense", None)
        assert config.evaluate.cams


def test_the_corrected_twin_differs_only_in_the_switches():
    faithful = flatten(load_config("voc12-psa-resnet38").model_dump(mode="json"))
    corrected = flatten(load_config("voc12-resnet38").model_dump(mode="json"))
    assert set(faithful) == set(corrected)
    different = {name for name in faithful if faithful[name] != corrected[name]}
    assert different - {"name", "work_dir"} == {name for name in faithful if name.startswith("switches.")} - {"switches.affinity_width"}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("classifier: {epochs: 3}\ncams: {}\nclassifier: {batch_size: 2}\n", "classifier"),
        ("classifier: {epochs: 3, batch_size: 2, epochs: 4}\n", "epochs"),
        ("a: &a {seed: 1, seed: 2}\n<<: *a\n", "seed"),
        ("data: {format: scenes}\n'data': {format: scenes}\n", "data"),
    ],
)
def test_a_key_that_stands_there_twice_is_refused(tmp_path, text, key):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=rf"c.yaml: not valid YAML: '{key}' stands there a second time\n.*line \d"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="stands there a second time"):
        load_config("demo-scenes", ["classifier={epochs: 1, epochs: 2}"])


def test_merge_keys_mean_what_they_mean_elsewhere():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd: {<<: *b, <<: *a}\n"
    loaded = load_yaml(text)
    assert loaded["c"] == yaml.safe_load(text)["c"] == {"x": 3, "y": 1, "z": 2}
    assert loaded["d"] == {"x": 1, "y": 1, "z": 2}


def bomb(kind: str) -> str:
    if kind == "lists":
        return "a0: &a0 [1, 2]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 9)}]\n" for n in range(30)) + "cams: {scales: *a30}\n"
    first = "a0: &a0 {k: 1}\n" if kind == "few" else "a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(3000)) + "}\n"
    return first + "".join(f"a{n + 1}: &a{n + 1} {{<<: [{', '.join([f'*a{n}'] * 40)}]}}\n" for n in range(60))


@pytest.mark.parametrize("kind", ["few", "many", "lists"])
def test_a_bomb_of_aliases_ends_in_time(tmp_path, kind):
    (tmp_path / "c.yaml").write_text("data: {format: scenes}\n" + bomb(kind))
    with pytest.raises(ConfigError) as found:
        load_config(tmp_path / "c.yaml")
    assert len(str(found.value)) < 20_000


@pytest.mark.parametrize("text", ["seed: 2020-13-45", "seed: !!binary '@'", "seed: !!int x", "a: &a [*a]\n", "? {a: 1}\n: 2", "a: \"\\ud800\"", "\udc80", "seed: 1__"])
def test_values_that_only_look_like_values(tmp_path, text):
    (tmp_path / "c.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ConfigError):
        load_config(tmp_path / "c.yaml")


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "base.yaml").write_text("seed: 7\n")
    (tmp_path / "c.yaml").write_text(
        "extends: ~/base.yaml\nwork_dir: ~/runs\nsegmenter: {model: {weights: ~/w.h5}}\n"
        "data: {format: folder, root: ~/photos, val_csv: ~/val.csv, mask_folder: ~/masks}\n"
    )
    config = load_config("~/c.yaml", ["data.train_csv=~/t.csv"])
    assert (config.seed, config.work_dir, config.segmenter.model.weights) == (7, tmp_path / "runs", f"{tmp_path}/w.h5")
    assert (config.data.root, config.data.val_csv, config.data.train_csv) == (tmp_path / "photos", f"{tmp_path}/val.csv", f"{tmp_path}/t.csv")
    coco = parse_config({"data": {"format": "coco", "train_json": "~/a.json", "train_images": "~/a"}})
    assert coco.data.train_json == tmp_path / "a.json"
    voc = parse_config({"data": {"format": "voc", "root": "./~", "tags": "~/tags.npy", "train_list": "~/list.txt"}})
    assert (voc.data.root, voc.data.tags, voc.data.train_list) == (Path("./~"), tmp_path / "tags.npy", f"{tmp_path}/list.txt")
    with pytest.raises(ConfigError, match="work_dir: no home folder is known for ~nobody-of-this-name; write the path out"):
        parse_config({"data": {"format": "scenes"}, "work_dir": "~nobody-of-this-name/x"})
    with pytest.raises(ConfigError, match="no home folder"):
        load_config("~nobody-of-this-name/c.yaml")


def test_an_engine_that_is_not_installed_is_refused_with_the_configuration(monkeypatch):
    monkeypatch.setattr(schema, "find_spec", lambda name: None)
    wanted = {"data": SCENES, "pseudo_labels": {"crf": {"engine": "pydensecrf"}}}
    (line,) = message(wanted)
    assert line.startswith("pseudo_labels.crf.engine: ") and "pydensecrf is not installed (pip install pydensecrf2;" in line
    monkeypatch.undo()
    monkeypatch.setattr(schema, "find_spec", lambda name: "there")
    assert parse_config(wanted).pseudo_labels.crf.engine == "pydensecrf"
