"""The runtime installed by itself, as a downstream program gets it, and the commands that start the service."""

import dataclasses
import inspect
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command import environment_with, run_command
from tfwsss_onnx import Segmenter
from tfwsss_onnx.http_service import Settings, command
from tfwsss_pipelines import cli

ROOT = Path(__file__).parents[2]

# A program elsewhere: only the installed copy and third-party packages, nothing of this repository or TensorFlow.
PROGRAM = """
import sys
sys.path.insert(0, {target!r})
class Block:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow", "keras", "tfwsss", "pipelines", "serving", "onnx"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block)
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Folder with the distribution tfwsss-onnx, installed by pip from a copy of serving/onnx."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copytree(ROOT / "serving/onnx", folder / "source", ignore=shutil.ignore_patterns("__pycache__", "build", "*.egg-info"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder / "target"), str(folder / "source")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "target"


def test_it_segments_without_the_rest(installed, exported, photo, tmp_path):
    Image.fromarray(photo(33, 47)).save(tmp_path / "photo.png")
    code = PROGRAM.format(target=str(installed)) + (
        "import numpy as np, tfwsss_onnx\n"
        f"segmenter = tfwsss_onnx.Segmenter({str(exported('local'))!r}, device='cpu')\n"
        f"np.save({str(tmp_path / 'mask.npy')!r}, segmenter({str(tmp_path / 'photo.png')!r}))\n"
        "print(tfwsss_onnx.__file__, 'starlette' in sys.modules, 'numba' in sys.modules)\n"
        "import tfwsss_densecrf\n"
        "print(tfwsss_densecrf.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(installed / "tfwsss_onnx/__init__.py"), "False", "False", str(installed / "tfwsss_densecrf/__init__.py")]
    np.testing.assert_array_equal(np.load(tmp_path / "mask.npy"), Segmenter(exported("local"), device="cpu")(photo(33, 47)))


def test_what_it_asks_for(installed):
    metadata = next(installed.glob("tfwsss_onnx-*.dist-info"))
    text = (metadata / "METADATA").read_text()
    required = {re.split(r"[<>=\[; ]", line.split(": ")[1])[0] for line in text.splitlines() if line.startswith("Requires-Dist") and "extra" not in line}
    assert required == {"numpy", "onnxruntime", "pillow"}
    assert set(re.findall("Provides-Extra: (.*)", text)) == {"gpu", "crf", "http"}
    assert "tfwsss-onnx-serve = tfwsss_onnx.http_service.command:main" in (metadata / "entry_points.txt").read_text()


def first_answer(command, log: Path, environment=None) -> str:
    """Start a server, ask for /v2 and the page, end it; the page."""
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=log.parent, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        while not re.search(r"ready on cpu", log.read_text()):
            assert process.poll() is None, log.read_text()
            try:
                process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        address = re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text()).group(1)
        assert b"binary_tensor_data" in urllib.request.urlopen(f"{address}/v2", timeout=60).read()
        return urllib.request.urlopen(f"{address}/", timeout=60).read().decode()
    finally:
        process.terminate()
        process.wait(60)


def test_the_service_runs_from_the_installed_copy(installed, exported, tmp_path):
    code = PROGRAM.format(target=str(installed)) + "from tfwsss_onnx.http_service.command import main; main()"
    page = first_answer([sys.executable, "-c", code, str(exported("local")), "--port", "0", "--warm-up", "40x24"], tmp_path / "log.txt")
    assert "Drop a photo here" in page


def test_tfwsss_serve(exported, tmp_path):
    """The same through the project's own command, with a name of its own."""
    command = ["tfwsss", "serve", str(exported("local")), "--port", "0", "--name", "pets", "--warm-up", "40x24", "--device", "cpu"]
    assert "pets" in first_answer(command, tmp_path / "log.txt", environment_with(tmp_path))


LISTS = ("warm_up", "allow_host")  # an option that may be given several times has the default None


def test_tfwsss_serve_has_the_services_defaults():
    shown = {name: option.default for name, option in inspect.signature(cli.serve).parameters.items()}
    fields = {field.name: field.default for field in dataclasses.fields(Settings) if field.name in shown and field.name not in LISTS}
    options = {name: option.default for name, option in inspect.signature(command.serve).parameters.items() if name in shown and name != "model" and name not in LISTS}
    assert len(fields) >= 5 and len(options) >= 5
    assert {**fields, **options}.items() <= shown.items()


@pytest.mark.parametrize(("arguments", "words"), [(("missing.onnx",), "missing.onnx: no such file"), (("MODEL", "--warm-up", "5"), "WIDTHxHEIGHT"), (("MODEL", "--max-body-mb", "0"), "max_body_mb: found 0.0")])
def test_tfwsss_serve_names_what_is_wrong(exported, tmp_path, arguments, words):
    done = run_command(tmp_path, "serve", *(str(exported("local")) if argument == "MODEL" else argument for argument in arguments))
    assert done.returncode == 2 and words in done.stderr + done.stdout
