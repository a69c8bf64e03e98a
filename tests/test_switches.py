"""Every switch of the configuration, through the pipeline's stages: two values, two computations, each the stated one."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfwsss.cam import scaled_photos
from tfwsss.config import NAMED_ALPHAS, Crf, FixedAlphas, Switches
from tfwsss.config.files import parse_config
from tfwsss.crf import crf_scores
from tfwsss.data.dataset import Dataset, Sample
from tfwsss.data.inputs import affinity_batches, classifier_batches, segmenter_batches
from tfwsss.data.label_sources import LabelFolder
from tfwsss.metrics import ConfusionMatrix
from tfwsss.models import build_affinitynet, build_classifier, normalization
from tfwsss.pseudolabel import from_grid, grid_size, label_of_scores
from tfwsss.storage.artifacts import (
    artifact_path,
    load_cam,
    load_label,
    load_scores,
    load_walk,
    save_cam,
    save_label,
    save_walk,
)
from tfwsss.training.loop import make_deterministic
from tfwsss.weights import save_weights
from tfwsss_pipelines.engine.context import Context
from tfwsss_pipelines.executors.timing import Timing
from tfwsss_pipelines.labelling.cams import Tagged, cam_work
from tfwsss_pipelines.labelling.walk import Photo, walk_work
from tfwsss_pipelines.stages import affinity_labels, affinitynet, classifier, pseudo_labels, segmenter, train, val_cams
from tfwsss_pipelines.stages.left_out import labelled, write_left_out

VALUES = ["faithful", "corrected"]
SIZES = [(60, 76), (70, 58), (72, 72)]  # at most the AffinityNet crop of 72
CLASSES = ("cat", "dog")


class Stop(Exception):
    pass


def make_context(folder, backbone="vgg16", switches=None, **sections) -> Context:
    """A work directory with three photos of noise, their masks, CAMs and labels."""
    rng = np.random.default_rng(0)
    model = {"backbone": backbone, "width": 0.0625, "freeze": False}
    values = {
        "data": {"format": "scenes"},
        "work_dir": str(folder),
        "classifier": {"model": model, "batch_size": 3, "crop": 48, "resize_long": [32, 96], "color_jitter": False},
        "affinitynet": {"model": model, "batch_size": 3, "crop": 72, "color_jitter": False},
        "segmenter": {"model": model, "batch_size": 3, "crop": 64, "color_jitter": False},
        "switches": switches or {},
        "runtime": {"workers": 1, "progress": False},
    }
    for name, section in sections.items():
        values[name] = values.get(name, {}) | section
    samples, masks = [], {}
    for index, (height, width) in enumerate(SIZES):
        name = f"photo{index}"
        path = folder / f"{name}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        samples.append(Sample(name, path, (index % 2,)))
        masks[name] = rng.choice([0, 1, 2, 255], (height, width)).astype(np.uint8)
        save_cam(folder / "cams", name, [index % 2], [rng.random((1, height, width)) ** 3], (height, width), "float32")
        for stage in ("affinity_labels", "pseudo_labels"):
            save_label(folder / stage, name, masks[name])
    write_left_out(folder, [])
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data/usable.json").write_text("{}")  # no masks to learn from
    dataset = Dataset(CLASSES, tuple(samples), lambda sample: masks[sample.id])
    return Context(parse_config(values), folder, None, {"train": dataset, "val": dataset})


@pytest.fixture
def trained(monkeypatch):
    """Run a training stage up to its loop: returns what the loop would get."""

    def run(stage, context):
        got = {}

        def fit(task, settings, *, momentum, **_):
            got.update(model=task.model, batches=task.batches, momentum=momentum)
            raise Stop

        monkeypatch.setattr(train, "fit", fit)
        with pytest.raises(Stop):
            stage.run(context)
        return got

    return run


def images(batches) -> np.ndarray:
    return next(iter(batches))["image"].numpy()


def test_every_switch_is_tested_here():
    tested = {"momentum", "border_pairs", "crop_canvas", "val_tags", "dropout", "resize_filter", "crf_scores", "label_tags", "affinity_width"}
    assert set(Switches.model_fields) == tested


@pytest.mark.parametrize(("value", "expected"), [("faithful", 5e-4), ("corrected", 0.9)])
def test_momentum(tmp_path, trained, value, expected):
    context = make_context(tmp_path, switches={"momentum": value})
    assert trained(classifier, context)["momentum"] == expected
    assert trained(affinitynet, context)["momentum"] == expected
    assert trained(segmenter, context)["momentum"] == 0.9  # no part of the reference


@pytest.mark.parametrize("value", VALUES)
def test_dropout(tmp_path, trained, value):
    context = make_context(tmp_path, "resnet38", {"dropout": value})
    for stage in (classifier, affinitynet):
        model = trained(stage, context)["model"]
        layers = {layer.name: layer for layer in model.layers}
        for block, rate in (("b6", 0.3), ("b7", 0.5)):
            last = layers[f"{block}_dropout_2b2"]
            assert last.rate == rate
            assert (f"{block}_dropout_2b1" in layers) == (value == "faithful")
            # Whole channels: what is left of a map of ones is constant over its cells.
            dropped = last(tf.ones((1, 9, 9, 40)), training=True).numpy().reshape(81, 40)
            assert 0 < np.count_nonzero(dropped) < dropped.size
            assert (dropped == dropped[:1]).all() == (value == "faithful")
            if value == "faithful":
                assert layers[f"{block}_dropout_2b1"].rate == rate
                dropped = layers[f"{block}_dropout_2b1"](tf.ones((1, 9, 9, 40)), training=True).numpy().reshape(81, 40)
                assert (dropped == dropped[:1]).all()


@pytest.mark.parametrize("value", VALUES)
def test_crop_canvas(tmp_path, trained, value):
    context = make_context(tmp_path, switches={"crop_canvas": value})
    found = images(trained(affinitynet, context)["batches"](0, slice(None)))
    normalize = normalization("vgg16")
    outside = {"faithful": normalize(np.zeros((1, 1, 3), np.uint8))[0, 0], "corrected": np.zeros(3)}[value]
    empty = sorted(int(np.isclose(image, outside).all(axis=-1).sum()) for image in found)
    assert empty == [0, 72 * 72 - 60 * 72, 72 * 72 - 70 * 58]  # in the order of SIZES: last, first, second


FILTERS = {"faithful": Image.Resampling.BICUBIC, "corrected": Image.Resampling.BILINEAR}


@pytest.mark.parametrize("value", VALUES)
def test_resize_filter(tmp_path, trained, monkeypatch, value):
    context = make_context(tmp_path, switches={"resize_filter": value})
    dataset, config = context.dataset("train"), context.config

    def batches(filter):
        return images(classifier_batches(dataset, config.classifier, normalization("vgg16"), filter=filter, seed=0, epoch=1))

    other = FILTERS["corrected" if value == "faithful" else "faithful"]
    found = images(trained(classifier, context)["batches"](1, slice(None)))
    np.testing.assert_array_equal(found, batches(FILTERS[value]))
    assert np.abs(found - batches(other)).max() > 1

    sample = dataset.samples[0]
    read = cam_work(context, dataset, tmp_path, Timing()).read(Tagged(sample, np.ones(2)))
    expected = scaled_photos(dataset.read(sample), config.cams.scales, FILTERS[value])
    for photo, one in zip(read.photos, expected, strict=True):
        np.testing.assert_array_equal(photo, one)

    found = images(trained(segmenter, context)["batches"](1, slice(None)))  # no part of the reference
    settings = config.segmenter
    expected = segmenter_batches(
        dataset, LabelFolder(tmp_path / "pseudo_labels"), settings, normalization("vgg16"), filter=FILTERS["corrected"], seed=0, epoch=1
    )
    np.testing.assert_array_equal(found, images(expected))


@pytest.mark.parametrize(("value", "features"), [("released", 448), ("paper", 896)])
def test_affinity_width(tmp_path, trained, value, features):
    model = trained(affinitynet, make_context(tmp_path, switches={"affinity_width": value}))["model"]
    shares = [model.get_layer(name).filters for name in ("f8_3", "f8_4", "f8_5")]
    assert shares == [features // 7, features * 2 // 7, features * 4 // 7]
    assert model.output.shape[-1] == features


@pytest.mark.parametrize("value", VALUES)
def test_crf_scores(tmp_path, value):
    sections = {"affinitynet": {"label_source": "scores"}, "affinity_labels": {"alphas": "psa-released"}}
    context = make_context(tmp_path, switches={"crf_scores": value}, **sections)
    for sample in context.dataset("train").samples:
        (tmp_path / "affinity_labels" / f"{sample.id}.png").unlink()
    affinity_labels.run(context)
    for sample in context.dataset("train").samples:
        classes, cam = load_cam(tmp_path / "cams", sample.id)
        image = context.dataset("train").read(sample)
        _, low, high = load_scores(tmp_path / "affinity_labels", sample.id)
        for found, alpha in ((low, 4.0), (high, 32.0)):
            results = {
                kind: crf_scores(classes, cam, alpha, image, Crf(), normalize=kind == "corrected").astype(np.float16)
                for kind in VALUES
            }
            np.testing.assert_array_equal(found, results[value])
            # Normalising cancels in the softmax except where a score is clipped, which the high exponent makes happen.
            if alpha == 32.0:
                assert (results["faithful"] != results["corrected"]).any()


@pytest.mark.parametrize("alphas", ["psa-released", "psa-cvpr", FixedAlphas(low=2, high=9, walk=3), "auto"])
def test_alpha_sets(tmp_path, alphas):
    wanted = alphas if isinstance(alphas, str) else alphas.model_dump()
    context = make_context(tmp_path, affinity_labels={"alphas": wanted})
    affinity_labels.run(context)
    used = affinity_labels.used_alphas(tmp_path)
    if isinstance(alphas, FixedAlphas):
        assert used == alphas
    elif alphas == "auto":
        assert used not in NAMED_ALPHAS.values() and used.low < used.walk < used.high
    else:
        assert (used.low, used.walk, used.high) == {"psa-released": (4, 16, 32), "psa-cvpr": (4, 16, 24)}[alphas]


@pytest.mark.parametrize("value", VALUES)
def test_border_pairs(tmp_path, value):
    """Cells that the reference's pair list leaves without a neighbour keep their value; with all pairs none does."""
    make_deterministic(0)
    context = make_context(tmp_path, switches={"border_pairs": value})
    save_weights(build_affinitynet("vgg16", width=0.0625), tmp_path / "affinitynet/weights.safetensors")
    channels = np.random.default_rng(1).random((2, 9, 12)).astype(np.float32)
    image = np.random.default_rng(2).integers(0, 256, (72, 96, 3), np.uint8)
    sample = context.dataset("train").samples[0]
    work = walk_work(context, context.dataset("train"), tmp_path, tmp_path, (16.0,), Timing())
    photo = Photo(image, np.zeros(1, np.int32), channels)
    work.finish(sample, work.on_device("/CPU:0")([photo])[0])
    _, walked = load_walk(tmp_path, sample.id)
    unmoved = np.isclose(walked, channels, atol=1e-7).all(axis=0)
    alone = np.zeros((9, 12), bool)
    for row, column in [(0, 0), (0, 1), (0, 2), (0, 3), (-2, 0), (-2, -1), (-1, 0), (-1, 1), (-1, -2), (-1, -1)]:
        alone[row, column] = value == "faithful"
    np.testing.assert_array_equal(unmoved, alone)


class Run:
    def artifact(self, path):
        assert path.exists()

    def metrics(self, values):
        pass


@pytest.mark.parametrize("value", VALUES)
def test_label_tags(tmp_path, monkeypatch, value):
    """One photo keeps its class, one regains it from the normalised walk, and in one it is too small for both."""
    context = make_context(tmp_path, switches={"label_tags": value}, pseudo_labels={"source": "walk", "crf": None, "smallest_share": 0.05})
    context.run = Run()
    dataset = context.dataset("train")
    monkeypatch.setattr(pseudo_labels, "used_alphas", lambda work: NAMED_ALPHAS["psa-released"])
    expected, kept = [], []
    for sample, strength, columns in zip(dataset.samples, (0.9, 0.3, 0.3), (5, 5, 0), strict=True):
        artifact_path(tmp_path / "pseudo_labels", sample.id, ".png").unlink()
        rows, width = grid_size(*dataset.read(sample).shape[:2])
        foreground = np.zeros((1, rows, width), np.float32)
        foreground[:, :, :columns] = strength
        foreground[:, 0, 0] = strength  # a single cell is below the smallest share
        background = np.full((1, rows, width), 0.6, np.float32)
        background[:, :, -1] = 0.8
        walked = np.concatenate([background, foreground])
        save_walk(tmp_path / "walk", sample.id, sample.tags, walked)
        plain = label_of_scores(sample.tags, from_grid(walked, *dataset.read(sample).shape[:2]))
        normalised = label_of_scores(sample.tags, from_grid(walked / np.array([0.8, strength])[:, None, None], *dataset.read(sample).shape[:2]))
        if value == "faithful" or strength > 0.8:
            expected.append(plain if value == "faithful" else np.where(plain == normalised, plain, 255))
        else:
            expected.append(normalised if columns else np.full(plain.shape, 255))
        kept += [sample.id] if columns or value == "faithful" else []
    metrics = pseudo_labels.run(context)
    for sample, label in zip(dataset.samples, expected, strict=True):
        np.testing.assert_array_equal(load_label(tmp_path / "pseudo_labels", sample.id), label)
    assert metrics["left_out"] == 3 - len(kept) == (value == "corrected")
    assert metrics["ignored_pixels"] == np.mean(np.concatenate([label.ravel() == 255 for label in expected]))
    assert [sample.id for sample in labelled(tmp_path, dataset).samples] == kept
    said = (tmp_path / "pseudo_labels/left_out.csv").read_text().splitlines()
    assert said == ["id,reason"] + (["photo2,less than 0.05 of the pixels: cat"] if value == "corrected" else [])
    before = (tmp_path / "pseudo_labels/left_out.csv").read_bytes()
    assert pseudo_labels.run(context) | {"computed": 3} == metrics  # after a restart, from what is on disk
    assert (tmp_path / "pseudo_labels/left_out.csv").read_bytes() == before


@pytest.mark.parametrize("value", VALUES)
def test_val_tags(tmp_path, monkeypatch, value):
    make_deterministic(0)
    context = make_context(tmp_path, switches={"val_tags": value}, cams={"scales": [1.0], "dtype": "float32"}, evaluate={"cams": True})
    (tmp_path / "affinity_labels/alphas.json").write_text('{"low": 4, "high": 32, "walk": 16}')
    save_weights(build_classifier("vgg16", 2, width=0.0625), tmp_path / "classifier/weights.safetensors")
    save_weights(build_affinitynet("vgg16", width=0.0625), tmp_path / "affinitynet/weights.safetensors")
    logits = {60: [0.0, 3.0], 70: [-0.1, -2.0], 72: [-1.0, 0.1]}  # by height of the photo
    dataset = context.scored_dataset("val")
    masked = [(sample, dataset.mask(sample)) for sample in dataset.samples]
    said = {sample.id: np.array(logits[mask.shape[0]]) for sample, mask in masked}

    val_cams.compute_val_cams(context, said)
    matrices, count = val_cams.score_val_cams(context, threshold=0.4)
    assert count == len(masked)
    kind = {"faithful": "true tags", "corrected": "predicted tags"}[value]
    assert list(matrices) == [f"CAM, {kind}", f"walk, {kind}"]
    expected = {"faithful": [[0], [1], [0]], "corrected": [[0, 1], [], [1]]}[value]
    by_hand = ConfusionMatrix(3)
    for (sample, mask), classes in zip(masked, expected, strict=True):
        found, cam = load_cam(tmp_path / "label_scores/val_cams", sample.id)
        assert found.tolist() == classes
        label = np.zeros(mask.shape, np.uint8)
        for k, one in zip(classes, cam, strict=True):
            label = np.where((one > 0.4) & (one == cam.max(axis=0)), k + 1, label)
        by_hand.update(mask, label)
    np.testing.assert_array_equal(matrices[f"CAM, {kind}"].counts, by_hand.counts)
    assert matrices[f"walk, {kind}"].counts.sum() == by_hand.counts.sum()

    # What is on disk is not computed again.
    monkeypatch.setattr("tfwsss.weights.load_model", None)
    val_cams.compute_val_cams(context, said)
    again, _ = val_cams.score_val_cams(context, threshold=0.4)
    for name, matrix in matrices.items():
        np.testing.assert_array_equal(again[name].counts, matrix.counts)


def test_affinity_batches_take_the_label_source_of_the_configuration(tmp_path, trained):
    """`scores` is the reference's way: block means of the CRF's scores; `labels` votes in the label PNG."""
    found = {}
    for source in ("scores", "labels"):
        folder = tmp_path / source
        folder.mkdir()
        context = make_context(folder, affinitynet={"label_source": source}, affinity_labels={"alphas": "psa-released"})
        for sample in context.dataset("train").samples:
            (folder / "affinity_labels" / f"{sample.id}.png").unlink()
        affinity_labels.run(context)
        assert (folder / "affinity_labels/photo0.npz").exists() == (source == "scores")
        found[source] = next(iter(trained(affinitynet, context)["batches"](0, slice(None))))
        settings = context.config.affinitynet
        expected = affinity_batches(
            context.dataset("train"), LabelFolder(folder / "affinity_labels"), settings, normalization("vgg16"), canvas="mean", seed=0, epoch=0
        )
        np.testing.assert_array_equal(found[source]["label"], next(iter(expected))["label"])
    np.testing.assert_array_equal(found["scores"]["image"], found["labels"]["image"])
