"""CAMs and random walk on the evaluation photos, for comparison with published figures; part of stage `label_scores`.

Published figures on evaluation photos give each photo its true tags, which a deployed system does not have
(switches.val_tags "faithful"). "corrected" takes the tags that the classifier finds, probability 0.5 or more.
"""

import numpy as np

from tfwsss.metrics import ConfusionMatrix
from tfwsss.pseudolabel import pseudo_label, walk_input
from tfwsss.storage.artifacts import artifact_path, load_cam, load_walk, save_cam, save_walk

from ..engine.context import Context
from ..engine.progress import progress_bar
from .affinity_labels import used_alphas
from .cams import cam_maker
from .pseudo_labels import walker

CAMS, WALKS = "label_scores/val_cams", "label_scores/val_walk"
TAGS = {"faithful": "true tags", "corrected": "predicted tags"}


def classifier_logits(context: Context):
    """Function image uint8 -> logits [C] of the trained classifier, at the photo's own size."""
    import tensorflow as tf

    from tfwsss.models import normalization
    from tfwsss.weights import load_model

    from .train import weights_path

    model = load_model(weights_path(context.work, "classifier"))
    logits = tf.function(lambda x: model(x, training=False), input_signature=[tf.TensorSpec([1, None, None, 3], tf.float32)], autograph=False)
    normalize = normalization(context.config.classifier.model.backbone)
    return lambda image: logits(normalize(image)[None])[0].numpy()


def _tags(context: Context, dataset):
    """Function (position, image) -> multi-hot tags [C]."""
    if context.config.switches.val_tags == "faithful":
        matrix = dataset.tag_matrix()
        return lambda position, image: matrix[position]
    logits = classifier_logits(context)
    return lambda position, image: (logits(image) >= 0).astype(np.float32)  # a logit of 0 is a probability of 0.5


def _compute(context: Context, dataset, masked: set[str]) -> None:
    from tfwsss.training.loop import make_deterministic

    cams, walks = context.folder(CAMS), context.folder(WALKS)
    # The walk's file is written last: its presence says that the photo is done.
    todo = [
        (position, sample)
        for position, sample in enumerate(dataset.samples)
        if sample.id in masked and not artifact_path(walks, sample.id, ".npz").is_file()
    ]
    if not todo:
        return
    make_deterministic(context.config.seed)
    make_cam, walk, tags = cam_maker(context), walker(context), _tags(context, dataset)
    alphas = (used_alphas(context.work).walk,)
    with progress_bar("CAMs and walk of the evaluation photos", len(todo), context.config.runtime.progress) as bar:
        for position, sample in todo:
            image = dataset.read(sample)
            classes, cam = make_cam(image, tags(position, image))
            save_cam(cams, sample.id, classes, cam, context.config.cams.dtype)
            classes, cam = load_cam(cams, sample.id)  # as stored, like the training photos' maps
            walked = walk(image, walk_input(cam, alphas))
            save_walk(walks, sample.id, classes, alphas, walked[:1], walked[1:])
            bar.advance()


def score_val_cams(context: Context, dataset, masked, threshold: float) -> dict[str, ConfusionMatrix]:
    """Score both on the evaluation photos.

    Args:
        context: of the stage `label_scores`.
        dataset: the evaluation photos.
        masked: (sample, mask) of those to score.
        threshold: CAM value from which a pixel is foreground; not chosen on these photos.

    Returns:
        {name that says where the tags are from: matrix}
    """
    from tfwsss.cam import predict_label

    _compute(context, dataset, {sample.id for sample, _ in masked})
    cam_matrix, walk_matrix = ConfusionMatrix(dataset.num_classes + 1), ConfusionMatrix(dataset.num_classes + 1)
    for sample, mask in masked:
        cam_matrix.update(mask, predict_label(*load_cam(context.work / CAMS, sample.id), threshold=threshold))
        classes, _, background, foreground = load_walk(context.work / WALKS, sample.id)
        label = pseudo_label(classes, np.concatenate([background, foreground]), dataset.read(sample), None)
        walk_matrix.update(mask, label)
    kind = TAGS[context.config.switches.val_tags]
    return {f"CAM, {kind}": cam_matrix, f"walk, {kind}": walk_matrix}
