"""What a training stage does besides the loop: taking trained weights as they are."""

import numpy as np
import pytest
from PIL import Image

from tfwsss.config.files import parse_config
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.errors import StageError
from tfwsss.models import build_classifier
from tfwsss.storage.atomic import read_json
from tfwsss.weights import load_model, named_variables, save_weights
from tfwsss_pipelines.engine.context import Context
from tfwsss_pipelines.stages import classifier


class Run:
    def artifact(self, path):
        assert path.exists()


@pytest.fixture
def context(tmp_path):
    Image.new("RGB", (48, 48)).save(tmp_path / "a.png")
    data = Dataset(("cat", "dog"), (Sample("a", tmp_path / "a.png", (0,)),))
    model = {"backbone": "vgg16", "width": 0.0625, "weights": str(tmp_path / "trained.safetensors")}
    values = {"data": {"format": "scenes"}, "classifier": {"model": model, "epochs": 0}, "runtime": {"progress": False}}
    return Context(parse_config(values), tmp_path / "work", Run(), {"train": data})


def test_no_epochs_takes_the_weights_as_they_are(context, tmp_path):
    trained = build_classifier("vgg16", 2, width=0.0625)
    save_weights(trained, tmp_path / "trained.safetensors")
    assert classifier.run(context) == {}
    found = named_variables(load_model(context.work / "classifier/weights.safetensors"))
    for name, variable in named_variables(trained).items():
        np.testing.assert_array_equal(found[name].numpy(), variable.numpy())
    assert read_json(context.work / "classifier/history.json") == []


def test_no_epochs_needs_a_file_of_the_whole_network(context, tmp_path):
    """A head of other classes is normally trained anew; without training it would stay random."""
    save_weights(build_classifier("vgg16", 5, width=0.0625), tmp_path / "trained.safetensors")
    with pytest.raises(StageError, match=r"classifier.epochs is 0, but .*trained.safetensors lacks 1 arrays of the network, such as fc8/kernel"):
        classifier.run(context)
