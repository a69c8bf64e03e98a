"""What devices compute for photos: once traced for all sizes, alike in any company, on every device."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests.test_switches import make_context
from tfwsss import stencil
from tfwsss.affinity import pair_affinity
from tfwsss.cam import multiscale_cam, rectified
from tfwsss.errors import DataError
from tfwsss.models import build_affinitynet, build_classifier, class_maps, layer_cams, normalization
from tfwsss.size_prior import MARGIN, THRESHOLD
from tfwsss.storage.artifacts import load_cam, load_label, load_walk, save_cam
from tfwsss.storage.atomic import read_json
from tfwsss.training.loop import make_deterministic
from tfwsss.weights import load_model, save_weights
from tfwsss_pipelines.executors.threads import run_images
from tfwsss_pipelines.executors.timing import Timing
from tfwsss_pipelines.labelling.cams import Tagged, cam_work
from tfwsss_pipelines.labelling.saved_cams import EXPONENTS, SavedCams, write_exponents
from tfwsss_pipelines.labelling.walk import BORDER, Photo, walk_work
from tfwsss_pipelines.stages.val_cams import _logits_of_split

CAMS = {"scales": [1.0, 0.5], "dtype": "float32"}


@pytest.fixture
def context(tmp_path):
    def make(**sections):
        make_deterministic(0)
        context = make_context(tmp_path, **({"cams": CAMS} | sections))
        save_weights(build_classifier("vgg16", 2, width=0.0625), tmp_path / "classifier/weights.safetensors")
        save_weights(build_affinitynet("vgg16", width=0.0625), tmp_path / "affinitynet/weights.safetensors")
        return context

    return make


@pytest.fixture(params=["tensorflow", "onnxruntime"])
def runtime(request):
    return {"workers": 1, "progress": False, "inference": request.param}


def test_cams_are_those_of_the_function_of_one_photo_and_need_one_trace(context, tmp_path, monkeypatch, runtime):
    made = context(runtime=runtime)
    dataset, traced = made.dataset("train"), []
    monkeypatch.setattr("tfwsss.cam.rectified", lambda *a: traced.append(1) or rectified(*a))
    photos = [Tagged(sample, np.ones(2)) for sample in dataset.samples]
    list(run_images(photos, cam_work(made, dataset, tmp_path / "found", Timing()), workers=2))
    assert len(traced) == 1  # three sizes of photos at two scales
    monkeypatch.undo()
    model = class_maps(load_model(tmp_path / "classifier/weights.safetensors"))
    for sample in dataset.samples:
        _, expected = multiscale_cam(
            lambda images: model(images, training=False),
            dataset.read(sample),
            np.ones(2),
            scales=(1.0, 0.5),
            flip=True,
            normalization=normalization("vgg16"),
            activation="sqrt",
            filter=2,
        )
        np.testing.assert_allclose(load_cam(tmp_path / "found", sample.id)[1], expected, atol=2e-5)  # the root of small numbers enlarges rounding errors


def test_the_company_in_a_batch_does_not_change_a_photos_maps(context, tmp_path, runtime):
    made = context(runtime=runtime | {"photo_batch": 4})
    dataset = made.dataset("train")
    sample = dataset.samples[0]
    compute = cam_work(made, dataset, tmp_path, Timing()).on_device("/CPU:0")
    read = cam_work(made, dataset, tmp_path, Timing()).read
    one, other = read(Tagged(sample, np.ones(2))), read(Tagged(sample, np.array([0, 1])))
    alone = compute([one])[0]
    together = compute([other, one, other])
    assert [maps.shape for maps in alone.maps] == [(2, 8, 10), (2, 4, 5)] and alone.size == (60, 76)
    for kept, expected, single in zip(together[1].maps, alone.maps, together[0].maps, strict=True):
        np.testing.assert_array_equal(kept, expected)
        np.testing.assert_array_equal(single[0], expected[1])


def test_photos_of_all_sizes_are_mapped_at_the_size_that_was_learnt(context, tmp_path):
    made = context(cams=CAMS | {"long_side": 48})
    dataset = made.dataset("train")
    model = class_maps(load_model(tmp_path / "classifier/weights.safetensors"))
    list(run_images([Tagged(sample, np.ones(2)) for sample in dataset.samples], cam_work(made, dataset, tmp_path / "found", Timing()), workers=1))
    for sample in dataset.samples:
        photo = dataset.picture(sample)
        small = photo.resize(tuple(round(side * 48 / max(photo.size)) for side in photo.size), 2)
        _, expected = multiscale_cam(
            lambda images: model(images, training=False), np.asarray(small), np.ones(2), scales=(1.0, 0.5), flip=True, normalization=normalization("vgg16"), activation="sqrt", filter=2
        )
        found = load_cam(tmp_path / "found", sample.id)[1]
        assert found.shape[1:] == photo.size[::-1] and max(small.size) == 48  # maps of the photo's size, of a smaller photo
        shrunk = np.stack([np.asarray(Image.fromarray(one).resize(small.size, Image.Resampling.BILINEAR)) for one in found])
        assert np.abs(shrunk - expected).mean() < 0.02


@pytest.mark.parametrize(("flip", "orientation"), [(True, "upright"), (False, "upright"), (True, "any")])
def test_the_classifier_sees_photos_as_at_scale_1_of_the_maps(context, tmp_path, runtime, flip, orientation):
    made = context(data={"orientation": orientation}, cams=CAMS | {"long_side": 48, "flip": flip}, runtime=runtime | {"photo_batch": 2})
    model, normalize = load_model(tmp_path / "classifier/weights.safetensors"), normalization("vgg16")
    dataset = made.dataset("train")
    found = list(run_images(dataset.samples, _logits_of_split(made, Timing(), "train"), workers=1))
    for sample, logits in zip(dataset.samples, found, strict=True):
        photo = dataset.picture(sample)
        seen = np.asarray(photo.resize(tuple(round(side * 48 / max(photo.size)) for side in photo.size), 2), np.float32)
        turned = [seen, seen[:, ::-1], seen[::-1], seen[::-1, ::-1]]
        images = np.stack(turned[: (4 if orientation == "any" else 2) if flip else 1])
        np.testing.assert_allclose(logits, model(normalize(tf.constant(images)), training=False).numpy().mean(axis=0), atol=2e-5)


@pytest.mark.parametrize("method", ["cam", "layer_cam"])
def test_maps_of_photos_without_an_up_do_not_depend_on_how_they_lie(context, tmp_path, method):
    """Sides are multiples of the network's stride: mirroring moves no cell."""
    made = context(data={"orientation": "any"}, cams={"method": method, "scales": [1.0], "dtype": "float32"})
    sample = made.dataset("train").samples[0]
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    found = []
    for index, pixels in enumerate((noise, noise[::-1], noise[::-1, ::-1])):
        Image.fromarray(pixels).save(sample.image)
        list(run_images([Tagged(sample, np.ones(2))], cam_work(made, made.dataset("train"), tmp_path / str(index), Timing()), workers=1))
        found.append(load_cam(tmp_path / str(index), sample.id)[1])
    assert found[0].max() > 0.9
    np.testing.assert_allclose(found[1], found[0][:, ::-1], atol=2e-4)
    np.testing.assert_allclose(found[2], found[0][:, ::-1, ::-1], atol=2e-4)


def test_a_photo_without_tags_has_no_maps(context, tmp_path):
    made = context()
    dataset = made.dataset("train")
    photos = [Tagged(sample, np.zeros(2)) for sample in dataset.samples]
    list(run_images(photos, cam_work(made, dataset, tmp_path / "found", Timing()), workers=1))
    classes, cam = load_cam(tmp_path / "found", dataset.samples[0].id)
    assert classes.shape == (0,) and cam.shape == (0, 60, 76)


def test_maps_are_kept_as_small_as_the_network_gives_them(context, tmp_path):
    """float16 numbers of every scale's own grid, and what an archive needs around them."""
    made = context(cams=CAMS | {"dtype": "float16"})
    dataset = made.dataset("train")
    list(run_images([Tagged(dataset.samples[0], np.ones(2))], cam_work(made, dataset, tmp_path / "found", Timing()), workers=1))
    assert (tmp_path / "found/photo0.npz").stat().st_size < 2 * 2 * (8 * 10 + 4 * 5) + 1500


def test_walks_come_from_maps_of_all_scales(context, tmp_path, runtime):
    made = context(runtime=runtime)
    dataset = made.dataset("train")
    for sample in dataset.samples:
        save_cam(tmp_path / "maps", sample.id, [0], [np.full((1, rows, rows), 0.125) for rows in (1, 7)], dataset.read(sample).shape[:2], "float32")
    labelled = []
    work = walk_work(made, dataset, tmp_path / "maps", tmp_path / "found", (1.0, 8.0), Timing(), lambda sample, image: labelled.append(sample.id))
    list(run_images(dataset.samples, work, workers=2))
    assert sorted(labelled) == [sample.id for sample in dataset.samples]
    classes, walked = load_walk(tmp_path / "found", dataset.samples[2].id)  # 72 x 72: whole cells
    assert classes.tolist() == [0]
    np.testing.assert_allclose(walked, np.broadcast_to([[[0.75]], [[0.25]]], walked.shape), atol=1e-5)  # a constant map stays constant
    assert (load_label(tmp_path / "found", dataset.samples[2].id) == 1).all()  # 0.75 and 0.75**8 against 0.25


@pytest.mark.parametrize("value", ["faithful", "corrected"])
def test_features_of_a_processor_become_the_affinities_of_a_gpu(context, tmp_path, runtime, value, monkeypatch):
    """Also for a photo that does not fill its last cells: the zeros beside it come after normalising."""
    made = context(runtime=runtime, switches={"border_pairs": value})
    dataset = made.dataset("train")
    model, photo = load_model(tmp_path / "affinitynet/weights.safetensors"), dataset.read(dataset.samples[0])
    images = np.pad(normalization("vgg16")(photo), ((0, 4), (0, 4), (0, 0)))[None]
    expected = pair_affinity(model(images, training=False), border=BORDER[value])
    work = walk_work(made, dataset, tmp_path, tmp_path, (1.0,), Timing())
    [(_, features)] = work.on_device("/CPU:0")([Photo(photo, np.zeros(0, np.int32), np.zeros((1, 8, 10), np.float32))])
    np.testing.assert_allclose(stencil.pair_affinity(features, 5, BORDER[value]), expected[0], atol=1e-5)
    monkeypatch.setattr("tfwsss_pipelines.labelling.walk.is_processor", lambda name: False)
    [(_, affinity)] = work.on_device("/CPU:0")([Photo(photo, np.zeros(0, np.int32), np.zeros((1, 8, 10), np.float32))])
    np.testing.assert_allclose(affinity, expected, atol=1e-5)


def test_layer_cams_of_a_stage_are_those_of_the_function(context, tmp_path):
    """One class for each image, mirror images added, scales on the earliest map's own grid; whatever the batch."""
    made = context(cams=CAMS | {"method": "layer_cam"}, runtime={"photo_batch": 4})
    dataset = made.dataset("train")
    work = cam_work(made, dataset, tmp_path / "found", Timing())
    one, other = (work.read(Tagged(dataset.samples[0], np.array(tags))) for tags in ([1, 1], [0, 1]))
    both, single = work.on_device("/CPU:0")([one, other])
    maps = layer_cams(load_model(tmp_path / "classifier/weights.safetensors"), lambda maps: tf.sqrt(tf.nn.relu(maps)))
    normalize = normalization("vgg16")
    for photo, found, alone in zip(one.photos, both.maps, single.maps, strict=True):
        for tag in (0, 1):
            straight, mirrored = (np.asarray(maps(normalize(tf.constant(view[None], tf.float32)), tf.constant([tag])))[0] for view in (photo, photo[:, ::-1]))
            np.testing.assert_allclose(found[tag], straight + mirrored[:, ::-1], atol=1e-5 * max(straight.max(), 1e-6), rtol=1e-4)
        np.testing.assert_array_equal(alone[0], found[1])


def test_known_sizes_change_the_maps_that_later_stages_read(tmp_path):
    made = make_context(tmp_path, affinity_labels={"shares": {"cat": 0.02, "dog": 0.2}})
    write_exponents(made)
    exponents = {int(one["index"]): one["exponent"] for one in read_json(tmp_path / EXPONENTS).values()}
    assert exponents[0] > exponents[1]  # photos of noise have equal maps: the smaller class gets the larger exponent
    for sample in made.dataset("train").samples:
        classes, raw = load_cam(tmp_path / "cams", sample.id)
        _, cam = SavedCams(tmp_path).load(tmp_path / "cams", sample.id)
        np.testing.assert_allclose(cam, raw ** exponents[classes[0]], rtol=1e-5)
        assert (cam > THRESHOLD).mean() == pytest.approx(MARGIN * (0.02, 0.2)[classes[0]], abs=0.02)


@pytest.mark.parametrize("shares, message", [({"horse": 0.1}, "affinity_labels.shares: 'horse' is no class of the data set, which has cat, dog")])
def test_a_size_of_what_is_no_class_is_refused(tmp_path, shares, message):
    with pytest.raises(DataError, match=message):
        write_exponents(make_context(tmp_path, affinity_labels={"shares": shares}))
