"""The small form of `python -m tests.chaos.kill_shards`."""

import random

import pytest

from tests.chaos import kill_shards

pytestmark = pytest.mark.slow


def test_shards_that_were_killed_leave_what_one_process_leaves(tmp_path):
    reference = kill_shards.reference(tmp_path / "reference", 6, "affinity_labels")
    stages = ("cams", "affinity_labels")
    kills, wrong = kill_shards.one_life(tmp_path / "life", reference, random.Random(1), 3, stages, 6)
    assert wrong == []
    assert kills == {"shard": 3}
