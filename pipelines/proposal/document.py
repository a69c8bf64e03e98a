"""A configuration as a YAML file with comments that say why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import yaml


def yaml_text(heading: list[str], values: Mapping[str, Any], comments: Mapping[str, str]) -> str:
    """The file's text.

    Args:
        heading: lines of the comment at the beginning.
        values: the configuration; its sections are mappings.
        comments: by dotted field name, for instance "data.untagged".
    """
    lines = [f"# {line}".rstrip() for line in heading]
    for name, value in values.items():
        if not isinstance(value, Mapping):
            lines.append(_line(name, value, comments.get(name), ""))
            continue
        lines += ["", *(f"# {line}" for line in comments.get(name, "").splitlines()), f"{name}:"]
        lines += [_line(key, one, comments.get(f"{name}.{key}"), "  ") for key, one in value.items()]
    return "\n".join(lines) + "\n"


def _line(name: str, value: Any, comment: str | None, indent: str) -> str:
    text = yaml.safe_dump(_plain(value), default_flow_style=True, allow_unicode=True, sort_keys=False, width=10**6).strip()
    text = text.removesuffix("...").strip()
    return f"{indent}{name}: {text}" + (f"  # {comment}" if comment else "")


def _plain(value: Any) -> Any:
    """In YAML's types."""
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list | tuple | frozenset) else value
