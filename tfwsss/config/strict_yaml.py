"""YAML without surprises: plain values only, no key twice in a mapping, and merge keys (<<) that end in time."""

from __future__ import annotations

import yaml

MOST_MERGED = 100_000  # entries that all merge keys of a text may bring; a few lines can stand for billions
MERGE = "tag:yaml.org,2002:merge"

# What reading a text can raise: besides the parser's own errors those of values that look like dates or numbers.
YAML_ERRORS = (yaml.YAMLError, ValueError, OverflowError, RecursionError)


class _Loader(yaml.SafeLoader):
    def __init__(self, stream):
        super().__init__(stream)
        self._merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        own: dict[object, tuple] = {}
        merged: dict[object, tuple] = {}
        for key, value in node.value:
            if key.tag == MERGE:
                for part in reversed(value.value) if isinstance(value, yaml.SequenceNode) else [value]:
                    merged.update(self._entries(part, key))
                continue
            identity = _identity(key)
            if identity in own:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands there a second time", key.start_mark)
            own[identity] = (key, value)
        node.value = [*(entry for identity, entry in merged.items() if identity not in own), *own.values()]

    def _entries(self, part: yaml.Node, key: yaml.Node) -> dict[object, tuple]:
        if not isinstance(part, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(None, None, "expected a mapping to merge", key.start_mark)
        self.flatten_mapping(part)
        self._merged += len(part.value) + 1
        if self._merged > MOST_MERGED:
            raise yaml.constructor.ConstructorError(None, None, f"more than {MOST_MERGED:,} merged entries", key.start_mark)
        return {_identity(name): (name, value) for name, value in part.value}


def _identity(key: yaml.Node) -> object:
    return (key.tag, key.value) if isinstance(key, yaml.ScalarNode) else id(key)


def load_yaml(text: str):
    """The value of a YAML text: mappings, lists, text, numbers, dates.

    Raises:
        one of `YAML_ERRORS`: not valid YAML, a tag that names a type, a key twice, or too many merged entries.
    """
    return yaml.load(text, Loader=_Loader)  # noqa: S506  (a SafeLoader)
