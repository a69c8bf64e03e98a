"""ImageNet weights by name: downloaded by keras.applications where it has them, a clear demand for a file otherwise."""

import keras

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.weights.matching import LoadReport, fill, scratch_layers
from tfwsss.weights.variables import named_variables

APPLICATIONS = {
    "resnet50": ("ResNet50", "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    "mobilenet": ("MobileNet", "mobilenet_{digits}_224_tf_no_top.h5"),
    "mobilenetv2": ("MobileNetV2", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_224_no_top.h5"),
}
WIDTHS = {
    "resnet50": (1.0,),
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenetv2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
}
FILES = {
    "resnet38": "ilsvrc-cls_rna-a1_cls1000_ep-0001.params (MXNet, from the ademxapp project, model A1)",
    "vgg16": "vgg16_20M.caffemodel (Caffe, DeepLab's 20 million parameter VGG16)",
    "resnet50v15": "resnet50-0676ba61.pth (PyTorch, from torchvision)",
    "resnet50irn": "resnet50-0676ba61.pth (PyTorch, from torchvision)",
}


def load_imagenet(model, backbone: str) -> LoadReport:
    """Fill the backbone of a model of `tfwsss.models` with ImageNet weights; the head keeps its initial values.

    Args:
        backbone: "resnet50", "mobilenet" or "mobilenetv2".

    Raises:
        WeightsError: no public download for this backbone or width, or the download failed; the message names the
            file to obtain and give to `load_weights` instead.
    """
    if backbone not in APPLICATIONS:
        wanted = FILES.get(backbone, f"a weight file for {backbone}")
        raise WeightsError(f"weights 'imagenet': nothing to download for {backbone}. Give the file instead: {wanted}")
    width = float(models.model_spec(model)["arguments"]["width"])
    if width not in WIDTHS[backbone]:
        raise WeightsError(
            f"weights 'imagenet': {backbone} of width {width:g} was never published, "
            f"only {', '.join(f'{known:g}' for known in WIDTHS[backbone])}"
        )
    name, file_name = APPLICATIONS[backbone]
    file_name = file_name.format(width=width, digits="1_0" if width == 1 else f"{width * 10:.1f}".replace(".", "_"))
    arguments = {} if backbone == "resnet50" else {"alpha": width}
    try:
        published = getattr(keras.applications, name)(
            weights="imagenet", include_top=False, input_shape=(224, 224, 3), **arguments
        )
    except Exception as error:  # keras raises a bare Exception when the download fails
        raise WeightsError(
            f"weights 'imagenet': the download of {file_name} failed ({error}). "
            f"Give a local copy of that file as weights instead"
        ) from error
    arrays = {name: variable.numpy() for name, variable in named_variables(published).items()}
    return fill(
        model, arrays, source=f"ImageNet ({file_name})", format="keras.applications", heads=scratch_layers(model)
    )
