"""Stage `cams`: class activation maps of every training photo, at several scales and mirrored."""

from ..engine.context import Context
from ..engine.stage import Stage
from ..labelling.cams import Tagged, cam_work
from ..labelling.photos import each_photo
from ..labelling.timing import Timing


def run(context: Context) -> dict[str, float]:
    from tfwsss.storage.artifacts import artifact_path
    from tfwsss.training.loop import make_deterministic

    dataset, folder, timing = context.dataset("train"), context.folder("cams"), Timing()
    make_deterministic(context.config.seed)
    photos = [Tagged(sample, tags) for sample, tags in zip(dataset.samples, dataset.tag_matrix(), strict=True)]
    todo = [photo for photo in photos if not artifact_path(folder, photo.sample.id, ".npz").is_file()]
    for _ in each_photo(context, "cams", todo, cam_work(context, dataset, folder, timing), timing):
        pass
    return {"images": len(photos), "computed": len(todo)}


STAGE = Stage(
    name="cams",
    run=run,
    labelling=True,
    tensorflow=True,
    needs=("classifier",),
    data=("train",),
    settings=("cams", "switches.resize_filter"),
    code=("tfwsss_pipelines.stages.cams", "tfwsss_pipelines.labelling.cams", "tfwsss.cam", "tfwsss.interpolation", "tfwsss.models", "tfwsss.normalization", "tfwsss.storage.artifacts"),
)
