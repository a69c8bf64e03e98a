"""What `tfwsss init` prints and writes."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tfwsss.errors import ConfigError
from tfwsss.storage.atomic import write_text

from ..engine.progress import progress_bar
from ..engine.terminal import console, show
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
