"""The `tfwsss` command. Every command does what the same call in Python does; errors end with one message and exit code 2."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tfwsss import __version__
from tfwsss.config import Config
from tfwsss.config.fields import describe_fields
from tfwsss.config.files import config_files, preset_names
from tfwsss.errors import WeightsError
from tfwsss.training.cluster import find_cluster

from .deployment.command import predict, serve
from .engine import failures
from .engine.interruption import Interrupted, ends_at_once, interruptible
from .engine.sharing import Share
from .engine.terminal import console, show
from .exchange.command import labels_app
from .options import PATH, CodeOption, ConfigArgument, SetOption, WorkOption, path_of
from .options import load as _load
from .proposal.answers import Device, Untagged
from .stages import NAMES

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="From tagged photos to a deployed segmentation model.")
data_app = typer.Typer(no_args_is_help=True, help="Look at a data set.")
app.add_typer(data_app, name="data")
app.add_typer(labels_app, name="labels")


def _runner(config: Config, source: str):
    from .engine.runner import Runner
    from .stages.order import stages_for

    return Runner(stages_for(config), config, config_files(source))


class ScoredStage(StrEnum):
    """Stages with a table of scores, the one that has the most first."""

    evaluate = "evaluate"
    label_scores = "label_scores"


def _share(text: str) -> Share | None:
    try:
        return Share.parse(text) if text else None  # empty where another program fills it in, such as MLflow's
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


ShardOption = Annotated[
    Share | None, typer.Option("--shard", parser=_share, metavar="I/N", help="Do a part of the photos: this is the I-th of N processes that share the work directory.")
]


def _run(
    config: Config, source: str, first: str | None, last: str | None, *, force: bool = False, any_code: bool = False, close: bool = False, shard: Share | None = None
) -> Path:
    """Run stages and show what there is up to the last of them: what later ones have left is of an earlier run, perhaps of other settings."""
    given = [name for name, value in {"--shard": shard, "--close": close, "--force": force}.items() if value]
    if len(given) > 1:
        raise typer.BadParameter(f"{' and '.join(given)} exclude each other")
    runner = _runner(config, source)
    if shard is not None:
        from .engine.shards import run_share

        with interruptible():
            return run_share(runner, shard, first, last, any_code)
    chief = find_cluster().chief
    with interruptible() if chief else ends_at_once():
        work = runner.run(first, last, force, any_code, close)
    if not chief:
        return work
    done = [stage.name for stage in runner.stages[: runner.index(last) + 1 if last else None]]
    scored = [stage.value for stage in ScoredStage if stage.value in done]
    if scored:
        from .stages.scoring import load_table

        table = load_table(work, scored[0])
        if table.rows:  # none without masks
            show(f"\n{table.text()}\n")
    results = {
        "report": ("report", work / "report/index.html"),
        "SavedModel": ("export", work / f"export/saved_model/{config.export.version}"),
        "ONNX": ("export", work / "export/model.onnx"),
    }
    for name, (stage, path) in results.items():
        if stage in done:
            show(f"{name:<11}{path}")
    return work


@app.command()
def init(
    photos: Annotated[Path, typer.Argument(help="A folder of photos, or an annotation file.", metavar="PHOTOS", parser=path_of)],
    output: Annotated[Path, typer.Option("--output", "-o", **PATH, help="The YAML file to write.")] = Path("run.yaml"),
    format: Annotated[str | None, typer.Option("--format", help="Read it as this data.format, where it can be read in several ways.")] = None,
    photo_folder: Annotated[Path | None, typer.Option("--photos", **PATH, help="Folder of the photos, where PHOTOS is an annotation file elsewhere.")] = None,
    untagged: Annotated[Untagged | None, typer.Option(help="Photos without a tag: leave_out, or background: they show none of the classes.")] = None,
    held_out: Annotated[float | None, typer.Option(help="Part of the photos that is held out for evaluation.", min=0.0, max=1.0)] = None,
    device: Annotated[Device | None, typer.Option(help="What the run will compute on; without it, what this machine has.")] = None,
    backbone: Annotated[str | None, typer.Option(help="Of all three networks.")] = None,
    weights: Annotated[str | None, typer.Option(help="Start weights: imagenet, or a file for the backbone (mobilenetv2 without --backbone).")] = None,
    work_dir: WorkOption = None,
    force: Annotated[bool, typer.Option("--force", help="Write over the YAML file if it is there.")] = False,
) -> None:
    """Look at photos and tags, say what is found, and write a configuration that runs."""
    from .proposal.command import init_run
    from .proposal.propose import Options

    init_run(photos, output, Options(format, photo_folder, untagged, held_out, device, backbone, weights), work_dir, force=force)


@app.command()
def run(
    config: ConfigArgument,
    set_: SetOption = None,
    work_dir: WorkOption = None,
    first: Annotated[str | None, typer.Option("--from", metavar="STAGE", help="First stage to run; earlier ones must have finished.")] = None,
    last: Annotated[str | None, typer.Option("--until", metavar="STAGE", help="Last stage to run.")] = None,
    force: Annotated[bool, typer.Option(help="Run the selected stages anew even if nothing has changed.")] = False,
    any_code: CodeOption = False,
    shard: ShardOption = None,
) -> None:
    """Run the pipeline: finished stages are reused, an interrupted one goes on. With --shard, its photos of the first stage that has not finished."""
    _run(_load(config, set_, work_dir), config, first, last, force=force, any_code=any_code, shard=shard)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    config: ConfigArgument,
    set_: SetOption = None,
    work_dir: WorkOption = None,
    force: Annotated[bool, typer.Option(help="Run it anew even if nothing has changed.")] = False,
    any_code: CodeOption = False,
    shard: ShardOption = None,
    close: Annotated[bool, typer.Option("--close", help="Finish a stage whose shards have ended, or say which photos are missing.")] = False,
) -> None:
    """Run one stage, or a shard of it; those before it must have finished."""
    _run(_load(config, set_, work_dir), config, name, name, force=force, any_code=any_code, close=close, shard=shard)


@app.command()
def evaluate(config: ConfigArgument, set_: SetOption = None, work_dir: WorkOption = None, any_code: CodeOption = False) -> None:
    """Score the segmenter against the masks, and print the table of all scores (without a segmenter: tfwsss run CONFIG --until label_scores)."""
    _run(_load(config, set_, work_dir), config, "evaluate", "evaluate", any_code=any_code)


@app.command()
def export(
    config: ConfigArgument,
    set_: SetOption = None,
    work_dir: WorkOption = None,
    any_code: CodeOption = False,
    bundle: Annotated[bool, typer.Option("--bundle", help="Also write export/bundle: files for TensorFlow Serving, Triton, KServe and Hugging Face.")] = False,
) -> None:
    """Export the segmenter to SavedModel and ONNX and check that they agree with it."""
    loaded = _load(config, set_, work_dir)
    work = _run(loaded, config, "export", "export", any_code=any_code)
    if bundle:
        from .deployment.bundle import write_bundle

        show(f"{'bundle':<11}{write_bundle(loaded, work)}")


@app.command("bench-export")
def bench_export(
    config: ConfigArgument,
    set_: SetOption = None,
    work_dir: WorkOption = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="Measure the segmenter with random weights, exported for the occasion; no run is needed.")] = False,
    size: Annotated[list[str] | None, typer.Option(help="Photo size; may be given several times.", metavar="HEIGHTxWIDTH")] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Photos in one request; may be given several times.", min=1)] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int, typer.Option(help="CPU threads of one request; 0: one per core.", min=0)] = 0,
    rounds: Annotated[int, typer.Option(help="Turns of each artefact.", min=1)] = 7,
    starts: Annotated[int, typer.Option(help="Fresh processes of each artefact for the start-up figures.", min=0)] = 3,
    output: Annotated[Path | None, typer.Option("--output", "-o", **PATH, help="JSON file for all figures.")] = None,
) -> None:
    """Latency, throughput and memory of every exported artefact beside Keras, and percent of what this machine can."""
    from .bench.export import bench

    cases = {"sizes": size or ["375x500"], "batches": batch or [1, 4]}
    show(bench(_load(config, set_, work_dir), untrained=untrained, **cases, device=device, threads=threads, rounds=rounds, starts=starts, output=output))


@app.command()
def report(config: ConfigArgument, set_: SetOption = None, work_dir: WorkOption = None, any_code: CodeOption = False) -> None:
    """Write report/index.html."""
    _run(_load(config, set_, work_dir), config, "report", "report", any_code=any_code)


@app.command()
def summary(
    work_dirs: Annotated[list[Path], typer.Argument(help="Work directories of finished runs.", metavar="WORK_DIR...", parser=path_of)],
    stage: Annotated[ScoredStage, typer.Option(help="evaluate has all scores; label_scores is there without a segmenter.")] = ScoredStage.evaluate,
    against: Annotated[
        list[Path] | None,
        typer.Option(help="Work directory of a run that learnt from masks; may be given several times. Prints the ratio to it.", metavar="WORK_DIR"),
    ] = None,
) -> None:
    """Mean and deviation of the scores of several runs of one experiment, for example with different seeds."""
    from tfwsss.report.ratio import compare
    from tfwsss.report.summary import summarize

    from .stages.scoring import load_table

    tables = [load_table(work, stage.value) for work in work_dirs]
    show(compare(tables, [load_table(work, stage.value) for work in against]) if against else summarize(tables))


app.command()(predict)
app.command()(serve)


@app.command("import-weights")
def import_weights(
    file: Annotated[Path, typer.Argument(**PATH, help="MXNet .params, Caffe .caffemodel, PyTorch .pth, Keras .h5, or our own .safetensors.")],
    model: Annotated[str, typer.Option("--model", help="BACKBONE-classifier, BACKBONE-affinitynet or BACKBONE-segmenter.")],
    output: Annotated[Path, typer.Option("--output", "-o", **PATH, help="The .safetensors or .weights.h5 file to write.")],
    classes: Annotated[int, typer.Option(help="Number of classes without background.")] = 20,
    width: Annotated[float, typer.Option(help="Channel multiplier of the backbone.")] = 1.0,
    allow_mismatch: Annotated[bool, typer.Option(help="Accept entries that are missing or do not fit.")] = False,
) -> None:
    """Turn published weights into a file of this project."""
    from .engine.startup import load_tensorflow

    load_tensorflow()
    from tfwsss.weights.importing import import_weights as run_import

    if output.resolve() == file.resolve():
        raise WeightsError(f"{output}: is the file to import; choose another --output")
    backbone, _, builder = model.rpartition("-")
    report = run_import(file, builder, backbone, classes, output, width=width, allow_mismatch=allow_mismatch)
    show(report.render())


@app.command()
def presets() -> None:
    """List the shipped presets."""
    for name in preset_names():
        show(name)


@app.command()
def fields() -> None:
    """List every field of the configuration: name, default, meaning."""
    for name, default, description in describe_fields():
        show(f"{name} = {default}" + (f"\n    {description}" if description else ""))


@data_app.command("check")
def data_check(
    config: ConfigArgument,
    set_: SetOption = None,
    work_dir: WorkOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Examine photos, tags, masks, and what else a run needs: start weights, the disk, MLflow; exit code 1 when something is wrong."""
    from .proposal.command import check_data

    loaded = _load(config, set_, work_dir)
    if not check_data(_runner(loaded, config), as_json=as_json):
        raise typer.Exit(1)


def _version(wanted: bool) -> None:
    if wanted:
        show(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print the whole traceback of an error; may stand anywhere.")] = False,
) -> None:
    pass


def main() -> None:
    """Entry point of the console script."""
    # TensorFlow's start-up chatter hides our own messages.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    debug = failures.take_debug(sys.argv)
    try:
        app()
    except Interrupted as stop:
        console.print(f"interrupted ({stop}); the same command goes on where this one stopped", style="yellow")
        sys.exit(128 + stop.signal)
    except BrokenPipeError:  # whoever read our output has gone
        sys.stdout = None
        sys.exit(1)
    except Exception as error:
        sys.exit(failures.report(error, debug))


if __name__ == "__main__":
    main()
