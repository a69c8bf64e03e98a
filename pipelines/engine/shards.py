"""One shard's work: its photos of the first stage that has not finished."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from tfwsss.errors import StageError

from .contents import contents_of
from .context import NoRun
from .ownership import clear, read_record, write_record
from .progress import console
from .runner import Runner
from .sharing import Share, behind_gate, one_of_many
from .stage import Stage
from .startup import load_tensorflow


def run_share(runner: Runner, share: Share, first: str | None = None, last: str | None = None, any_code: bool = False) -> Path:
    """Do a shard's photos of the first stage from `first` to `last` that has not finished.

    It writes no record of success and opens no MLflow run: that is left to the call that closes the stage. Arguments as
    `Runner.run`. Returns the work directory.

    Raises:
        StageError: an earlier stage has not finished, the stage is not one that is made photo by photo, or the work directory is
            in use by something else than its shards.
    """
    begin, end = runner.selection(first, last)
    if runner.cluster.workers > 1:
        raise StageError("--shard: TF_CONFIG names several processes, which train together; shards know nothing of each other")
    runner.begin(begin, end)
    with contextlib.ExitStack() as held:
        with behind_gate(runner.work):
            membership = held.enter_context(one_of_many(runner.work))
            stage = _first_unfinished(runner, begin, end, any_code)
            if stage is None:
                console.print("[green]✓[/] nothing left to do: all stages have finished")
                return runner.work
            if stage.photos is None:
                raise StageError(f"stage {stage.name} is not made photo by photo: run it without --shard first (tfwsss stage {stage.name} CONFIG)")
            record = read_record(stage, runner.work)
            identity = runner.fingerprints[stage.name]
            with contextlib.ExitStack() as alone:
                if record.get("fingerprint") != identity:
                    alone.enter_context(membership.without_others())
                    clear(stage, runner.work, contents_of(runner.work))
                    record = {"fingerprint": identity, "recipe": runner.recipes[stage.name], "finished": False}
                if record.get("shards") != share.count:
                    write_record(stage, runner.work, {**record, "shards": share.count})
        started = time.monotonic()
        console.print(f"[bold]▶ {stage.name}[/], shard {share}")
        if stage.tensorflow:
            load_tensorflow()
        with runner.command:
            done = runner.without_lost(stage, stage.photos, NoRun(), share)
    shown = "  ".join(f"{name} {value:.4g}" for name, value in done.items())
    console.print(f"[green]✓[/] {stage.name}, shard {share}, in {time.monotonic() - started:.0f} s  {shown}; after all shards: tfwsss stage {stage.name} CONFIG --close")
    return runner.work


def _first_unfinished(runner: Runner, begin: int, end: int, any_code: bool) -> Stage | None:
    for position, stage in enumerate(runner.stages[: end + 1]):
        record = runner.identify(stage, any_code)
        if record.get("finished") and record["fingerprint"] == runner.fingerprints[stage.name]:
            continue
        if position < begin:
            raise StageError(runner.not_there(stage, record))
        return stage
    return None
