"""What a stage is, and how its fingerprint is made.

A fingerprint covers the settings a stage reads, the fingerprints of the stages it needs, the digest of the data it
reads and the source of the modules it runs. Equal fingerprints mean equal results, so a finished stage is not run again.
"""

import ast
import hashlib
import importlib.util
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pydantic import BaseModel

from tfwsss.config import Config


@dataclass(frozen=True)
class Stage:
    """One step of the pipeline.

    Attributes:
        name: also the name of its folder below the work directory.
        run: does the work and returns metrics; goes on where a killed run stopped.
        photos: of a stage that leaves files for each photo: makes those of the photos that are `context.share`'s, as `run` does
            first, and returns counts of them as metrics.
        needs: stages whose results it reads.
        data: digests of the data stage it depends on ("train", "val", "train_masks", "val_masks").
        signatures: for the first stage, function (config, work directory) -> its own `data` digests, known before anything has run.
        settings: dotted names in the configuration that can change its result.
        code: modules whose source can change its result.
        tensorflow: whether it computes with TensorFlow, which takes seconds to start, besides what other processes may do for it.
        all_workers: whether all processes of a cluster (TF_CONFIG) do it together; the chief does the others alone.
        labelling: whether it is a step from the classifier to pseudo labels, which a segmenter that learns from masks does without.
        outputs: folders below the work directory that it alone writes, besides its own.
        kept: paths below the work directory that stay when its other results are removed because something has changed.
        actions: what it asks of MLflow besides logging, through `StageRun.act`: name -> function (client, run's id, values), see `Outbox`.
    """

    name: str
    run: Callable
    photos: Callable | None = None
    needs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    signatures: Callable[[Config, Path], dict[str, str]] | None = None
    settings: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    tensorflow: bool = False
    all_workers: bool = False
    labelling: bool = False
    outputs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    actions: Mapping[str, Callable] = field(default_factory=dict)

    def folders(self, work: Path) -> list[Path]:
        """All folders it writes and, when its settings have changed, clears."""
        return [work / self.name, *(work / output for output in self.outputs)]


def digest(value) -> str:
    """Stable hash of anything JSON can hold."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def setting(config: Config, dotted: str):
    """Value of a dotted name as plain data."""
    value = config
    for part in dotted.split("."):
        value = getattr(value, part)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def settings_of(stage: Stage, config: Config) -> dict:
    """The settings of a stage as plain data, by dotted name."""
    return {name: setting(config, name) for name in stage.settings}


@cache
def code_digest(module: str) -> str:
    """Hash of a module's (or package's) syntax tree without docstrings: comments and layout do not matter."""
    # By path: looking for a submodule would import its package, and with it TensorFlow, before it is known whether anything runs.
    package, *names = module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"{module}: no such module")
    path = Path(spec.origin).parent.joinpath(*names)
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return digest([_without_docstrings(file.read_text(encoding="utf-8")) for file in files])


def _without_docstrings(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            del body[0]
    return ast.dump(tree)


def recipe(stage: Stage, config: Config, needed: dict[str, str], data_digests: dict[str, str]) -> str:
    """What a stage's result is made of, whatever code makes it: settings, data, and the recipes of the stages it needs.

    Args:
        stage: the stage.
        config: the configuration.
        needed: recipes of the stages in `stage.needs`.
        data_digests: what the data stage found.
    """
    return digest(_parts(stage, config, needed, data_digests))


def fingerprint(stage: Stage, config: Config, needed: dict[str, str], data_digests: dict[str, str]) -> str:
    """Identity of a stage's result: `recipe`, with fingerprints instead of recipes, and the code."""
    return digest(_parts(stage, config, needed, data_digests) | {"code": {name: code_digest(name) for name in stage.code}})


def _parts(stage: Stage, config: Config, needed: dict[str, str], data_digests: dict[str, str]) -> dict:
    return {
        "stage": stage.name,
        "settings": settings_of(stage, config),
        "needs": {name: needed[name] for name in stage.needs},
        "data": {name: data_digests[name] for name in stage.data},
    }
