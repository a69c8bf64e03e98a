"""Stage `export`: the segmenter as SavedModel and ONNX, checked against Keras in a fresh process before it counts."""

from pipelines.evaluate import load_table
from pipelines.runner import DIGESTS, Context
from pipelines.stage import Stage
from tfwsss.atomic import read_json
from tfwsss.errors import ExportError

ONNX_NAMES = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
PARITY_PHOTOS = 3


def run(context: Context) -> dict[str, float]:
    from pipelines.train import weights_path
    from tfwsss.export import check_parity, export_onnx, export_saved_model
    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    config, settings, work = context.config, context.config.export, context.work
    folder = context.folder("export")
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
            "scores": {f"{row.name} ({row.split})": row.miou for row in load_table(work).rows},
        },
    }
    saved_model = export_saved_model(model, folder / "saved_model", max_megapixels=config.data.max_megapixels, **shared)
    calibration = [train.read(sample) for sample in train.samples[: settings.calibration_images]] if "int8" in settings.precisions else None
    for precision in settings.precisions:
        export_onnx(
            model,
            folder / ONNX_NAMES[precision],
            precision=precision,
            opset=settings.opset,
            calibration_images=calibration,
            calibration=settings.calibration,
            **shared,
        )
    photos = [sample.image for sample in (context.dataset("val") or train).samples[:PARITY_PHOTOS]]
    fp32 = folder / ONNX_NAMES["fp32"]
    try:
        parity = check_parity(
            weights,
            normalization=shared["normalization"],
            saved_model=saved_model,
            onnx=fp32 if fp32.is_file() else None,
            scales=settings.scales,
            flip=settings.flip,
            photos=photos,
            output=folder / "parity.json",
        )
    except ExportError:
        # Nothing that failed the check may lie where deployments look for models.
        (folder / "saved_model").rename(folder / "saved_model.rejected")
        fp32.rename(fp32.with_suffix(".rejected"))
        raise
    context.run.artifact(folder / "parity.json")
    for name in ONNX_NAMES.values():
        if (folder / name).is_file():
            context.run.artifact(folder / name)
    context.run.artifact(folder / "saved_model")
    return {f"parity/{name}/pixels_within_error": entry["different_pixels"] for name, entry in parity["artefacts"].items()}


STAGE = Stage(
    name="export",
    run=run,
    needs=("segmenter", "evaluate"),
    data=("train",),
    settings=("export", "name", "data.max_megapixels"),
    code=("pipelines.export", "tfwsss.export", "tfwsss.models", "tfwsss.weights", "tfwsss.normalization"),
)
