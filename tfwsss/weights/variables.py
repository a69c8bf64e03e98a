"""Names of a model's variables, `layer/variable`, equal on Keras 2 and Keras 3."""

import keras
import tensorflow as tf

from tfwsss import stack
from tfwsss.errors import WeightsError


def layers_of(model) -> list:
    """The model's layers in order; those of models inside the model stand in the place of the inner model."""
    layers = []
    for layer in model.layers:
        layers.extend(layers_of(layer) if isinstance(layer, keras.Model) else [layer])
    return layers


def layer_variables(layer) -> dict:
    """{variable name without the layer's: variable} of one layer, in the order of `layer.weights`.

    Only floating-point weights: counters and the state of random generators are not weights.
    """
    variables = {}
    for variable in layer.weights:
        path = stack.variable_path(variable)
        if not tf.as_dtype(variable.dtype).is_floating:
            continue
        parts = path.split("/")
        # What stands before the layer's own name depends on where the layer was built.
        inside = parts[parts.index(layer.name) + 1 :] if layer.name in parts[:-1] else parts[-1:]
        name = "/".join(inside)
        if isinstance(layer, keras.layers.DepthwiseConv2D) and name == "depthwise_kernel":
            name = "kernel"  # the name Keras 3 gives
        variables[name] = variable
    return variables


def named_variables(model) -> dict:
    """{"layer/variable": variable} of all weights of `model`, in layer order.

    Names are those of Keras 3 ("conv1a/kernel", "bn7/moving_mean"). Random generators' seeds, counters and the
    optimizer's state are left out.

    Raises:
        WeightsError: two layers have the same name, so that names would not identify variables.
    """
    variables: dict[str, tf.Variable] = {}
    owners: dict[str, keras.layers.Layer] = {}
    for layer in layers_of(model):
        if owners.setdefault(layer.name, layer) is not layer:
            raise WeightsError(f"model {model.name!r}: two layers are named {layer.name!r}, names must be unique")
        variables.update({f"{layer.name}/{name}": v for name, v in layer_variables(layer).items()})
    return variables
