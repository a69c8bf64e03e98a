"""What a configuration knows of networks without importing TensorFlow: strides, and weights that can be had."""

import pytest

from tfwsss.config.files import parse_config
from tfwsss.errors import ConfigError


def test_what_the_models_and_downloads_have_is_known_to_the_configuration():
    from tfwsss.config.networks import IMAGENET_WIDTHS, OUTPUT_STRIDES
    from tfwsss.config.published_weights import APPLICATIONS, PACKAGES
    from tfwsss.models.backbones import BACKBONES

    assert {name: set(backbone.output_strides) for name, backbone in BACKBONES.items()} == {name: set(strides) for name, strides in OUTPUT_STRIDES.items()}
    widths = {name: set(application.widths) for name, application in APPLICATIONS.items()} | dict.fromkeys(PACKAGES, {1.0})
    assert widths == {name: set(widths) for name, widths in IMAGENET_WIDTHS.items()}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"backbone": "vgg16", "output_stride": 16}, "segmenter.model: output_stride: found 16, expected 8 for vgg16"),
        ({"backbone": "resnet50irn"}, "output_stride: found 8, expected 16 for resnet50irn"),
        ({"weights": "imagenet"}, "weights: 'imagenet' is not known for resnet38 of width 1; give a file, or take one of vgg16"),
        ({"backbone": "mobilenet", "width": 0.3, "weights": "imagenet"}, "not known for mobilenet of width 0.3"),
    ],
)
def test_strides_and_downloads_that_there_are_not(model, message):
    with pytest.raises(ConfigError, match=message):
        parse_config({"data": {"format": "scenes"}, "segmenter": {"model": model}})


def test_layer_cam_of_a_shallow_classifier_is_refused_before_anything_is_trained():
    values = {"data": {"format": "scenes"}, "cams": {"method": "layer_cam"}, "classifier": {"depth": "shallow"}}
    with pytest.raises(ConfigError, match="cams.method: layer_cam needs a map in front"):
        parse_config(values)
    assert parse_config(values | {"classifier": {"depth": "middle"}}).cams.method == "layer_cam"


def test_a_sharpness_without_a_soft_maximum_is_refused_as_it_would_change_nothing():
    values = {"data": {"format": "scenes"}, "classifier": {"sharpness": 8.0}}
    with pytest.raises(ConfigError, match=r"classifier: sharpness: 8 changes nothing where pooling is average; expected pooling: log_sum_exp"):
        parse_config(values)
    values["classifier"]["pooling"] = "log_sum_exp"
    assert parse_config(values).classifier.sharpness == 8.0
