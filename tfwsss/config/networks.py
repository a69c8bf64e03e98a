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
AFFINITY_FEATURES = {"released": 448, "paper": 896}
# The largest of a backbone's three networks, of width 1.
MILLIONS_OF_PARAMETERS = {
    "resnet38": 124.1,
    "vgg16": 22.3,
    "resnet50": 26.8,
    "resnet50v15": 26.7,
    "resnet50irn": 26.7,
    "mobilenet": 5.1,
    "mobilenetv2": 4.4,
    "efficientnetlite0": 5.6,
    "efficientnetlite2": 7.0,
}
IMAGENET_WIDTHS = {
    "vgg16": (1.0,),
    "resnet50": (1.0,),
    "mobilenet": (0.25, 0.5, 0.75, 1.0),
    "mobilenetv2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "efficientnetlite0": (1.0,),
    "efficientnetlite2": (1.0,),
}
