"""What is wrong with a configuration, field by field, in the words of its user instead of the validator's."""

from __future__ import annotations

import difflib
import reprlib
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

LONGEST_VALUE = 100  # characters of a value that a message shows


def describe(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """One line for each wrong field of `root`: its dotted name, what was expected, what was found, a near name."""
    errors = error.errors()
    return [_line(one, root) for one in errors if not _is_other_branch(one, errors, root)]


def _is_other_branch(error: ErrorDetails, errors: list[ErrorDetails], root) -> bool:
    """A field that takes a name or a section fails as both; the value shows which of the two was not meant."""
    name = _Field(error, root).name
    others = [one for one in errors if one is not error and f"{_Field(one, root).name}.".startswith(f"{name}.")]
    if error["type"] == "literal_error":
        return isinstance(error["input"], dict) and bool(others)
    return error["type"] == "model_type" and any(one["type"] == "literal_error" for one in others)


class _Field:
    """The field that an error is about.

    Attributes:
        name: dotted.
        beside: names of the fields of the same section.
        sections: what its value may be, where that is a section.
    """

    def __init__(self, error: ErrorDetails, root: type[BaseModel]):
        names: list[str] = []
        self.sections: list[type[BaseModel]] = [root]
        self.beside: list[str] = []
        for part in error["loc"]:
            fields = [section.model_fields[part] for section in self.sections if part in section.model_fields]
            if not fields and isinstance(part, str):
                # No field, but the branch of a union that was tried, or a name that the user made up.
                self.sections = [one for one in self.sections if _tag(one) == part] or self.sections
            self.beside = [name for section in self.sections for name in section.model_fields]
            if fields:
                self.sections = [section for field in fields for section in _sections(field.annotation)]
            elif isinstance(part, str) and (error["type"] != "extra_forbidden" or part is not error["loc"][-1]):
                continue
            names.append(str(part))
        self.name = ".".join(names) or "configuration"


def _sections(annotation) -> list[type[BaseModel]]:
    """The sections that a field's type may be."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [section for part in get_args(annotation) for section in _sections(part)]


def _tag(section: type[BaseModel]) -> str | None:
    """The value of `format` that chooses this section among others."""
    field = section.model_fields.get("format")
    return get_args(field.annotation)[0] if field is not None else None


def _line(error: ErrorDetails, root) -> str:
    field, kind, value = _Field(error, root), error["type"], error["input"]
    if kind == "extra_forbidden":
        return f"{field.name}: unknown field{_guess(error['loc'][-1], field.beside)}"
    if kind == "missing":
        return f"{field.name}: required field is missing"
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        tags = [tag for section in field.sections if (tag := _tag(section))]
        found = value.get("format") if isinstance(value, dict) else value
        return f"{field.name}.format: found {_short(found)}, expected one of {', '.join(tags)}{_guess(found, tags)}"
    if kind == "value_error" and isinstance(value, dict):
        return f"{field.name}: {error['ctx']['error']}"  # a rule of several fields; its message says what was found
    message = str(error["ctx"]["error"]) if kind == "value_error" else error["msg"]
    return f"{field.name}: {message}, found {_short(value)}"


def _guess(word, known) -> str:
    near = difflib.get_close_matches(str(word)[:LONGEST_VALUE], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _short(value) -> str:
    # Also for safety: through aliases, a few lines of YAML can stand for a value of gigabytes.
    shortener = reprlib.Repr()
    shortener.maxlevel = 2
    shortener.maxstring = shortener.maxother = LONGEST_VALUE
    return "a mapping" if isinstance(value, dict) else shortener.repr(value)
