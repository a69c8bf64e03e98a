"""Stage `export`: the segmenter as SavedModel and ONNX, checked against Keras in a fresh process before it counts.

Artefacts are made in export/unchecked/ and moved to export/ when all of them have passed, so that nothing unchecked ever
lies where deployments look for models. SavedModels of earlier versions stay: a server may be using them.
"""

import io
import shutil
from pathlib import Path

from PIL import Image

from pipelines.evaluate import load_table
from pipelines.progress import console
from pipelines.runner import DIGESTS, Context
from pipelines.stage import Stage
from tfwsss.atomic import read_json, write_json

SAVED_MODEL = "saved_model"
ONNX_NAMES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
PARITY_PHOTOS = 3


def _warmup_photos(dataset, count: int) -> list[bytes]:
    """The first photos as clients would send them: files that are JPEG or PNG as they are, others as PNG."""
    files = []
    for sample in dataset.samples[:count]:
        file = Path(sample.image).read_bytes()
        if not file.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")):
            encoded = io.BytesIO()
            Image.fromarray(dataset.read(sample)).save(encoded, "PNG")
            file = encoded.getvalue()
        files.append(file)
    return files


def _replace(source: Path, target: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    source.replace(target)


def _check_lower_precisions(context: Context, folder: Path) -> dict[str, dict]:
    """mIoU of fp16 and int8 against fp32 on the evaluation photos; raises ExportError beyond the budget."""
    from tfwsss.export import check_accuracy

    settings = context.config.export
    variants = [precision for precision in settings.precisions if precision != "fp32"]
    dataset = context.scored_dataset("val")
    masked = [sample for sample in dataset.samples if dataset.mask(sample) is not None] if dataset and variants else []
    if variants and not masked:
        console.print("  no evaluation photos with masks: the accuracy of fp16 and int8 is not checked")
        return {}
    results = {}
    for precision in variants:
        samples = ((dataset.read(sample), dataset.mask(sample)) for sample in masked)
        budget = settings.miou_budget
        results[precision] = check_accuracy(folder / ONNX_NAMES["fp32"], folder / ONNX_NAMES[precision], samples, budget=budget)
    return results


def run(context: Context) -> dict[str, float]:
    from pipelines.train import weights_path
    from tfwsss.export import check_parity, export_onnx, export_saved_model
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    config, settings, work = context.config, context.config.export, context.work
    folder, unchecked = context.folder("export"), context.folder("export/unchecked")
    train = context.dataset("train")
    weights = weights_path(work, "segmenter")
    model = load_model(weights)
    shared = {
        "class_names": train.classes,
        "normalization": normalization(config.segmenter.model.backbone),
        "scales": settings.scales,
        "flip": settings.flip,
        "metadata": {
            "licence": settings.licence,
            "experiment": config.name,
            "data_digest": read_json(work / "data" / DIGESTS)["train"],
            "mlflow_run_id": context.run.id,
            "scores": {f"{row.name} ({row.split})": round(row.miou, 4) for row in load_table(work).rows},
        },
    }
    examples = context.dataset("val") or train
    saved_model = export_saved_model(
        model,
        unchecked / SAVED_MODEL,
        version=settings.version,
        max_megapixels=config.data.max_megapixels,
        warmup_photos=_warmup_photos(examples, settings.warmup_photos),
        **shared,
    )
    calibration = [train.read(sample) for sample in train.samples[: settings.calibration_images]] if "int8" in settings.precisions else None
    for precision in settings.precisions:
        export_onnx(
            model,
            unchecked / ONNX_NAMES[precision],
            precision=precision,
            opset=settings.opset,
            calibration_images=calibration,
            calibration=settings.calibration,
            **shared,
        )
    photos = [sample.image for sample in examples.samples[:PARITY_PHOTOS]]
    parity = check_parity(
        weights,
        normalization=shared["normalization"],
        saved_model=saved_model,
        onnx=unchecked / ONNX_NAMES["fp32"],
        scales=settings.scales,
        flip=settings.flip,
        photos=photos,
    )
    parity["lower_precisions"] = _check_lower_precisions(context, unchecked)
    for entry in (*parity["artefacts"].values(), *parity["lower_precisions"].values()):
        entry["path"] = str(Path(entry["path"]).relative_to(unchecked))
    names = [f"{SAVED_MODEL}/{settings.version}", *(ONNX_NAMES[precision] for precision in settings.precisions)]
    for name in names:
        _replace(unchecked / name, folder / name)
    write_json(folder / "parity.json", parity)
    shutil.rmtree(unchecked)
    for name in ("parity.json", *names):
        context.run.artifact(folder / name, folder=SAVED_MODEL if name.startswith(SAVED_MODEL) else "")
    metrics = {f"parity/{name}/pixels_within_error": entry["different_pixels"] for name, entry in parity["artefacts"].items()}
    return metrics | {f"parity/{name}/miou_lost": entry["lost"] for name, entry in parity["lower_precisions"].items()}


STAGE = Stage(
    name="export",
    run=run,
    tensorflow=True,
    needs=("segmenter", "evaluate"),
    data=("train", "val", "val_masks"),
    settings=("export", "name", "data.max_megapixels"),
    kept=(f"export/{SAVED_MODEL}",),
    code=("pipelines.export", "tfwsss.export", "tfwsss.models", "tfwsss.weights", "tfwsss.normalization"),
)
