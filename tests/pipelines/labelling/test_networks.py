"""What runs a network where, and that both run the same one."""

import importlib.util

import numpy as np
import pytest
import tensorflow as tf

from tests.test_switches import make_context
from tfwsss.config.schema import Runtime
from tfwsss.errors import ConfigError
from tfwsss_pipelines.labelling import networks
from tfwsss_pipelines.labelling.networks import network_on, takes_onnxruntime
from tfwsss_pipelines.labelling.photos import device_names


@pytest.mark.parametrize(
    ("name", "inference", "expected"),
    [
        ("/CPU:0", "auto", True),
        ("/device:CPU:1", "auto", True),
        ("/device:GPU:0", "auto", False),
        ("/CPU:0", "tensorflow", False),
        ("/CPU:0", "onnxruntime", True),
    ],
)
def test_processors_take_onnx_runtime(name, inference, expected):
    assert takes_onnxruntime(name, Runtime(inference=inference)) == expected


@pytest.mark.parametrize("missing", ["onnxruntime", "tf2onnx"])
def test_where_a_package_is_missing_it_is_tensorflow(monkeypatch, missing, tmp_path):
    found = importlib.util.find_spec
    monkeypatch.setattr(networks, "find_spec", lambda name: None if name == missing else found(name))
    monkeypatch.setattr("tfwsss.config.schema.find_spec", lambda name: None if name == missing else found(name))
    assert not takes_onnxruntime("/CPU:0", Runtime())
    with pytest.raises(ConfigError, match=f"runtime.inference: .*{missing} is not installed"):
        make_context(tmp_path, runtime={"inference": "onnxruntime"})


def test_onnx_runtime_leaves_gpus_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda kind: [tf.config.LogicalDevice(f"/device:{kind}:0", kind)])
    assert device_names(make_context(tmp_path).config.runtime) == ("/device:GPU:0",)
    assert device_names(make_context(tmp_path, runtime={"inference": "onnxruntime"}).config.runtime) == ("/CPU:0",)


@pytest.mark.parametrize("inference", ["tensorflow", "onnxruntime"])
def test_photos_of_all_sizes_need_one_trace(inference):
    traced, kernel = [], tf.Variable(tf.random.stateless_normal([3, 3, 3, 4], [0, 1]))

    def function(photos):
        traced.append(1)
        images = tf.cast(photos, tf.float32) / 255
        return {"maps": tf.nn.conv2d(images, kernel, 2, "SAME"), "means": tf.reduce_mean(images, [1, 2])}

    network = network_on("/CPU:0", Runtime(inference=inference), function)
    for shape in [(1, 8, 10, 3), (2, 5, 5, 3), (1, 31, 2, 3)]:
        photos = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        found, before = network(photos), len(traced)
        assert before == 1
        for name, expected in function(photos).items():
            np.testing.assert_allclose(found[name], expected, atol=1e-5)
        traced.pop()
