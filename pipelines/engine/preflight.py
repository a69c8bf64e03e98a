"""What can be known before anything is computed: start weights of all trainings, and whether the work directory can be written."""

from __future__ import annotations

import os
from pathlib import Path

from tfwsss.config import Config
from tfwsss.errors import StageError
from tfwsss.storage.atomic import require_regular

from .inputs import weight_files


def weight_problems(config: Config, finished: frozenset[str] = frozenset()) -> list[str]:
    """One line for each weight file that a training needs and that cannot be read.

    Args:
        config: of the run.
        finished: names of trainings that need theirs no more.
    """
    problems = []
    for name, path in weight_files(config).items():
        if name.partition(".")[0] in finished:
            continue
        try:
            require_regular(path)
            with path.open("rb") as file:
                if not file.read(1):
                    problems.append(f"{name}: {path}: the file is empty")
        except FileNotFoundError:
            problems.append(f"{name}: {path}: no such weight file")
        except OSError as error:
            problems.append(f"{name}: {path}: cannot be read: {error.strerror}")
    return problems


def work_problems(config: Config, folders: list[Path]) -> list[str]:
    """One line for each folder of a run that exists and cannot be written, and for a work directory that cannot be made."""
    work = Path(config.work_dir).resolve()
    there = next(place for place in (work, *work.parents) if place.exists())
    problems = []
    for folder in (there, *(folder for folder in folders if folder.is_dir())):
        if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
            problems.append(f"work_dir: {folder}: no permission to write")
    return problems


def require_ready(config: Config, folders: list[Path], finished: frozenset[str]) -> None:
    """Raises:
    StageError: with one line for each problem.
    """
    problems = [*weight_problems(config, finished), *work_problems(config, folders)]
    if problems:
        raise StageError("\n  ".join(["the run cannot begin:", *problems] if len(problems) > 1 else problems))
