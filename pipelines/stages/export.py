"""Stage `export`: the segmenter as SavedModel, ONNX and, if wanted, .tflite, checked against Keras in a fresh process before it counts.

Artefacts are made in export/unchecked/ and moved to export/ when all of them have passed, so that nothing unchecked ever
lies where deployments look for models. SavedModels of earlier versions stay: a server may be using them.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfwsss.storage.atomic import read_json, remove, replace_folder, write_json

from ..engine.context import DIGESTS, Context, weights_path
from ..engine.progress import console
from ..engine.stage import Stage
from .scoring import load_table

SAVED_MODEL = "saved_model"
WARMUP = "assets.extra"  # TensorFlow's folder for them
ONNX_NAMES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
TFLITE = "model.tflite"


def _warmup_photos(dataset, count: int) -> list[bytes]:
    """The first photos as clients would send them: the files themselves, or as PNG what `serve_bytes` does not read."""
    import tensorflow as tf

    from tfwsss.export.decode import decode_image

    files = []
    for sample in dataset.samples[:count]:
        file = Path(sample.image).read_bytes()
        try:
            decode_image(tf.constant(file), dataset.max_megapixels)
        except tf.errors.InvalidArgumentError:
            encoded = io.BytesIO()
            Image.fromarray(dataset.read(sample)).save(encoded, "PNG")
            file = encoded.getvalue()
        files.append(file)
    return files


def _replace(source: Path, target: Path) -> None:
    """Move a checked artefact to its place; a version is replaced only by another export of it."""
    from tfwsss.export.saved_model import require_replaceable

    target.parent.mkdir(exist_ok=True)
    if source.is_dir():
        require_replaceable(target)
        replace_folder(source, target)
    else:
        source.replace(target)


def _log(context: Context, path: Path, folder: str) -> None:
    """Keep an artefact in MLflow; without the photos in a SavedModel's warm-up requests where photos are not to go there."""
    if context.config.report.photos_to_tracking or not (path / WARMUP).is_dir():
        context.run.artifact(path, folder=folder)
        return
    for part in sorted(path.iterdir()):
        if part.name != WARMUP:
            context.run.artifact(part, folder=f"{folder}/{path.name}")


def _check_lower_precisions(context: Context, folder: Path) -> dict:
    """mIoU of fp16 and int8 beside that of fp32 on the evaluation photos; raises ExportError beyond the budget."""
    from tfwsss.export import add_metadata, check_accuracy

    settings = context.config.export
    dataset = context.scored_dataset("val")
    masked = [sample for sample in dataset.samples if dataset.mask(sample) is not None] if dataset else []
    if dataset is None or not masked:
        if len(settings.precisions) > 1:
            console.print("  no evaluation photos with masks: the accuracy of fp16 and int8 is not checked")
        return {"images": 0, "reason": "no evaluation photos with masks", "variants": {}}
    fp32 = folder / ONNX_NAMES["fp32"]
    variants = [folder / ONNX_NAMES[precision] for precision in settings.precisions if precision != "fp32"]
    samples = ((dataset.read(sample), dataset.mask(sample)) for sample in masked)
    result = check_accuracy(fp32, variants, samples, budget=settings.miou_budget)
    miou = {"fp32": result["reference"]["miou"], **{precision: entry["miou"] for precision, entry in result["variants"].items()}}
    for path in (fp32, *variants):
        add_metadata(path, {"miou": {"images": len(masked), **{precision: round(value, 4) for precision, value in miou.items()}}})
    return result


def _register(context: Context, name: str, example, miou: float | None, tags: dict[str, str]) -> None:
    """Put model.onnx into MLflow's model registry, now or when it answers."""
    from .registry import Gates, registration

    settings, digests = context.config.export, read_json(context.work / "data" / DIGESTS)
    gates = Gates(miou, settings.champion_miou, f"{digests['val']} {digests['val_masks']}")
    if not context.run.act("register", registration(context.work / "export" / ONNX_NAMES["fp32"], name, example, gates, tags)):
        console.print(f"  {name}: not registered yet; the next run of the same command does it when MLflow answers", style="yellow", markup=False)


def _registered(client, run_id: str, values: dict) -> None:
    from .registry import register

    register(client, run_id, values)


def run(context: Context) -> dict[str, float]:
    from tfwsss.export import ParityCheck, export_onnx, export_saved_model, export_tflite
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    config, settings, work = context.config, context.config.export, context.work
    folder, unchecked = context.folder("export"), context.folder("export/unchecked")
    train = context.dataset("train")
    weights = weights_path(work, "segmenter")
    model = load_model(weights)
    shared: dict[str, Any] = {
        "class_names": train.classes,
        "normalization": normalization(config.segmenter.model.backbone),
        "scales": settings.scales,
        "flip": settings.flip,
        "metadata": {
            "licence": settings.licence,
            "preset": config.name,
            "data_digest": read_json(work / "data" / DIGESTS)["train"],
            "mlflow_run_id": context.run.id,
            "scores": {f"{row.name} ({row.split})": round(row.miou, 4) for row in load_table(work).rows},
        },
    }
    examples = context.dataset("val") or train
    photos = [sample.image for sample in examples.samples[: settings.parity_photos]]
    test_time = {name: shared[name] for name in ("normalization", "scales", "flip")}
    with ParityCheck(weights, **test_time, photos=photos, tflite_size=settings.tflite, long_side=config.data.long_side) as check:
        saved_model = export_saved_model(
            model,
            unchecked / SAVED_MODEL,
            version=settings.version,
            max_megapixels=config.data.max_megapixels,
            long_side=config.data.long_side,
            warmup_photos=_warmup_photos(examples, settings.warmup_photos),
            **shared,
        )
        calibration = [train.read(sample) for sample in train.samples[: settings.calibration_images]] if "int8" in settings.precisions else None
        for precision in settings.precisions:
            export_onnx(
                model,
                unchecked / ONNX_NAMES[precision],
                precision=precision,
                outputs=settings.outputs,
                opset=settings.opset,
                long_side=config.data.long_side,
                calibration_images=calibration,
                calibration=settings.calibration,
                rounding=settings.rounding,
                **shared,
            )
        tflite = export_tflite(model, unchecked / TFLITE, size=settings.tflite, **shared) if settings.tflite else None
        # First, because it writes into the files: parity is that of the very bytes which are deployed.
        accuracy = _check_lower_precisions(context, unchecked)
        parity = check.compare(saved_model=saved_model, onnx=unchecked / ONNX_NAMES["fp32"], tflite=tflite)
    parity["accuracy"] = accuracy
    for entry in (*parity["artefacts"].values(), *accuracy["variants"].values(), *([accuracy["reference"]] if accuracy["images"] else [])):
        entry["path"] = str(Path(entry["path"]).relative_to(unchecked))
    names = [f"{SAVED_MODEL}/{settings.version}", *(ONNX_NAMES[precision] for precision in settings.precisions), *([TFLITE] if tflite else [])]
    for name in names:
        _replace(unchecked / name, folder / name)
    write_json(folder / "parity.json", parity)
    remove(unchecked)
    for name in ("parity.json", *names):
        _log(context, folder / name, SAVED_MODEL if name.startswith(SAVED_MODEL) else "")
    metrics = {f"parity/{name}/pixels_within_error": entry["different_pixels"] for name, entry in parity["artefacts"].items()}
    for name, entry in accuracy["variants"].items():
        metrics |= {f"export/{name}/miou": entry["miou"], f"export/{name}/miou_lost": entry["lost"], f"export/{name}/agreement": entry["agreement"]}
    if settings.registered_model:
        tags = {name: str(shared["metadata"][name]) for name in ("licence", "preset", "data_digest")}
        miou = accuracy["reference"]["miou"] if accuracy["images"] else None
        example = examples.read(examples.samples[0]) if config.report.photos_to_tracking else np.full((96, 128, 3), 127, np.uint8)
        _register(context, settings.registered_model, example, miou, {**tags, "saved_model_version": str(settings.version)})
    return metrics


STAGE = Stage(
    name="export",
    run=run,
    tensorflow=True,
    needs=("segmenter", "evaluate"),
    data=("train", "val", "val_masks"),
    settings=("export", "name", "data.max_megapixels", "data.long_side"),
    kept=(f"export/{SAVED_MODEL}", "export/bundle"),
    actions={"register": _registered},
    code=("tfwsss_pipelines.stages.export", "tfwsss_pipelines.stages.registry", "tfwsss.export", "tfwsss.models", "tfwsss.weights", "tfwsss.normalization"),
)
