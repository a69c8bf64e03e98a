"""The training loop: restarts, damaged checkpoints, low precision, XLA, several devices."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import load_file, save_file

from tfwsss import stack
from tfwsss.config import Optimizer, Training
from tfwsss.errors import StageError
from tfwsss.training.loop import CHECKPOINT, Task, fit, make_deterministic
from tfwsss.training.losses import multilabel_soft_margin
from tfwsss.weights import named_variables

STEPS = 3
BATCH = 4
SETTINGS = Training(
    epochs=3, batch_size=BATCH, optimizer=Optimizer(learning_rate=0.05, weight_decay=0.001, head_multiplier=2.0)
)


def change(**values) -> Training:
    return SETTINGS.model_copy(update=values)


def make_model(channels=6, dropout=0.3, scale=1.0, dtype="float32") -> keras.Model:
    """Everything that has state: kernels, a trained batch normalisation, both dropouts, a frozen layer."""
    make_deterministic(7)
    policy = stack.dtype_policy(dtype)
    inputs = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, name="stem", dtype=policy, trainable=False)(inputs)
    x = keras.layers.Conv2D(channels, 3, name="conv", dtype=policy)(x)
    x = keras.layers.BatchNormalization(epsilon=1e-5, name="norm", dtype=policy)(x)
    x = stack.SpatialDropout2D(dropout, name="channels", dtype=policy)(x)
    x = stack.Dropout(dropout, name="cells", dtype=policy)(x)
    x = keras.layers.Conv2D(2, 1, name="head", dtype=policy)(x)
    x = keras.layers.Rescaling(scale, name="scale", dtype=policy)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D(dtype="float32", name="logits")(x), name="tiny")


def batches(epoch: int, part: slice) -> tf.data.Dataset:
    rng = np.random.default_rng(epoch)
    images = rng.standard_normal((STEPS * BATCH, 8, 8, 3)).astype(np.float32)
    tags = (images.mean(axis=(1, 2))[:, :2] > 0).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices({"image": images, "tags": tags}).batch(BATCH, drop_remainder=True)


def loss(logits, batch, total):
    return {"loss": multilabel_soft_margin(logits, batch["tags"], total)}


def task_of(model, **changes) -> Task:
    values = dict(head_layers=frozenset({"head"}), batches=batches, loss=loss, steps_per_epoch=STEPS)
    return Task(model=model, **values | changes)


def weights_of(model) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in named_variables(model).items()}


def assert_equal(found, expected):
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


class Killed(BaseException):
    pass


def kill_after(count):
    """A callback that ends the run at its `count`-th call, as a signal would."""
    calls = []

    def callback(_):
        calls.append(1)
        if len(calls) == count:
            raise Killed

    return callback


@pytest.fixture
def uninterrupted(tmp_path):
    model = make_model()
    history = fit(task_of(model), SETTINGS, momentum=0.9, folder=tmp_path / "whole")
    return weights_of(model), history


def test_history_and_learning(uninterrupted):
    weights, history = uninterrupted
    start = weights_of(make_model())
    assert [entry["epoch"] for entry in history] == [1, 2, 3]
    np.testing.assert_allclose(history[0]["learning_rate"], 0.05 * (2 / 3) ** 0.9, rtol=1e-6)
    for name in ("conv/kernel", "head/bias", "norm/gamma", "norm/moving_mean"):
        assert np.abs(weights[name] - start[name]).max() > 1e-4, name
    np.testing.assert_array_equal(weights["stem/kernel"], start["stem/kernel"])  # no gradient and no decay


@pytest.mark.parametrize(
    ("rule", "when", "count", "epochs_left"),
    [("sgd", "on_step", STEPS + 2, 2), ("sgd", "on_epoch", 2, 1), ("adam", "on_epoch", 1, 2)],
)
def test_a_killed_run_ends_with_the_same_weights(tmp_path, rule, when, count, epochs_left):
    settings = change(optimizer=SETTINGS.optimizer.model_copy(update={"name": rule, "learning_rate": 0.01}))
    whole = make_model()
    history = fit(task_of(whole), settings, momentum=0.9, folder=tmp_path / "whole")

    with pytest.raises(Killed):
        fit(task_of(make_model()), settings, momentum=0.9, folder=tmp_path / "killed", **{when: kill_after(count)})
    again = make_model()
    seen = []
    second = fit(task_of(again), settings, momentum=0.9, folder=tmp_path / "killed", on_epoch=seen.append)
    assert second == history
    assert len(seen) == epochs_left
    assert_equal(weights_of(again), weights_of(whole))


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_the_average_is_that_of_the_weights_after_each_step(tmp_path, dtype):
    """In float64 from the weights as they were; with them go the statistics of batch normalisation, not what is frozen."""
    model, seen = make_model(dtype=dtype), []
    expected = {name: value.astype(np.float64) for name, value in weights_of(model).items()}
    fit(task_of(model), SETTINGS, momentum=0.9, folder=tmp_path, ema=0.8, on_step=lambda _: seen.append(weights_of(model)))
    assert len(seen) == 3 * STEPS
    for step, weights in enumerate(seen, 1):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = {name: decay * value + (1 - decay) * weights[name] for name, value in expected.items()}
    for name, value in weights_of(model).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-5, atol=1e-6, err_msg=name)
    moved = {name for name, value in weights_of(model).items() if np.abs(value - seen[-1][name]).max() > 1e-4}
    assert {"conv/kernel", "head/bias", "norm/gamma", "norm/moving_mean", "norm/moving_variance"} <= moved
    np.testing.assert_array_equal(weights_of(model)["stem/kernel"], seen[0]["stem/kernel"])


@pytest.mark.parametrize(("when", "count"), [("on_step", STEPS + 2), ("on_epoch", 2), ("on_epoch", 3)])
def test_a_killed_run_ends_with_the_same_average(tmp_path, when, count):
    whole = make_model()
    fit(task_of(whole), SETTINGS, momentum=0.9, folder=tmp_path / "whole", ema=0.9)
    with pytest.raises(Killed):
        fit(task_of(make_model()), SETTINGS, momentum=0.9, folder=tmp_path / "killed", ema=0.9, **{when: kill_after(count)})
    again = make_model()
    fit(task_of(again), SETTINGS, momentum=0.9, folder=tmp_path / "killed", ema=0.9)
    assert_equal(weights_of(again), weights_of(whole))


def test_a_finished_run_is_not_trained_again(tmp_path, uninterrupted):
    weights, history = uninterrupted
    model = make_model()
    # No batches: every step would fail.
    assert fit(task_of(model, batches=None), SETTINGS, momentum=0.9, folder=tmp_path / "whole") == history
    assert_equal(weights_of(model), weights)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    def broken(logits, batch, total):
        return {"loss": tf.reduce_sum(logits) * float("nan")}

    with pytest.raises(StageError, match=r"the loss is nan at epoch 1, step 1: lower optimizer.learning_rate \(now 0.05\)"):
        fit(task_of(make_model(), loss=broken), SETTINGS, momentum=0.9, folder=tmp_path)
    assert not (tmp_path / CHECKPOINT).exists()


def test_checkpoint_of_another_model(tmp_path, uninterrupted):
    with pytest.raises(StageError, match=f"{CHECKPOINT}: the checkpoint is of another model: .* has shape .*, expected"):
        fit(task_of(make_model(channels=5)), SETTINGS, momentum=0.9, folder=tmp_path / "whole")
    inputs = keras.Input((8, 8, 3), name="image")
    other = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 1, name="head")(inputs)))
    with pytest.raises(StageError, match="the checkpoint is of another model; remove the file"):
        fit(task_of(other), SETTINGS, momentum=0.9, folder=tmp_path / "whole")


@pytest.mark.parametrize("keep", [0, 100, -1])
def test_truncated_checkpoint(tmp_path, uninterrupted, keep):
    path = tmp_path / "whole" / CHECKPOINT
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StageError, match=f"{CHECKPOINT}: not a readable checkpoint .*; remove the file to start again"):
        fit(task_of(make_model()), SETTINGS, momentum=0.9, folder=tmp_path / "whole")


def test_checkpoint_without_its_history(tmp_path, uninterrupted):
    path = tmp_path / "whole" / CHECKPOINT
    save_file(load_file(path), path)
    with pytest.raises(StageError, match="not a readable checkpoint"):
        fit(task_of(make_model()), SETTINGS, momentum=0.9, folder=tmp_path / "whole")


def test_everything_frozen(tmp_path):
    model = make_model()
    model.trainable = False
    with pytest.raises(StageError, match="nothing to train"):
        fit(task_of(model), SETTINGS, momentum=0.9, folder=tmp_path)


def without_dropout(folder, settings: Training, dtype="float32"):
    """(model, losses); low precision and XLA draw other random numbers."""
    model = make_model(dropout=0.0, dtype=dtype)
    history = fit(task_of(model), settings, momentum=0.9, folder=folder)
    return model, [entry["loss"] for entry in history]


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_low_precision_ends_near_float32(tmp_path, precision):
    expected, losses = without_dropout(tmp_path / "full", SETTINGS)
    model, found = without_dropout(tmp_path / "low", change(precision=precision), dtype=precision)
    assert model.get_layer("conv").compute_dtype == precision.removeprefix("mixed_")
    np.testing.assert_allclose(found, losses, rtol=0.02)
    differences = []
    for name, value in weights_of(model).items():
        assert value.dtype == np.float32
        np.testing.assert_allclose(value, weights_of(expected)[name], atol=0.05, err_msg=name)
        differences.append(np.abs(value - weights_of(expected)[name]).max())
    assert max(differences) > 0


def checkpoint(folder) -> dict[str, np.ndarray]:
    return load_file(folder / CHECKPOINT)


def test_overflow_halves_the_loss_scale_and_leaves_the_step_out(tmp_path):
    """Gradients of 2**15 * 2000 do not fit in float16; after halving often enough they do, and training goes on."""

    def make_task():
        return task_of(make_model(scale=2000.0, dtype="mixed_float16"))

    task = make_task()
    start = weights_of(task.model)
    first = change(precision="mixed_float16", epochs=1)
    fit(task, first, momentum=0.9, folder=tmp_path / "one")
    saved = checkpoint(tmp_path / "one")
    assert saved["loss_scale"].item() == 2.0**15 / 2**STEPS
    for name in ("conv/kernel", "head/kernel", "head/bias"):
        np.testing.assert_array_equal(weights_of(task.model)[name], start[name])
        np.testing.assert_array_equal(saved[f"optimizer/velocity/{name}"], 0)
    assert saved["optimizer/step"].item() == STEPS

    task = make_task()
    fit(task, change(precision="mixed_float16", epochs=8, optimizer=Optimizer(learning_rate=1e-9)), momentum=0.9, folder=tmp_path / "many")
    saved = checkpoint(tmp_path / "many")
    assert 1 <= saved["loss_scale"].item() < 2.0**12 and saved["good_steps"].item() > 0
    assert np.abs(weights_of(task.model)["head/kernel"] - start["head/kernel"]).max() > 0


def test_xla_computes_the_same(tmp_path):
    expected, losses = without_dropout(tmp_path / "plain", SETTINGS)
    model, found = without_dropout(tmp_path / "xla", change(xla=True))
    np.testing.assert_allclose(found, losses, rtol=1e-5)
    for name, value in weights_of(expected).items():
        np.testing.assert_allclose(weights_of(model)[name], value, rtol=1e-5, atol=1e-5, err_msg=name)


DRIVER = Path(__file__).parent / "training_devices.py"


@pytest.fixture(scope="module")
def on_two_devices():
    """What training_devices.py found, on two virtual processors in a process of its own."""
    environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, str(DRIVER)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["classifier", "affinity", "segmenter", "odd batch", "adam, clipped", "loss scale"])
def test_two_devices_train_as_one(on_two_devices, case):
    """Largest difference of a weight, and of a reported loss, against the same batches on one device."""
    found = on_two_devices[case]
    assert found["replicas"] == 2
    assert found["moved"] > 1e-3
    assert found["weights"] < 2e-6
    assert found["losses"] < 2e-6


@pytest.mark.slow
def test_restart_on_two_devices_is_exact(on_two_devices):
    assert on_two_devices["restart with dropout"]["weights"] == 0


@pytest.mark.slow
def test_two_devices_average_as_one(on_two_devices):
    assert on_two_devices["averaged"]["weights"] < 2e-6 < 1e-3 < on_two_devices["averaged"]["moved"]


@pytest.mark.slow
def test_xla_on_two_devices_is_refused(on_two_devices):
    assert "runs on one device, found 2" in on_two_devices["xla"]["error"]


def test_steps_run_as_they_were_traced(tmp_path):
    """TensorFlow's graph optimiser makes sums whose order depends on timing: of additions AddN, of AddN an accumulation."""
    from tensorflow.python.eager import context  # nothing public shows the optimised graph of a tf.function

    def sum_of_five(logits, batch, total):
        terms = [tf.sin(logits * factor) for factor in (1.0, 2.0, 3.0, 4.0, 5.0)]
        return {"loss": tf.reduce_mean(tf.square(terms[0] + terms[1] + terms[2] + terms[3] + terms[4]))}

    context.enable_run_metadata()
    try:
        fit(task_of(make_model(), loss=sum_of_five), change(epochs=1), momentum=0.9, folder=tmp_path)
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    nodes = [node for graph in graphs for node in graph.node]
    sines = {node.name for node in nodes if node.op == "Sin"}
    assert len(sines) == 5
    readers = {node.op for node in nodes if any(name.split(":")[0] in sines for name in node.input)}
    assert readers == {"AddV2"}
    assert not tf.config.optimizer.get_experimental_options().get("disable_meta_optimizer")  # elsewhere it helps
