"""A network's recipe: the builder and its arguments travel with the model, so that it can be made again from JSON."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable

import keras

from tfwsss.errors import ConfigError

BUILDERS: dict[str, Callable[..., keras.Model]] = {}


def builder(name: str):
    """Decorator: register a function that builds a network under `name`.

    The function returns the model and the names of its layers that are trained from scratch; who calls it gets the model,
    on which both these names and all arguments of the call, defaults included, are noted.
    """

    def decorate(function: Callable[..., tuple[keras.Model, set[str]]]) -> Callable[..., keras.Model]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def build_and_note(*args, **kwargs) -> keras.Model:
            model, head = function(*args, **kwargs)
            call = signature.bind(*args, **kwargs)
            call.apply_defaults()
            return _attach(model, name, dict(call.arguments), head)

        BUILDERS[name] = build_and_note
        return build_and_note

    return decorate


def _attach(model: keras.Model, name: str, arguments: dict, head: set[str]) -> keras.Model:
    unknown = head - {layer.name for layer in model.layers}
    if unknown:
        raise ValueError(f"{name}: no such head layers: {sorted(unknown)}")
    # A string, because Keras wraps containers that are set on a model into tracked ones.
    model.tfwsss_spec = json.dumps({"spec": {"builder": name, "arguments": arguments}, "head": sorted(head)})
    return model


def _attached(model: keras.Model) -> dict:
    text = getattr(model, "tfwsss_spec", None)
    if text is None:
        raise ConfigError(f"model {model.name!r} was not made by a builder of tfwsss.models")
    return json.loads(text)


def model_spec(model: keras.Model) -> dict:
    """{"builder": "classifier" | "affinitynet" | "segmenter", "arguments": {...}} in JSON types; `build` undoes it.

    Raises:
        ConfigError: the model was not made by one of the three builders.
    """
    return _attached(model)["spec"]


def head_layers(model: keras.Model) -> set[str]:
    """Names of the layers that published weights never cover: trained from scratch, with a larger learning rate.

    Raises:
        ConfigError: the model was not made by one of the three builders.
    """
    return set(_attached(model)["head"])


def build(spec: dict) -> keras.Model:
    """Build the network of a spec (fresh weights).

    Raises:
        ConfigError: the builder or an argument is unknown, or an argument has a wrong value.
    """
    if not isinstance(spec, dict) or set(spec) != {"builder", "arguments"} or not isinstance(spec["arguments"], dict):
        raise ConfigError(f"model spec: found {spec!r}, expected the keys 'builder' and 'arguments'")
    if spec["builder"] not in BUILDERS:
        raise ConfigError(
            f"model spec: builder: found {spec['builder']!r}, expected one of {', '.join(sorted(BUILDERS))}"
        )
    try:
        return BUILDERS[spec["builder"]](**spec["arguments"])
    except TypeError as error:
        raise ConfigError(f"model spec: arguments of {spec['builder']!r}: {error}") from None
