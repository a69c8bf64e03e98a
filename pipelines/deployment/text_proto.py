"""Protobuf's text format."""

from __future__ import annotations

import json


class Symbol(str):
    """A value of an enumeration, which stands without quotes."""


def text_proto(fields: dict, indent: str = "") -> str:
    """Protobuf text format of nested dicts; a list repeats its field."""
    lines = []
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            if isinstance(value, dict):
                lines.append(f"{indent}{name} {{\n{text_proto(value, indent + '  ')}{indent}}}\n")
            else:
                lines.append(f"{indent}{name}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and not isinstance(value, Symbol):
        return json.dumps(value, ensure_ascii=False)  # escapes as protobuf does
    return str(value)
