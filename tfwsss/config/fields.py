"""The list of all fields of the configuration, for `tfwsss fields` and the guide."""

from __future__ import annotations

import json
from collections.abc import Iterator
from types import UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel

from tfwsss.config import Config, Section


def _sections_of(annotation) -> list[type[Section]]:
    """The sections an annotation allows: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    members = [member for argument in get_args(annotation) for member in _sections_of(argument)]
    return members if get_origin(annotation) in (Union, UnionType, Annotated) else []


def describe_fields(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Every field as (dotted name, default in YAML, description); fields of `data` once for each format."""
    for name, field in section.model_fields.items():
        sections = _sections_of(field.annotation)
        if sections and not (prefix == "affinity_labels." and name == "alphas"):
            for member in sections:
                formats = get_args(member.model_fields["format"].annotation) if "format" in member.model_fields else ()
                label = f"{prefix}{name}[{formats[0]}]" if formats else f"{prefix}{name}"
                yield from describe_fields(member, f"{label}.")
            continue
        default = "(required)" if field.is_required() else field.get_default(call_default_factory=True)
        default = default.model_dump(mode="json") if isinstance(default, BaseModel) else default
        text = default if default == "(required)" else json.dumps(default, default=str)
        yield f"{prefix}{name}", text, field.description or ""
