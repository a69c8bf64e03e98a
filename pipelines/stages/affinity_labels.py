"""Stage `affinity_labels`: confident foreground and background by two dense-CRF passes over each photo's CAMs."""

from tfwsss.background import CamHistogram, choose_alphas, combine_crf, threshold_of_alpha
from tfwsss.config import NAMED_ALPHAS, Crf, FixedAlphas
from tfwsss.crf import crf_scores_of_alphas
from tfwsss.data.image import read_image
from tfwsss.storage.artifacts import artifact_path, load_cam, save_label, save_scores
from tfwsss.storage.atomic import read_json, write_json

from ..engine.context import Context
from ..engine.progress import console, progress_bar
from ..engine.stage import Stage
from .refinement import map_photos, prepare_crf

ALPHAS = "alphas.json"


def label_image(image_path, image_id: str, cams, folder, alphas: FixedAlphas, crf: Crf, normalize: bool, keep_scores: bool, max_megapixels: float) -> None:
    """Both CRF passes of one photo, on the same kernels."""
    image = read_image(image_path, max_megapixels)
    classes, cam = load_cam(cams, image_id)
    low, high = crf_scores_of_alphas(classes, cam, (alphas.low, alphas.high), image, crf, normalize=normalize)
    if keep_scores:
        save_scores(folder, image_id, classes, low, high)
    # Written last: its presence says that the photo is done.
    save_label(folder, image_id, combine_crf(low, high, classes))


def used_alphas(work) -> FixedAlphas:
    """The background exponents of a run."""
    return FixedAlphas.model_validate(read_json(work / "affinity_labels" / ALPHAS))


def _alphas(context: Context, dataset) -> FixedAlphas:
    wanted = context.config.affinity_labels.alphas
    if isinstance(wanted, FixedAlphas):
        return wanted
    if wanted in NAMED_ALPHAS:
        return NAMED_ALPHAS[wanted]
    histogram = CamHistogram()
    for sample in dataset.samples:
        histogram.update(load_cam(context.work / "cams", sample.id)[1])
    return choose_alphas(histogram)


def run(context: Context) -> dict[str, float]:
    config, settings = context.config, context.config.affinity_labels
    dataset = context.dataset("train")
    folder = context.folder("affinity_labels")
    if not (folder / ALPHAS).is_file():
        write_json(folder / ALPHAS, _alphas(context, dataset).model_dump())
    alphas = used_alphas(context.work)
    shown = ", ".join(f"{name} {alpha:.3g} (threshold {threshold_of_alpha(alpha):.2f})" for name, alpha in alphas)
    console.print(f"  background exponents: {shown}")
    keep_scores = config.affinitynet.label_source == "scores"
    normalize = config.switches.crf_scores == "corrected"
    todo = [sample for sample in dataset.samples if not artifact_path(folder, sample.id, ".png").is_file()]
    arguments = (
        (sample.image, sample.id, context.work / "cams", folder, alphas, settings.crf, normalize, keep_scores, dataset.max_megapixels)
        for sample in todo
    )
    if todo:
        prepare_crf(settings.crf)
    with progress_bar("affinity_labels", len(todo), config.runtime.progress) as bar:
        for _ in map_photos(label_image, arguments, config.runtime.workers, settings.crf):
            bar.advance()
    return {"images": len(dataset.samples), "computed": len(todo), **{f"alpha_{name}": value for name, value in alphas}}


STAGE = Stage(
    name="affinity_labels",
    run=run,
    labelling=True,
    needs=("cams",),
    data=("train",),
    settings=("affinity_labels", "affinitynet.label_source", "switches.crf_scores"),
    code=("tfwsss_pipelines.stages.affinity_labels", "tfwsss.background", "tfwsss.crf", "tfwsss_densecrf", "tfwsss.storage.artifacts"),
)
