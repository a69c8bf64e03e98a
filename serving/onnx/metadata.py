"""What an exported file says about itself, checked before anything relies on it."""

from __future__ import annotations

import json
from pathlib import Path

from .errors import ModelError

FORMAT = "tfwsss.segmenter/1"
MOST_LABELS = 256  # masks are 8 bits


def read_metadata(properties: dict, path: Path) -> dict:
    """The metadata of an ONNX file as JSON values.

    Args:
        properties: the file's own, name -> text.
        path: of the file, for messages.

    Raises:
        ModelError: it was not exported by tfwsss, or an entry that the runtime needs is absent or malformed.
    """
    if properties.get("format") != FORMAT:
        raise ModelError(f"{path}: metadata 'format' is {properties.get('format')!r}, expected {FORMAT!r}; was it exported by tfwsss?")
    metadata = {}
    for key, text in properties.items():
        try:
            metadata[key] = json.loads(text)
        except (ValueError, RecursionError):
            metadata[key] = text
    for name, valid, expected in (
        ("labels", _labels, "a list of different names, background first"),
        ("palette", _palette, "a list of colours, three numbers of 0..255 for each label"),
        ("outputs", _outputs, "a list of 'mask' or 'scores'"),
        ("receptive_field", _receptive_field, "stride and reach in pixels"),
    ):
        if name not in metadata or not valid(metadata[name], metadata):
            found = "absent" if name not in metadata else f"{str(metadata[name])[:60]!r}"
            raise ModelError(f"{path}: metadata {name!r} is {found}, expected {expected}")
    if not _long_side(metadata.get("long_side")):
        raise ModelError(f"{path}: metadata 'long_side' is {str(metadata['long_side'])[:60]!r}, expected a number of pixels or null")
    return metadata


def _long_side(value) -> bool:
    return value is None or (type(value) is int and value >= 1)


def _labels(value, metadata) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= MOST_LABELS and all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _palette(value, metadata) -> bool:
    def colour(rgb) -> bool:
        return isinstance(rgb, list) and len(rgb) == 3 and all(type(level) is int and 0 <= level <= 255 for level in rgb)

    return isinstance(value, list) and len(value) >= len(metadata["labels"]) and all(map(colour, value))


def _outputs(value, metadata) -> bool:
    return isinstance(value, list) and bool(value) and all(name in ("mask", "scores") for name in value)


def _receptive_field(value, metadata) -> bool:
    if not isinstance(value, dict) or type(value.get("stride")) is not int or not 1 <= value["stride"] <= 4096:
        return False
    return "reach" in value and (value["reach"] is None or (type(value["reach"]) is int and value["reach"] >= 0))
