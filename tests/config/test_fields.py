"""The list of fields that `tfwsss fields` prints."""

import json

from tfwsss.config import Config
from tfwsss.config.fields import describe_fields


def test_every_field_once_and_those_of_data_under_their_format():
    fields = list(describe_fields())
    names = [name for name, _, _ in fields]
    assert len(names) == len(set(names))
    top = {name.split(".")[0].split("[")[0] for name in names}
    assert top == set(Config.model_fields)
    formats = {name.split("[")[1].split("]")[0] for name in names if name.startswith("data[")}
    assert {"voc", "folder", "coco", "scenes"} <= formats and "data[voc].root" in names and "data[coco].train_json" in names


def test_defaults_are_written_as_in_yaml():
    defaults = {name: default for name, default, _ in describe_fields()}
    assert defaults["data[voc].root"] == "(required)"
    assert json.loads(defaults["cams.scales"]) == list(Config.model_fields["cams"].get_default(call_default_factory=True).scales)
    assert json.loads(defaults["affinity_labels.alphas"]) == "auto"
