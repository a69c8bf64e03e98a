"""Configurations in YAML files: shipped presets, bases, overrides, and errors that name the field.

`extends: other.yaml` takes another file or preset as the base.
"""

from __future__ import annotations

import difflib
from pathlib import Path

from pydantic import ValidationError

from tfwsss.config import Config
from tfwsss.config.errors import describe
from tfwsss.config.strict_yaml import YAML_ERRORS, load_yaml
from tfwsss.errors import ConfigError

PRESET_FOLDER = Path(__file__).parents[1] / "configs"


def preset_names() -> list[str]:
    """Names of the presets that ship with the package."""
    return sorted(path.stem for path in PRESET_FOLDER.glob("*.yaml"))


def _find(name, folder: Path | None = None) -> Path:
    try:
        name = Path(name).expanduser()
    except RuntimeError:
        raise ConfigError(f"{name}: no home folder is known for it; write the path out") from None
    candidates = [name] if folder is None else [folder / name]
    candidates += [PRESET_FOLDER / name, PRESET_FOLDER / f"{name}.yaml"]
    for path in candidates:
        if path.is_file():
            return path
    near = difflib.get_close_matches(str(name), preset_names(), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ConfigError(f"no configuration file or preset {str(name)!r}{hint} (presets: {', '.join(preset_names())})")


def _read_yaml(path: Path) -> dict:
    try:
        value = load_yaml(path.read_text(encoding="utf-8-sig"))
    except YAML_ERRORS as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(value).__name__}")
    return value


def _merge(base: dict, top: dict) -> dict:
    merged = dict(base)
    for key, value in top.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        # Another data format shares no fields with the base's: replace it, do not mix the two.
        if both and key == "data" and "format" in value and value["format"] != merged[key].get("format"):
            both = False
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def _read_with_bases(path: Path, seen: tuple[Path, ...] = ()) -> tuple[dict, tuple[Path, ...]]:
    """(values, all files they come from)"""
    path = path.resolve()
    if path in seen:
        raise ConfigError(f"{path}: 'extends' goes in a circle")
    value, seen = _read_yaml(path), (*seen, path)
    base = value.pop("extends", None)
    if base is None:
        return value, seen
    if not isinstance(base, str):
        raise ConfigError(f"{path}: extends: expected the name of a preset or file, found {base!r}")
    below, seen = _read_with_bases(_find(base, path.parent), seen)
    return _merge(below, value), seen


def _apply_override(values: dict, override: str) -> dict:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: expected section.field=value")
    try:
        value = load_yaml(text)
    except YAML_ERRORS as error:
        raise ConfigError(f"--set {override!r}: the value is not valid YAML: {error}") from None
    *sections, field = key.strip().split(".")
    nested = {field: value}
    for section in reversed(sections):
        nested = {section: nested}
    return _merge(values, nested)


def parse_config(values: dict, source: str = "configuration") -> Config:
    """Validate a mapping.

    Raises:
        ConfigError: with one line per wrong field: its dotted name, what was found, what was expected.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        lines = "".join(f"\n  {line}" for line in describe(error, Config))
        raise ConfigError(f"{source}:{lines}") from None


def config_files(name) -> tuple[Path, ...]:
    """The files that `load_config` reads: the named one and those it extends. Errors as there."""
    return _read_with_bases(_find(name))[1]


def load_config(name, overrides: list[str] | tuple[str, ...] = ()) -> Config:
    """Load a configuration.

    Args:
        name: path of a YAML file, or the name of a shipped preset.
        overrides: "section.field=value" strings, values in YAML syntax.

    Raises:
        ConfigError: the file is missing or not YAML, or a field is unknown, missing or of the wrong type.
    """
    values, _ = _read_with_bases(_find(name))
    for override in overrides:
        values = _apply_override(values, override)
    return parse_config(values, str(name))
