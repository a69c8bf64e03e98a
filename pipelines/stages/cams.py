"""Stage `cams`: class activation maps of every training photo, at several scales and mirrored."""

from ..engine.context import Context
from ..engine.progress import progress_bar
from ..engine.stage import Stage


def cam_maker(context: Context):
    """Function (image uint8, tags multi-hot [C]) -> (classes, cam [K, H, W]), with the trained classifier."""
    import tensorflow as tf

    from tfwsss.cam import multiscale_cam
    from tfwsss.data.augment import pil_filter
    from tfwsss.models import cam_activation, class_maps, normalization
    from tfwsss.weights import load_model

    from .train import weights_path

    config, settings = context.config, context.config.cams
    backbone = config.classifier.model.backbone
    model = class_maps(load_model(weights_path(context.work, "classifier")))
    maps = tf.function(lambda images: model(images, training=False), input_signature=[tf.TensorSpec([None, None, None, 3], tf.float32)], autograph=False)

    def make(image, tags):
        return multiscale_cam(
            maps,
            image,
            tags,
            scales=settings.scales,
            flip=settings.flip,
            normalization=normalization(backbone),
            activation=cam_activation(backbone) if settings.activation == "auto" else settings.activation,
            filter=pil_filter(config.switches.resize_filter),
        )

    return make


def run(context: Context) -> dict[str, float]:
    from tfwsss.storage.artifacts import artifact_path, save_cam
    from tfwsss.training.loop import make_deterministic

    config = context.config
    dataset = context.dataset("train")
    folder = context.folder("cams")
    make_deterministic(config.seed)
    make_cam = cam_maker(context)
    tags = dataset.tag_matrix()
    computed = 0
    with progress_bar("cams", len(dataset.samples), config.runtime.progress) as bar:
        for index, sample in enumerate(dataset.samples):
            if not artifact_path(folder, sample.id, ".npz").is_file():
                classes, cam = make_cam(dataset.read(sample), tags[index])
                save_cam(folder, sample.id, classes, cam, config.cams.dtype)
                computed += 1
            bar.advance()
    return {"images": len(dataset.samples), "computed": computed}


STAGE = Stage(
    name="cams",
    run=run,
    labelling=True,
    tensorflow=True,
    needs=("classifier",),
    data=("train",),
    settings=("cams", "switches.resize_filter"),
    code=("tfwsss_pipelines.stages.cams", "tfwsss.cam", "tfwsss.models", "tfwsss.normalization", "tfwsss.storage.artifacts"),
)
