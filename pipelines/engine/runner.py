"""Runs stages in order: reuses the finished, continues the unfinished, starts the changed anew; tracks all in MLflow."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from tfwsss.config import Config, PackedData, ScenesData
from tfwsss.data.unpacking import FOLDER as UNPACKED
from tfwsss.errors import StageError
from tfwsss.storage.atomic import read_json, remove_leftovers
from tfwsss.training.cluster import find_cluster

from ..preflight.executor import executor_problems
from ..preflight.inputs import named_paths, number_of_classes, photo_folders
from ..preflight.places import work_problems
from ..preflight.weights import download_warnings, misfits, weight_problems
from .contents import contents_of
from .context import DIGESTS, OPEN_RUNS, UNSENT, Context, Lifetime, NoRun, StageRun
from .ownership import (
    check_files,
    clear,
    kept_files,
    list_files,
    read_record,
    refuse_inputs,
    require_own_folders,
    write_record,
)
from .progress import console
from .quarantine import FILE as QUARANTINE
from .quarantine import PhotosLost, add_to_quarantine, read_quarantine, show_lost
from .sharing import Closing, Part, only_one
from .stage import Stage, digest, fingerprint, recipe, settings_of
from .startup import load_tensorflow


class Runner:
    """Runs a selection of stages.

    Where TF_CONFIG names several processes, all run the same command: the chief does what is said here, and the others
    join it in the stages with `all_workers`, see `tfwsss_pipelines.engine.workers`.

    Args:
        stages: all stages, in order; the first is the data stage.
        config: the configuration.
        files: those it was read from.
    """

    def __init__(self, stages: list[Stage], config: Config, files: Iterable[Path] = ()):
        self.stages = stages
        self.config = config
        self.files = tuple(files)
        self.cluster = find_cluster()
        self.command = Lifetime()  # of a call of `run` or `run_share`
        self.work = Path(config.work_dir).resolve()
        self.fingerprints: dict[str, str] = {}
        self.recipes: dict[str, str] = {}

    def index(self, name: str) -> int:
        names = [stage.name for stage in self.stages]
        if name not in names:
            raise StageError(f"no stage {name!r}; the stages are {', '.join(names)}")
        return names.index(name)

    def selection(self, first: str | None, last: str | None) -> tuple[int, int]:
        """Positions of the first and the last stage that a command means.

        Raises:
            StageError: a stage is unknown, or they are the wrong way round.
        """
        begin = self.index(first) if first else 0
        end = self.index(last) if last else len(self.stages) - 1
        if begin > end:
            raise StageError(f"--from {first} comes after --until {last}")
        return begin, end

    def run(self, first: str | None = None, last: str | None = None, force: bool = False, any_code: bool = False, closing: bool = False) -> Path:
        """Run the stages from `first` to `last` (default: all), those before `first` must have finished.

        With `force` the selected stages run anew even if nothing changed. With `any_code` results that other code made of the
        same settings and data count as finished, and an interrupted stage goes on. With `closing` the last stage must be one whose
        shards have left all photos. Returns the work directory.

        Raises:
            StageError: unknown stage, a missing predecessor, the work directory is in use, or holds what is not of this run.
        """
        begin, end = self.selection(first, last)
        if self.cluster.workers == 1:
            self.begin(begin, end)
            with only_one(self.work), self.command:
                self._run_selected(begin, end, force, any_code, contextlib.nullcontext, closing)
            return self.work
        from .workers import Orders

        orders = Orders(self.cluster, self.config)
        if not self.cluster.chief:
            orders.follow(self.stages, lambda stage: stage.run(self.context(stage, NoRun())))
            return self.work
        with orders.given(self.stages):  # from here on the others hear of an error
            self.begin(begin, end)
            with only_one(self.work), self.command:
                self._run_selected(begin, end, force, any_code, orders.stage, closing)
        return self.work

    def require_ready(self, begin: int = 0, end: int | None = None) -> list[str]:
        """Before anything is touched: what the run will clear must not hold what is not its own, and what it needs must be there.

        Args:
            begin, end: positions of the first and the last stage that is to run; None: the last.

        Returns:
            Warnings.

        Raises:
            StageError: with one line for each problem of a kind.
        """
        stages, folders = self.stages[: None if end is None else end + 1], self.folders()
        data = self.config.data
        written = ("scenes",) if isinstance(data, ScenesData) else (UNPACKED,) if isinstance(data, PackedData) else ()
        refuse_inputs(named_paths(self.config, self.files), self.stages, self.work, written)
        require_own_folders(stages, self.work)
        finished = frozenset(stage.name for stage in self.stages if read_record(stage, self.work).get("finished"))
        problems = [*executor_problems(self.config.runtime), *weight_problems(self.config, finished), *work_problems(self.config, folders)]
        if not problems:
            to_train = [stage.name for stage in stages[begin:] if stage.name not in finished]
            problems = misfits(self.config, lambda: number_of_classes(self.config), to_train)
        if problems:
            raise StageError("\n  ".join(["the run cannot begin:", *problems] if len(problems) > 1 else problems))
        refuse_inputs(photo_folders(self.config), self.stages, self.work, written)
        return download_warnings(self.config, finished)

    def folders(self) -> list[Path]:
        """All folders that stages write."""
        return [folder for stage in self.stages for folder in stage.folders(self.work)]

    def begin(self, begin: int, end: int) -> None:
        """`require_ready`, and show its warnings."""
        for warning in self.require_ready(begin, end):
            console.print(warning, style="yellow", markup=False)

    def _run_selected(
        self, begin: int, end: int, force: bool, any_code: bool, together: Callable[[Stage], contextlib.AbstractContextManager], closing: bool
    ) -> None:
        remove_leftovers(self.work, below=False)
        contents = contents_of(self.work)
        with contextlib.ExitStack() as open_runs:
            open_runs.callback(contents.save)
            tracking = None
            for position, stage in enumerate(self.stages[: end + 1]):
                anew = force and position >= begin
                record = self.identify(stage, any_code and not anew)
                finished = record.get("finished") and record["fingerprint"] == self.fingerprints[stage.name]
                if finished and not anew and (gone := check_files(stage, self.work, contents)):
                    if position < begin:
                        raise StageError(f"{gone[0]}: gone; run stage {stage.name} first (tfwsss run CONFIG --until {stage.name})")
                    console.print(f"  {gone[0]}{f' and {len(gone) - 1} more' if len(gone) > 1 else ''}: gone; stage {stage.name} makes it again", markup=False)
                    finished = False
                if position < begin and not finished:
                    raise StageError(self.not_there(stage, record))
                if finished and not anew:
                    console.print(f"[green]✓[/] {stage.name}: unchanged, reused")
                    continue
                if closing and position == end:
                    self._require_shards(stage, record)
                if self._made_by_other_code(stage, record):
                    console.print(f"{stage.name}: made by other code, runs anew")
                if tracking is None:
                    tracking = self._open_tracking(open_runs)
                self._run_stage(stage, {} if anew or finished else record, tracking, together)
        # What a killed run left open, or one without a server kept.
        opened = self.work / OPEN_RUNS
        if tracking is None and ((self.work / UNSENT).exists() or (opened.exists() and opened.read_bytes().strip() != b"[]")):
            self._tracker().settle()

    def _require_shards(self, stage: Stage, record: dict) -> None:
        """Before a stage is closed: its shards must have left all photos.

        Raises:
            StageError: says what is missing.
        """
        if stage.photos is None:
            raise StageError(f"stage {stage.name} is not made photo by photo: run it without --close")
        if record.get("fingerprint") != self.fingerprints[stage.name]:
            raise StageError(f"stage {stage.name}: no shard has begun it with these settings and inputs (tfwsss stage {stage.name} CONFIG --shard I/N)")
        if stage.tensorflow:
            load_tensorflow()
        with self.context(stage, NoRun(), Closing(stage.name, record.get("shards", 1))) as context:
            stage.photos(context)
        show_lost(read_quarantine(self.work / stage.name))

    def not_there(self, stage: Stage, record: dict) -> str:
        """Why a stage that should have finished has not."""
        again = f"run it first (tfwsss run CONFIG --until {stage.name})"
        if not record.get("finished"):
            return f"stage {stage.name} has not finished: {again}"
        if self._made_by_other_code(stage, record):
            return f"stage {stage.name} was made by other code, perhaps another version of tfwsss: {again}, or take it as it is with --any-code"
        return f"stage {stage.name} has changed settings or inputs: {again}"

    def _tracker(self):
        # MLflow takes seconds to import: not before there is something to do.
        from .tracking import Tracker

        return Tracker(self.config.name, self.work, {name: act for stage in self.stages for name, act in stage.actions.items()})

    def _open_tracking(self, open_runs: contextlib.ExitStack):
        tracker = self._tracker()
        open_runs.push(lambda kind, *_: tracker.settle(attempt=kind is None))
        return tracker, open_runs.enter_context(tracker.pipeline_run(self.work.name))

    def _run_stage(self, stage: Stage, record: dict, tracking, together) -> None:
        tracker, parent = tracking
        identity, contents = self.fingerprints[stage.name], contents_of(self.work)
        if record.get("fingerprint") != identity:
            clear(stage, self.work, contents)
            record = {}
        else:
            for folder in stage.folders(self.work):
                remove_leftovers(folder)
        if stage.tensorflow:
            load_tensorflow()
        started = time.monotonic()
        console.print(f"[bold]▶ {stage.name}[/]" + (" (goes on)" if record else ""))
        with tracker.stage_run(stage.name, identity, parent, record.get("run_id")) as run:
            record = {"fingerprint": identity, "recipe": self.recipes[stage.name], "finished": False, "run_id": run.id}
            write_record(stage, self.work, record)
            before = contents.digests(kept_files(stage, self.work))
            run.params(settings_of(stage, self.config))
            with together(stage):
                metrics = self.without_lost(stage, stage.run, run)
                for folder in stage.folders(self.work):  # of workers that were killed while another one went on
                    remove_leftovers(folder)
                metrics |= self._say_lost(stage, run)
            seconds = time.monotonic() - started
            run.metrics({**metrics, "seconds": seconds})
            list_files(stage, self.work, contents, before)
            write_record(stage, self.work, {**record, "finished": True, "seconds": round(seconds, 1), "metrics": metrics})
        shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items() if "/" not in name)
        console.print(f"[green]✓[/] {stage.name} in {seconds:.0f} s  {shown}")

    def context(self, stage: Stage, run: StageRun, share: Part | None = None) -> Context:
        """What a stage gets."""
        names = tuple(one.name for one in self.stages[1 : self.index(stage.name) + 1])  # the first one's quarantine is in its list of usable photos
        return Context(self.config, self.work, run, cluster=self.cluster, share=share, before=names, command=self.command)

    def without_lost(self, stage: Stage, do: Callable[[Context], dict[str, float] | None], run: StageRun, share: Part | None = None) -> dict[str, float]:
        """Do a stage, or a part of it, and again without the photos that killed their workers, until none does."""
        while True:
            with self.context(stage, run, share) as context:
                try:
                    return do(context) or {}
                except PhotosLost as error:
                    with context.alone():
                        add_to_quarantine(self.work / stage.name, error.photos)
                    show_lost(error.photos)

    def _say_lost(self, stage: Stage, run: StageRun) -> dict[str, float]:
        """Log the photos that a stage has lost. Returns their number as a metric, if there are any."""
        file = self.work / stage.name / QUARANTINE
        lost = read_quarantine(file.parent) if stage is not self.stages[0] else []
        if not lost:
            return {}
        run.artifact(file)
        console.print(f"  {len(lost)} photos killed their workers and were left out: {file}", style="yellow", markup=False)
        return {"quarantined": len(lost)}

    def _made_by_other_code(self, stage: Stage, record: dict) -> bool:
        return record.get("recipe") == self.recipes[stage.name] and record["fingerprint"] != self.fingerprints[stage.name]

    def identify(self, stage: Stage, any_code: bool) -> dict:
        """Find a stage's fingerprint, after those of the stages before it. Returns the record that it has left.

        With `any_code` the fingerprint of a result that other code has made of the same is taken over.
        """
        if stage.signatures is not None:
            digests = stage.signatures(self.config, self.work)
        else:
            digests = read_json(self.work / self.stages[0].name / DIGESTS) or {}
            missing = [name for name in stage.data if name not in digests]
            if missing:
                raise StageError(f"stage {stage.name} needs the data stage's result: run it first (tfwsss run CONFIG --until data)")
        lost = {name: sorted(photo[:2] for photo in read_quarantine(self.work / name)) for name in stage.needs if name != self.stages[0].name}
        results = [{name: digest([own, lost[name]]) if lost.get(name) else own for name, own in known.items()} for known in (self.fingerprints, self.recipes)]
        self.fingerprints[stage.name] = fingerprint(stage, self.config, results[0], digests)
        self.recipes[stage.name] = recipe(stage, self.config, results[1], digests)
        record = read_record(stage, self.work)
        if any_code and self._made_by_other_code(stage, record):
            self.fingerprints[stage.name] = record["fingerprint"]  # what was made of it is of this one
        return record
