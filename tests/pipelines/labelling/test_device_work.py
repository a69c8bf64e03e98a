"""What devices compute for photos: once traced for all sizes, alike in any company, on every device."""

import numpy as np
import pytest

from tests.test_switches import make_context
from tfwsss.cam import maps_of_scale, multiscale_cam
from tfwsss.models import build_affinitynet, build_classifier, class_maps, normalization
from tfwsss.storage.artifacts import load_cam, load_walk, save_cam
from tfwsss.training.loop import make_deterministic
from tfwsss.weights import load_model, save_weights
from tfwsss_pipelines.labelling.cams import Tagged, cam_work
from tfwsss_pipelines.labelling.engine import run_images
from tfwsss_pipelines.labelling.timing import Timing
from tfwsss_pipelines.labelling.walk import walk_work


@pytest.fixture
def context(tmp_path):
    def make(**sections):
        make_deterministic(0)
        context = make_context(tmp_path, cams={"scales": [1.0, 0.5], "dtype": "float32", "stride": 1}, **sections)
        save_weights(build_classifier("vgg16", 2, width=0.0625), tmp_path / "classifier/weights.safetensors")
        save_weights(build_affinitynet("vgg16", width=0.0625), tmp_path / "affinitynet/weights.safetensors")
        return context

    return make


def test_cams_are_those_of_the_function_of_one_photo_and_need_one_trace(context, tmp_path, monkeypatch):
    made, dataset = context(), context().dataset("train")
    traced = []
    monkeypatch.setattr("tfwsss.cam.maps_of_scale", lambda *a, **k: traced.append(1) or maps_of_scale(*a, **k))
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
        np.testing.assert_allclose(load_cam(tmp_path / "found", sample.id)[1], expected, atol=1e-5)


def test_the_company_in_a_batch_does_not_change_a_photos_maps(context, tmp_path):
    made = context(runtime={"photo_batch": 4, "workers": 1, "progress": False})
    dataset = made.dataset("train")
    sample = dataset.samples[0]
    compute = cam_work(made, dataset, tmp_path, Timing()).on_device("/CPU:0")
    read = cam_work(made, dataset, tmp_path, Timing()).read
    one, other = read(Tagged(sample, np.ones(2))), read(Tagged(sample, np.array([0, 1])))
    alone = compute([one])[0]
    together = compute([other, one, other])
    np.testing.assert_array_equal(together[1], alone)
    np.testing.assert_array_equal(together[0][..., 0], alone[..., 1])


def test_a_photo_without_tags_has_no_maps(context, tmp_path):
    made = context()
    dataset = made.dataset("train")
    photos = [Tagged(sample, np.zeros(2)) for sample in dataset.samples]
    list(run_images(photos, cam_work(made, dataset, tmp_path / "found", Timing()), workers=1))
    classes, cam = load_cam(tmp_path / "found", dataset.samples[0].id)
    assert classes.shape == (0,) and cam.shape == (0, 60, 76)


@pytest.mark.parametrize("stride", [1, 4])
def test_walks_come_from_maps_of_any_stride(context, tmp_path, stride):
    made = context()
    dataset = made.dataset("train")
    for sample in dataset.samples:
        height, width = dataset.read(sample).shape[:2]
        save_cam(tmp_path / "maps", sample.id, [0], np.full((1, -(-height // stride), -(-width // stride)), 0.25), "float32")
    labelled = []
    work = walk_work(made, dataset, tmp_path / "maps", tmp_path / "found", (1.0, 2.0), Timing(), lambda sample, image: labelled.append(sample.id))
    list(run_images(dataset.samples, work, workers=2))
    assert sorted(labelled) == [sample.id for sample in dataset.samples]
    classes, alphas, background, foreground = load_walk(tmp_path / "found", dataset.samples[2].id)  # 72 x 72: whole cells
    assert classes.tolist() == [0] and alphas.tolist() == [1.0, 2.0]
    np.testing.assert_allclose(foreground, 0.25, atol=1e-5)  # a constant map stays constant
    np.testing.assert_allclose(background[1], 0.75**2, atol=1e-5)
