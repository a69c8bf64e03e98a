"""What the three training stages share: start weights, the loop with progress and MLflow, the saved result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import keras

from tfwsss import stack
from tfwsss.config import Fidelity, Model, Training
from tfwsss.errors import StageError
from tfwsss.models import head_layers
from tfwsss.storage.atomic import write_json
from tfwsss.training.devices import make_strategy
from tfwsss.training.loop import CHECKPOINT, Task, fit, make_deterministic
from tfwsss.training.optimizer import MOMENTUM
from tfwsss.weights import LoadReport, load_weights, named_variables, save_weights

from ..engine.context import WEIGHTS, Context, weights_path
from ..engine.progress import console, progress_bar

HISTORY = "history.json"


def model_arguments(model: Model, dropout: str) -> dict:
    """Keyword arguments every builder of `tfwsss.models` takes."""
    return {
        "width": model.width,
        "output_stride": model.output_stride,
        "batch_norm": model.batch_norm,
        "freeze": model.freeze,
        "dropout": {"faithful": "spatial", "corrected": "elementwise"}[dropout],
    }


def load_start_weights(model: keras.Model, settings: Model, work: Path) -> LoadReport | None:
    """Fill a new model as `weights` says; layers that the file does not cover keep their initial values."""
    if settings.weights is None:
        return None
    if settings.weights == "imagenet":
        from tfwsss.weights.imagenet import load_imagenet

        report = load_imagenet(model, settings.backbone)
    else:
        path = weights_path(work, "classifier") if settings.weights == "classifier" else Path(settings.weights)
        report = load_weights(model, path)
    origin = f" ({report.source})" if settings.weights == "imagenet" else ""
    console.print(f"  start weights {settings.weights}{origin}: {len(report.loaded)} arrays loaded, {len(report.missing)} start from scratch")
    return report


def train_stage(
    context: Context,
    name: str,
    settings: Training,
    *,
    images: int,
    momentum: Fidelity,
    build: Callable[[], keras.Model],
    batches: Callable,
    loss: Callable,
    metrics: Mapping | None = None,
    compared: Callable = lambda outputs, batch: (),
    ema: float | None = None,
) -> dict[str, float]:
    """Train one network and save it as <name>/weights.safetensors. Of several workers only the chief writes and reports.

    Args:
        context: of the stage.
        name: of the stage.
        settings: its section of the configuration.
        images: training samples in one epoch.
        momentum: the value of SGD's momentum, by switch.
        build: makes the model (called under the strategy's scope and the precision policy).
        batches, loss, metrics, compared: see `tfwsss.training.loop.Task`.
        ema: see `tfwsss.training.loop.fit`.

    Returns:
        The last epoch's entries as final_<name> (<name> alone is MLflow's series over the epochs); nothing after 0 epochs.

    Raises:
        StageError: no training is wanted, and the start weights do not fill the whole model.
    """
    config = context.config
    folder = context.folder(name)
    make_deterministic(config.seed)
    strategy = make_strategy(config.runtime.strategy, context.cluster)
    previous = stack.global_dtype_policy()
    keras.mixed_precision.set_global_policy(settings.precision)
    try:
        with strategy.scope():
            model = build()
            report = load_start_weights(model, settings.model, context.work)
    finally:
        keras.mixed_precision.set_global_policy(previous)
    if settings.epochs == 0 and report is not None and (report.missing or report.wrong_shape):
        absent = [*report.missing, *(entry.name for entry in report.wrong_shape)]
        raise StageError(f"{name}.epochs is 0, but {settings.model.weights} lacks {len(absent)} arrays of the network, such as {absent[0]}")
    steps = max(images // settings.batch_size, 1)
    task = Task(model, frozenset(head_layers(model)), batches, loss, steps, metrics or {}, compared)

    def log(entry: dict) -> None:
        context.run.metrics({key: value for key, value in entry.items() if key != "epoch"}, step=entry["epoch"])

    def on_restore(history: list[dict]) -> None:
        for entry in history:  # the earlier process may have been killed between an epoch's checkpoint and its log
            log(entry)

    def on_epoch(entry: dict) -> None:
        epoch = entry["epoch"]
        log(entry)
        console.print(f"  {name}: epoch {epoch}/{settings.epochs}, " + ", ".join(f"{key} {value:.4g}" for key, value in entry.items() if key != "epoch"))

    shown = config.runtime.progress and context.cluster.chief
    with progress_bar(name, steps * settings.batch_size * settings.epochs, shown) as bar:
        history = fit(
            task,
            settings,
            momentum=MOMENTUM[momentum],
            ema=ema,
            folder=folder,
            strategy=strategy,
            cluster=context.cluster,
            on_step=bar.advance,
            on_epoch=on_epoch if context.cluster.chief else lambda entry: None,
            on_restore=on_restore if context.cluster.chief else lambda history: None,
        )
    if context.cluster.chief:
        _save(context, model, folder, history)
    else:  # reading running statistics sums them over the workers: the chief cannot do it alone
        for variable in named_variables(model).values():
            variable.numpy()
    last = history[-1] if history else {}
    return {f"final_{key}": value for key, value in last.items() if key not in ("epoch", "learning_rate")}


def _save(context: Context, model: keras.Model, folder: Path, history: list[dict]) -> None:
    save_weights(model, folder / WEIGHTS)
    write_json(folder / HISTORY, history)
    context.run.artifact(folder / WEIGHTS)
    context.run.artifact(folder / HISTORY)
    (folder / CHECKPOINT).unlink(missing_ok=True)  # the stage's record says finished from here on; the state is not needed again
