"""What `tfwsss init` and `tfwsss data check` print and write."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from tfwsss.data import load_split
from tfwsss.data.doctor import diagnose
from tfwsss.errors import ConfigError, StageError
from tfwsss.processes import worker_count
from tfwsss.storage.atomic import write_text

from ..engine.progress import progress_bar
from ..engine.runner import Runner
from ..engine.terminal import console, show
from ..preflight.places import tracking_warnings
from ..stages.data import start_warnings
from .propose import Options, propose

LONGEST = 240  # characters of a finding


def init_run(photos: Path, output: Path, options: Options, work_dir: Path | None, *, force: bool) -> None:
    """Say what is found and write the configuration.

    Raises:
        ConfigError: the file is there, and `force` is not given.
        DataError: see `propose`.
    """
    if (output.exists() or output.is_symlink()) and not force:
        raise ConfigError(f"{output}: is there already; choose another with -o, or write over it with --force")
    with contextlib.ExitStack() as stack:
        proposal = propose(photos, options, work_dir, 0, lambda total: stack.enter_context(progress_bar("look at photos", total, True)).advance)
    for line in proposal.says:
        show(line)
    for finding in (*proposal.diagnosis.errors, *proposal.diagnosis.warnings):
        console.print(f"! {finding if len(finding) <= LONGEST else f'{finding[:LONGEST]} ...'}", style="yellow", markup=False)
    write_text(output, proposal.text)
    show(f"\nwritten: {output}; next:\n  tfwsss data check {output}\n  tfwsss run {output}")


def check_data(runner: Runner, *, as_json: bool) -> bool:
    """Examine what a run needs and print what was found; whether nothing is wrong with it."""
    config, problems, warnings = runner.config, [], tracking_warnings()
    try:
        warnings += runner.require_ready()
    except StageError as error:
        problems.append(str(error))
    train = load_split(config.data, "train", config.work_dir)
    val = load_split(config.data, "val", config.work_dir)
    total = len(train.samples) + (len(val.samples) if val else 0)
    with progress_bar("check", total, config.runtime.progress) as bar:
        diagnosis = diagnose(train, val, worker_count(config.runtime.workers), bar.advance, require_tags=config.data.untagged == "leave_out")
    diagnosis.errors += problems
    diagnosis.warnings += [*warnings, *start_warnings(config, diagnosis, train, runner.folders())]
    show(json.dumps(diagnosis.to_dict(), indent=2, ensure_ascii=False) if as_json else diagnosis.render())
    return not diagnosis.errors
