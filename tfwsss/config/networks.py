"""What `tfwsss.models` and `tfwsss.weights.imagenet` have, known here without TensorFlow."""

OUTPUT_STRIDES = {
    "resnet38": (8,),
    "vgg16": (8,),
    "resnet50": (8, 16, 32),
    "resnet50v15": (8, 16, 32),
    "resnet50irn": (16,),
    "mobilenet": (8, 16, 32),
    "mobilenetv2": (8, 16, 32),
    "efficientnetlite0": (8, 16, 32),
    "efficientnetlite2": (8, 16, 32),
}
IMAGENET_WIDTHS = {
    "vgg16": (1.0,),
    "resnet50": (1.0,),
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenetv2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "efficientnetlite0": (1.0,),
    "efficientnetlite2": (1.0,),
}
