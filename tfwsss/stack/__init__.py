"""The stack that is installed: TensorFlow 2.21 with Keras 3, or TensorFlow 2.15 with Keras 2 and tensorflow-addons.

This module decides; nothing else asks. Whatever differs between the two is a name here with one meaning on both:

    NAME                    "keras3" or "addons"
    Updates                 one optimiser step for all learning-rate groups (`tfwsss.stack.rule.Rule`)
    f1_score(classes)       Keras metric, F1 of multi-label predictions averaged over the classes
    warp, sharpen, cutout   image operations of the optional augmentations
    BatchNormalization      Keras' layer, with TensorFlow's fused kernel in training
    Dropout, SpatialDropout2D   layers whose masks differ between the replicas of a strategy, with all their state in variables
    dtype_policy(name), global_dtype_policy()
    tf_variable(variable)   the tf.Variable of a model's variable
    variable_path(variable) "layer/.../variable"
"""

import warnings

import keras

from tfwsss.errors import StackError

if keras.__version__.startswith("2."):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # its end of life; docs/stacks.md says what follows from it
            import tensorflow_addons  # noqa: F401
    except ImportError as error:
        raise StackError(
            f"Keras {keras.__version__} is supported together with tensorflow-addons 0.23, which cannot be imported ({error}); "
            "install the extra: pip install 'tfwsss[addons]'"
        ) from None
    from tfwsss.stack import addons as _chosen
else:
    from tfwsss.stack import keras3 as _chosen  # type: ignore[no-redef]

NAME = _chosen.NAME
Updates = _chosen.Updates
BatchNormalization = _chosen.BatchNormalization
Dropout, SpatialDropout2D = _chosen.Dropout, _chosen.SpatialDropout2D
f1_score = _chosen.f1_score
warp, sharpen, cutout = _chosen.warp, _chosen.sharpen, _chosen.cutout
dtype_policy, global_dtype_policy = _chosen.dtype_policy, _chosen.global_dtype_policy
tf_variable, variable_path = _chosen.tf_variable, _chosen.variable_path

__all__ = [
    "NAME",
    "BatchNormalization",
    "Dropout",
    "SpatialDropout2D",
    "Updates",
    "cutout",
    "dtype_policy",
    "f1_score",
    "global_dtype_policy",
    "sharpen",
    "tf_variable",
    "variable_path",
    "warp",
]
