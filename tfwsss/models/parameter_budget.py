"""Building a network that may have only so many parameters: before each variable is made, its size is counted."""

from __future__ import annotations

import contextlib
import inspect
import math
import threading

import keras

from tfwsss.errors import ConfigError

_lock = threading.RLock()


@contextlib.contextmanager
def parameter_budget(parameters: int):
    """Inside, layers together make at most so many numbers; the recipe in a foreign file may ask for a network of any width.

    Raises:
        ConfigError: one more was wanted; nothing of its size was allocated.
    """
    original, left = keras.layers.Layer.add_weight, parameters
    signature = inspect.signature(original)

    def counted(layer, *arguments, **options):
        nonlocal left
        call = signature.bind(layer, *arguments, **options).arguments
        left -= math.prod(side or 0 for side in call.get("shape") or ())
        if left < 0:
            raise ConfigError(f"the network has more than the {parameters} parameters that there are")
        return original(layer, *arguments, **options)

    with _lock:  # layers made by other threads meanwhile are counted, too
        keras.layers.Layer.add_weight = counted
        try:
            yield
        finally:
            keras.layers.Layer.add_weight = original
