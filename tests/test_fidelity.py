"""The fidelity page: every test it names exists, and every switch has its row."""

import re
from pathlib import Path

import pytest

from tfwsss.config import Switches

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/fidelity.md").read_text(encoding="utf-8")
TESTS = sorted(set(re.findall(r"(✱ )?`(tests/[\w/]+\.py)::(\w+)`", PAGE)))


@pytest.mark.parametrize(("star", "file", "name"), TESTS)
def test_named_test_exists(star, file, name):
    source = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"def {name}\(", source), f"{file} has no {name}"
    if star and "pytestmark" not in source:  # else the mark stands above the test or above its class
        before = source[: re.search(rf"def {name}\(", source).start()]
        block = before[max(before.rfind("\n\n\n"), 0) :]
        assert "@pytest.mark.golden" in block, f"{file}::{name} is not marked golden"
    elif star:
        assert re.search(r"^pytestmark = .*golden", source, re.M)


def test_every_row_names_a_test_and_every_switch_has_a_row():
    rows = [line for line in PAGE.splitlines() if re.match(r"\| \d", line)]
    assert len(rows) > 50
    for row in rows:
        assert row.count("|") == 6 and "::" in row.split("|")[5], row
    for switch in Switches.model_fields:
        assert f"switch `{switch}`" in PAGE
