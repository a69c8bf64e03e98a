"""Ways of running: bound memory, TensorRT, warming up, stopping, refining with a CRF."""

import sys
import threading

import numpy as np
import onnxruntime
import pytest

from tfwsss import crf as training_crf
from tfwsss_onnx import (
    Cancellation,
    Cancelled,
    DependencyError,
    DeviceError,
    ImageError,
    ModelError,
    Segmenter,
    dense_crf,
)
from tfwsss_onnx import providers as providers_module

SHAPES = ((33, 47), (33, 47), (20, 64), (33, 47))


@pytest.fixture(scope="module")
def segmenter(exported):
    return Segmenter(exported("local"), device="cpu", threads=1)


# --------------------------------------------------------------------------------------------------- I/O binding


@pytest.mark.parametrize("name", ["local", "scores"])
def test_bound_memory_gives_the_same_masks(segmenter, exported, photo, name):
    bound = Segmenter(exported(name), device="cpu", threads=1, io_binding=True)
    assert bound._bound is not None and segmenter._bound is None
    kept = []
    for seed, (height, width) in enumerate(SHAPES):
        images = np.stack([photo(height, width, seed), photo(height, width, seed + 9)])
        kept.append((images, bound.batch(images)))
        np.testing.assert_array_equal(bound.batch(images[:, :, ::-1]), segmenter.batch(np.ascontiguousarray(images[:, :, ::-1])))
    for images, masks in kept:  # a later run must not write into an earlier result
        np.testing.assert_array_equal(masks, segmenter.batch(images))


def test_bound_memory_of_several_threads_is_apart(segmenter, exported, photo):
    bound = Segmenter(exported("local"), device="cpu", threads=1, io_binding=True)
    wrong = []

    def work(seed):
        image = photo(40, 48, seed)
        expected = segmenter(image)
        for _ in range(20):
            if not np.array_equal(bound(image), expected):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


ON_CPU = onnxruntime.OrtValue.ortvalue_from_numpy


class BufferOnDevice:
    """Memory of the CPU under the name of a GPU, so that the way through a device's buffer runs without one."""

    made: list = []

    @classmethod
    def ortvalue_from_numpy(cls, array, device="cpu", number=0):
        cls.made.append(array.shape)
        return ON_CPU(array.copy())


def test_a_device_buffer_is_kept_while_the_shape_stays(segmenter, exported, photo, monkeypatch):
    bound = Segmenter(exported("local"), device="cpu", threads=1, io_binding=True)
    bound._bound._device = "cuda"
    monkeypatch.setattr(onnxruntime, "OrtValue", BufferOnDevice)
    for seed, (height, width) in enumerate(SHAPES):
        image = photo(height, width, seed)
        np.testing.assert_array_equal(bound(image), segmenter(image))
    assert BufferOnDevice.made == [(1, 33, 47, 3), (1, 20, 64, 3), (1, 33, 47, 3)]


# ------------------------------------------------------------------------------------------------------ TensorRT


class FakeSession:
    """Records how it is opened and says that it runs where `active` says."""

    active: list = []
    asked: list = []

    def __init__(self, path, options, providers):
        FakeSession.asked = providers

    def get_providers(self):
        return self.active


TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"


@pytest.fixture
def pretend(monkeypatch):
    def set_up(available, active):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
        monkeypatch.setattr(onnxruntime, "InferenceSession", FakeSession)
        monkeypatch.setattr(FakeSession, "active", active)

    return set_up


def test_tensorrt_keeps_its_engines(pretend, tmp_path):
    pretend([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    model = tmp_path / "model.onnx"
    _, device = providers_module.connect(model, "tensorrt")
    (name, options), (second, _), third = FakeSession.asked
    assert (device, name, second, third) == ("tensorrt", TENSORRT, CUDA, CPU)
    cache = tmp_path / "model.onnx.tensorrt"
    assert options["trt_engine_cache_enable"] is True and options["trt_engine_cache_path"] == str(cache) and cache.is_dir()
    providers_module.connect(model, "tensorrt", engine_cache=tmp_path / "engines")
    assert FakeSession.asked[0][1]["trt_timing_cache_path"] == str(tmp_path / "engines")


def test_tensorrt_never_falls_back_in_silence(pretend, tmp_path):
    pretend([TENSORRT, CUDA, CPU], [CUDA, CPU])
    with pytest.raises(DeviceError, match="tensorrt: onnxruntime fell back to CUDAExecutionProvider; .* TensorRT"):
        providers_module.connect(tmp_path / "model.onnx", "tensorrt")
    pretend([CUDA, CPU], [CUDA, CPU])
    with pytest.raises(DeviceError, match="has only CUDAExecutionProvider, CPUExecutionProvider"):
        providers_module.connect(tmp_path / "model.onnx", "tensorrt")


def test_without_tensorrt_the_real_onnxruntime_is_caught_too(exported, tmp_path):
    try:
        found = Segmenter(exported("local"), device="tensorrt", engine_cache=tmp_path)
    except DeviceError as error:
        assert "tensorrt" in str(error)
    else:
        assert found.device == "tensorrt"  # a machine that has it


# -------------------------------------------------------------------------------------------- warming up, stopping


def test_warming_up_runs_the_sizes_that_will_come(segmenter, monkeypatch):
    seen = []
    run = segmenter._session.run

    class Recorder:
        def run(self, outputs, feeds, options):
            seen.append(feeds["images"].shape)
            return run(outputs, feeds, options)

    monkeypatch.setattr(segmenter, "_session", Recorder())
    assert segmenter.warm_up([(32, 40), (8, 1600)], batches=(1, 3)) > 0
    assert {(1, 32, 40, 3), (3, 32, 40, 3), (1, 8, 1536, 3)} <= set(seen)
    assert max(shape[2] for shape in seen) == 1536


def test_a_cancelled_run_raises(segmenter, exported, photo):
    cancellation = Cancellation()
    image = photo(40, 48)
    np.testing.assert_array_equal(segmenter(image, cancellation), segmenter(image))
    cancellation.cancel()
    for argument in (image, [image, image]):
        with pytest.raises(Cancelled):
            segmenter(argument, cancellation)
    bound = Segmenter(exported("local"), device="cpu", io_binding=True)
    with pytest.raises(Cancelled):
        bound(image, cancellation)
    np.testing.assert_array_equal(bound(image, Cancellation()), segmenter(image))


def test_a_run_stops_between_its_tiles(exported, photo, monkeypatch):
    tiled = Segmenter(exported("local"), device="cpu", tile=160)
    cancellation, tiles, batch = Cancellation(), [], tiled.batch

    def counting(images, given):
        tiles.append(images.shape)
        if len(tiles) == 2:
            cancellation.cancel()
        return batch(images, given)

    monkeypatch.setattr(tiled, "batch", counting)
    with pytest.raises(Cancelled):
        tiled(photo(400, 400), cancellation)
    assert len(tiles) == 2


# ----------------------------------------------------------------------------------------------------------- CRF


def test_the_crf_is_that_of_the_training(exported, photo):
    with_scores = Segmenter(exported("scores"), device="cpu")
    image = photo(40, 56)
    scores = with_scores.scores(image[None])[0]
    np.testing.assert_array_equal(dense_crf(image, scores), training_crf.dense_crf(image, scores))
    arguments = {"iterations": 3, "gaussian_sxy": 2, "gaussian_compat": 1, "bilateral_sxy": 40, "bilateral_srgb": 5, "bilateral_compat": 4}
    refined = dense_crf(image, scores, **arguments)
    np.testing.assert_array_equal(refined, training_crf.dense_crf(image, scores, **arguments))
    np.testing.assert_array_equal(with_scores.refined(image, **arguments), refined.argmax(axis=2))


def test_the_crf_of_a_photo_in_tiles_sees_the_whole_photo(exported, photo):
    image = photo(200, 264)
    whole, tiled = (Segmenter(exported("scores"), device="cpu", tile=tile) for tile in (1536, 160))
    assert tiled.is_tiled(200, 264) and not whole.is_tiled(200, 264)
    np.testing.assert_array_equal(tiled.refined(image, iterations=2), whole.refined(image, iterations=2))


def test_the_crf_says_what_is_missing(segmenter, exported, photo, monkeypatch):
    with pytest.raises(ModelError, match="scores"):
        segmenter.refined(photo(20, 20))
    with pytest.raises(ImageError, match="expected uint8"):
        dense_crf(photo(20, 20), np.ones((21, 20, 4), np.float32))
    monkeypatch.setitem(sys.modules, "tfwsss_densecrf", None)
    with pytest.raises(DependencyError, match=r"tfwsss-onnx\[crf\]"):
        Segmenter(exported("scores"), device="cpu").refined(photo(20, 20))
