"""The suite runs in two processes (`make test`): a folder's tests stay in one, so that its costly fixtures are made once."""

import os
from pathlib import Path

import pytest

os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as the command line does, before TensorFlow is imported

ROOT = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    for item in items:
        place = item.path.relative_to(ROOT)
        group = place.parts[0]  # a folder, or a file beside this one
        item.add_marker(pytest.mark.xdist_group(group))
