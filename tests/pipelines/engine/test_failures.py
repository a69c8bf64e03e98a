"""One line for everything that goes wrong, with the right exit code; the traceback in a log file or with --debug."""

import errno
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tfwsss.errors import DataError, ImageError
from tfwsss_pipelines.engine.failures import is_outer, one_line, redact
from tfwsss_pipelines.engine.interruption import Interrupted, interruptible


def _raised(call):
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def _mlflow():
    from mlflow.exceptions import MlflowException

    raise MlflowException("first line\nsecond line")


def _safetensors():
    from safetensors import safe_open

    safe_open(__file__, framework="np")


def _requests():
    import requests

    requests.get("http://127.0.0.1:1", timeout=1)


def _sqlalchemy():
    import sqlalchemy

    sqlalchemy.create_engine("sqlite:////proc/nope/x.db").connect()


def _onnx():
    import onnxruntime

    onnxruntime.InferenceSession(b"nothing")


def _tensorflow():
    import tensorflow as tf

    raise tf.errors.ResourceExhaustedError(None, None, "no memory\nmore")


OUTER = [
    _mlflow,
    _safetensors,
    _requests,
    _sqlalchemy,
    _onnx,
    _tensorflow,
    lambda: json.loads("{"),
    lambda: b"\xff".decode(),
    lambda: sqlite3.connect("/proc/nope/x.db"),
    lambda: Path("/proc/nope").read_text(),
    lambda: yaml.safe_load("["),
    lambda: (_ for _ in ()).throw(MemoryError()),
]


@pytest.mark.parametrize("call", OUTER)
def test_what_is_no_fault_of_ours_is_one_line(call):
    error = _raised(call)
    assert is_outer(error)
    assert one_line(error) and "\n" not in one_line(error)


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("x"), AttributeError("x"), ZeroDivisionError(), RuntimeError("")])
def test_what_is_ours_is_one_line_too(error):
    assert not is_outer(error)
    assert one_line(error) and "\n" not in one_line(error)


@pytest.mark.parametrize("kind", [ImageError, DataError])
def test_what_cannot_be_read_in_a_training_is_named_without_the_graph(kind):
    import tensorflow as tf

    def read(index):
        raise kind("photos/a.jpg: truncated")

    samples = tf.data.Dataset.range(1).map(lambda index: tf.numpy_function(read, [index], tf.float32))
    for pipeline in (samples, samples.prefetch(1)):
        error = _raised(lambda pipeline=pipeline: next(iter(pipeline)))
        assert is_outer(error) and one_line(error) == "photos/a.jpg: truncated"
    framed = tf.errors.UnknownError(None, None, "Error in user-defined function passed to MapDataset:1 transformation: ImageError: b.jpg: damaged\nmore")
    assert one_line(framed) == "b.jpg: damaged"
    full = tf.errors.ResourceExhaustedError(None, None, "{{function_node __wrapped__SaveV2_dtypes_196_device_/job:localhost/device:CPU:0}} /x/part-0; No space left on device [Op:SaveV2]")
    assert one_line(full) == "ResourceExhaustedError: /x/part-0; No space left on device"


def test_messages_name_the_path_and_no_password():
    assert one_line(OSError(errno.ENOSPC, "No space left on device", "/x/y")) == "/x/y: No space left on device"
    assert one_line(OSError(errno.EACCES, "Permission denied", b"/x/\xff")).endswith("Permission denied")
    assert one_line(DataError("as\nit is")) == "as\nit is"
    text = "HTTPSConnectionPool https://me:se@cret@host/x and postgresql://u:p@h/db, not a@b.c"
    assert redact(text) == "HTTPSConnectionPool https://***@host/x and postgresql://***@h/db, not a@b.c"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_the_second_does_what_it_always_does(number):
    seen = []
    before = signal.signal(number, lambda *_: seen.append(1))
    try:
        with pytest.raises(Interrupted) as stop, interruptible():
            try:
                os.kill(os.getpid(), number)
                time.sleep(1)
            finally:
                os.kill(os.getpid(), number)
        assert stop.value.signal == number and seen == [1]
        signal.signal(number, signal.SIG_IGN)  # nohup
        with interruptible():
            os.kill(os.getpid(), number)
            assert signal.getsignal(number) == signal.SIG_IGN
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_worker_ends_at_once_in_the_middle_of_a_long_call(number):
    code = (
        "import hashlib\nfrom tfwsss_pipelines.engine.interruption import ends_at_once\n"
        "with ends_at_once():\n    print('now', flush=True)\n    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"  # Python sees no signal meanwhile
    )
    code = f"import signal\nsignal.signal({int(number)}, signal.default_int_handler)\n{code}"  # the suite itself may run under nohup
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "now\n"
            process.send_signal(number)
            assert process.wait(60) == -number and process.stderr.read() == ""
        finally:
            process.kill()


# ------------------------------------------------------------------------------------------- the command itself


@pytest.fixture
def call(tmp_path):
    def call(*arguments, code=2, cwd=tmp_path, largest_file=None, **more):
        # Coverage in the process that is started would meet the limit of the files' size itself.
        others = ("MLFLOW_",) if largest_file is None else ("MLFLOW_", "COVERAGE_")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        environment |= {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db", "TMPDIR": str(tmp_path), **more}
        command = [sys.executable, "-m", "tfwsss_pipelines.cli", *map(str, arguments)]
        limit = None if largest_file is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
        done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120, preexec_fn=limit)
        assert done.returncode == code, done.stderr
        if code == 0:
            return None
        lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and "Traceback" not in done.stderr, done.stderr
        return lines[0]

    (tmp_path / "photos").mkdir()
    for name in "ab":
        Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / f"photos/{name}.png")
    (tmp_path / "photos/tags.csv").write_text("image,tags\na.png,cat\nb.png,dog\n")
    (tmp_path / "c.yaml").write_text("data: {format: folder, root: photos}\nwork_dir: work\n")
    return call


def test_a_work_directory_that_cannot_be_made(call, tmp_path):
    (tmp_path / "file").touch()
    for place, reason in (("/proc/nope", "No such file or directory"), ("file/x", "Not a directory"), ("file", "File exists|Not a directory")):
        line = call("run", "c.yaml", "--work-dir", place, "--until", "data")
        assert re.search(f"{place}.*: ({reason})", line), line
        log = re.search(r"details: (.*)\)", line)[1]
        assert "Traceback" in Path(log).read_text()


@pytest.mark.parametrize("limit", [0, 50_000])
def test_a_disk_that_takes_no_more(call, tmp_path, limit):
    """A limit of the size of files stands for a full disk: writing fails in the middle, here of MLflow's store, there of our own files."""
    line = call("run", "c.yaml", "--until", "data", largest_file=limit)
    assert "MLflow's store" in line or "too large" in line or "disk" in line, line
    call("run", "c.yaml", "--until", "data", code=0)
    assert not list(tmp_path.rglob(".tfwsss-*"))


def test_debug_shows_the_traceback_wherever_it_stands(tmp_path):
    (tmp_path / "file").touch()
    for arguments in (["--debug", "run"], ["run", "--debug"]):
        command = [sys.executable, "-m", "tfwsss_pipelines.cli", *arguments, "demo-scenes", "--work-dir", "file/x", "--until", "data"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 2 and "Traceback" in done.stderr and "details" not in done.stderr


def test_damaged_files_of_a_run(call, tmp_path):
    damaged = tmp_path / "work/data"
    damaged.mkdir(parents=True)
    (damaged / "stage.json").write_text('{"fingerprint": ')
    assert "work/data/stage.json: damaged" in call("run", "c.yaml", "--until", "data")
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    (damaged / "stage.json").unlink()
    assert "mlflow.db" in call("run", "c.yaml", "--until", "data")


def test_a_pipe_as_a_file_is_no_end_of_the_world(call, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "photos/tags2.csv")
    os.mkfifo(tmp_path / "photos/pipe.png")
    assert "no configuration file" in call("run", "pipe")
    assert "tags2.csv: cannot be read: not a regular file" in call("run", "c.yaml", "--set", "data.train_csv=tags2.csv")
    (tmp_path / "photos/tags.csv").write_text("image,tags\npipe.png,cat\n")
    assert "1 of 1 training photos are unusable" in call("run", "c.yaml", "--until", "data")
    assert "pipe.png,not a regular file" in (tmp_path / "work/data/quarantine.csv").read_text()


def onnx_file(path, nodes, inputs=None, **metadata):
    """A file with a graph of our choice; `images` uint8 [1, H, W, 3] -> `mask`."""
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        nodes,
        "g",
        inputs or [helper.make_tensor_value_info("images", TensorProto.UINT8, [None, None, None, 3])],
        [helper.make_tensor_value_info("mask", TensorProto.UINT8, None)],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()})
    save(model, path)
    return path


GOOD = {
    "format": "tfwsss.segmenter/1",
    "labels": ["background", "cat"],
    "palette": [[0, 0, 0], [1, 2, 3]],
    "outputs": ["mask"],
    "receptive_field": {"stride": 8, "reach": None},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "was it exported by tfwsss"),
        ({"labels": None}, "metadata 'labels' is absent"),
        ({"labels": "{"}, "metadata 'labels' is '{'"),
        ({"labels": ["a", 1]}, "metadata 'labels'"),
        ({"palette": [[0, 0, 0]]}, "metadata 'palette'"),
        ({"palette": [[0, 0, 0], [0, 0, 999]]}, "metadata 'palette'"),
        ({"outputs": []}, "metadata 'outputs'"),
        ({"receptive_field": {"stride": 0, "reach": 1}}, "metadata 'receptive_field'"),
        ({"receptive_field": {"stride": "8", "reach": 1}}, "metadata 'receptive_field'"),
        ({"receptive_field": 7}, "metadata 'receptive_field'"),
        ({}, r"gives uint8 \[64, 64, 3\]|gives uint8 \[64, 64, 1\]|gives"),
    ],
)
def test_onnx_files_of_others(tmp_path, change, message):
    from onnx import helper

    from tfwsss.errors import ExportError
    from tfwsss_pipelines.deployment.predict import predict_files

    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "a.png")
    metadata = {name: value for name, value in (GOOD | change).items() if value is not None}
    model = onnx_file(tmp_path / "m.onnx", [helper.make_node("Identity", ["images"], ["mask"])], **metadata)
    with pytest.raises(ExportError, match=f"m.onnx: .*({message})"):
        predict_files([tmp_path / "a.png"], model, tmp_path / "out")
    assert {path.name for path in tmp_path.rglob("out/*")} <= {"predict.json", "failures.csv"}  # no label map


def test_an_endless_model_ends_in_time(tmp_path):
    from onnx import TensorProto, helper

    from tfwsss.errors import ExportError
    from tfwsss_pipelines.deployment.predict import predict_files

    Image.effect_noise((64, 64), 60).convert("RGB").save(tmp_path / "a.png")
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.UINT8, None),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
    )
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("v", TensorProto.BOOL, [], [True]))
    model = onnx_file(tmp_path / "m.onnx", [yes, helper.make_node("Loop", ["", "yes", "images"], ["mask"], body=body)], **GOOD)
    with pytest.raises(ExportError, match="m.onnx: more than 0.5 s for a photo of 64x64 pixels"):
        predict_files([tmp_path / "a.png"], model, tmp_path / "out", time_limit_s=0.5)


def test_predict_into_a_file(call, tmp_path):
    assert "c.yaml: File exists" in call("predict", "photos/a.png", "--model", "m.onnx", "-o", "c.yaml")
