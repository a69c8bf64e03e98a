"""What a stage gets to work with, and what the data stage has left for it."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar, overload

from tfwsss.config import Config
from tfwsss.data import Dataset, Split, load_split
from tfwsss.errors import StageError
from tfwsss.storage.atomic import read_json
from tfwsss.training.cluster import Cluster

from .quarantine import place, read_quarantine
from .sharing import Part, behind_gate

Given = TypeVar("Given")
Made = TypeVar("Made")

# In the data stage's folder.
DIGESTS = "digests.json"  # name -> digest
WEIGHTS = "weights.safetensors"  # in a training stage's folder: its network
USABLE = "usable.json"  # split -> ids of usable photos; "unscored": split -> ids of photos whose mask is not; STRONG_MASKS -> ids of the training photos that have one
STRONG_MASKS = "strong_masks"
# In the work directory, for MLflow.
UNSENT = ".tracking.jsonl"  # entries that wait for the store
OPEN_RUNS = ".open_runs.json"  # runs that have begun and not ended


class StageRun(Protocol):
    """Where a stage reports; `tfwsss_pipelines.engine.tracking.Run` of the chief."""

    @property
    def id(self) -> str: ...
    def params(self, values: dict) -> None: ...
    def metrics(self, values: dict[str, float], step: int = 0) -> None: ...
    def tag(self, name: str, value: str) -> None: ...
    def artifact(self, path: Path, folder: str = "") -> None: ...
    def act(self, action: str, values: dict) -> bool: ...


class NoRun:
    """The run of workers that are not the chief: nothing of theirs is kept."""

    id = ""

    def params(self, values: dict) -> None:
        pass

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        pass

    def tag(self, name: str, value: str) -> None:
        pass

    def artifact(self, path: Path, folder: str = "") -> None:
        pass

    def act(self, action: str, values: dict) -> bool:
        return True


def usable_split(config: Config, work: Path, split: Split, stages: Iterable[str] = ()) -> Dataset | None:
    """A split without its quarantined photos, those among them that `stages` have lost.

    Raises:
        StageError: the data stage has not run.
    """
    usable = read_json(work / "data" / USABLE)
    if usable is None:
        raise StageError("the data stage has no result: run it first (tfwsss run CONFIG --until data)")
    dataset = load_split(config.data, split, work)
    if dataset is None:
        return None
    dataset = dataclasses.replace(dataset.subset(usable[split]), unscored=frozenset(usable["unscored"][split]))
    lost = {(photo.id, photo.photo) for stage in stages for photo in read_quarantine(work / stage)}
    return dataset.subset(sample.id for sample in dataset.samples if (sample.id, place(sample.image)) not in lost) if lost else dataset


def weights_path(work: Path, stage: str) -> Path:
    """The network that a training stage has left."""
    return work / stage / WEIGHTS


class Lifetime(contextlib.AbstractContextManager):
    """Of what is made where it is first needed, used again, and ended at the end of the block. May be entered again after that."""

    def __init__(self) -> None:
        self._kept: dict[Callable, Any] = {}
        self._closing = contextlib.ExitStack()

    def __exit__(self, *error) -> None:
        self._kept.clear()
        self._closing.__exit__(*error)

    def kept(self, make: Callable[[Given], contextlib.AbstractContextManager[Made]], given: Given) -> Made:
        """What `make` makes of `given`: made and entered by the first call with this `make`, left at the end of the block."""
        if make not in self._kept:
            self._kept[make] = self._closing.enter_context(make(given))
        return self._kept[make]


@dataclass
class Context:
    """What a stage gets.

    Attributes:
        config: the configuration.
        work: the run's work directory.
        run: the stage's MLflow run; a `NoRun` on workers that are not the chief.
        cluster: the processes that work on the stage; only the chief writes.
        share: which photos to do where others do the rest; None: all.
        before: names of the stages whose lost photos it does without: those before it, and itself.
        command: that of the command, which is longer than the stage's; whoever makes the context ends it.
        token: tells this context from others, also in other processes.
    """

    config: Config
    work: Path
    run: StageRun
    _datasets: dict = field(default_factory=dict)
    cluster: Cluster = field(default_factory=Cluster)
    share: Part | None = None
    before: tuple[str, ...] = ()
    command: Lifetime = field(default_factory=Lifetime)
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    _stage: Lifetime = field(default_factory=Lifetime)

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *error) -> None:
        self._stage.__exit__(*error)

    def kept(self, make: Callable[[Context], contextlib.AbstractContextManager]) -> Any:
        """What lives from its first use to the end of the stage, that is of the context's block."""
        return self._stage.kept(make, self)

    def folder(self, name: str) -> Path:
        """A folder below the work directory, created."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within the block no other shard is within one; for what all shards need and one makes."""
        with behind_gate(self.work) if self.share is not None else contextlib.nullcontext():
            yield

    @overload
    def dataset(self, split: Literal["train"]) -> Dataset: ...
    @overload
    def dataset(self, split: Split) -> Dataset | None: ...
    def dataset(self, split: Split) -> Dataset | None:
        """Usable photos of a split, without masks: all that any training stage may see."""
        dataset = self.scored_dataset(split)
        return dataset and dataset.without_masks()

    @overload
    def scored_dataset(self, split: Literal["train"]) -> Dataset: ...
    @overload
    def scored_dataset(self, split: Split) -> Dataset | None: ...
    def scored_dataset(self, split: Split) -> Dataset | None:
        """Usable photos of a split with their masks, for evaluation and report only."""
        if split not in self._datasets:
            self._datasets[split] = usable_split(self.config, self.work, split, self.before)
        return self._datasets[split]
