"""Lives of a run: from its start to its end by itself, killed on the way, until there were enough kills."""

from __future__ import annotations

import argparse
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

OneLife = Callable[[Path, Path, random.Random, int], tuple[Counter[str], list[str]]]


def run_lives(description: str | None, reference: Callable[[Path], Path], one_life: OneLife) -> int:
    """The command of a script: prints a line for each life.

    Args:
        description: of the command.
        reference: gives the folder of an uninterrupted run, which it makes there if need be.
        one_life: called with a folder, that of the uninterrupted run, a source of chance and how many kills there may be at
            most; returns kills by kind, and what is wrong.

    Returns:
        The exit code: the number of lives that left something else than the uninterrupted run.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="for the runs; what is in FOLDER/life is removed")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    expected = reference(folder / "reference")
    kills: Counter[str] = Counter()
    lives = different = 0
    while kills.total() < arguments.kills:
        lives += 1
        more, wrong = one_life(folder / "life", expected, random.Random(f"{arguments.seed} {lives}"), arguments.kills - kills.total())
        kills += more
        different += bool(wrong)
        print(f"life {lives}: {dict(more)}, {kills.total()} kills in all; {'; '.join(wrong) or 'equal'}", flush=True)
        if wrong:
            shutil.rmtree(folder / f"life-{lives}", ignore_errors=True)
            (folder / "life").rename(folder / f"life-{lives}")
    print(f"{dict(kills)} in {lives} lives, {different} of them left something else than an uninterrupted run")
    return min(different, 125)
