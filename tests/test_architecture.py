"""The rules on who may import whom, and what the packages carry."""

import subprocess
import sys
import tomllib
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]


def test_import_contracts_hold():
    done = subprocess.run(["lint-imports"], executable=Path(sys.executable).with_name("lint-imports"), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_command_line_starts_without_tensorflow_and_mlflow():
    # `tfwsss --help`, and every worker process that imports the command line's module, must start at once.
    code = "import sys, tfwsss_pipelines.cli, tfwsss_pipelines.stages.order; print([m for m in ('tensorflow', 'mlflow', 'keras') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_module_is_called_after_nothing():
    names = {path.stem for folder in ("tfwsss", "pipelines", "serving") for path in (ROOT / folder).rglob("*.py")}
    assert not names & {"utils", "util", "helpers", "misc", "common"}


def test_every_preset_ships_with_the_package():
    from tfwsss.config.files import PRESET_FOLDER, load_config, preset_names

    assert {"demo-scenes", "magnetic-tile", "voc-animals", "voc-animals-mobilenet", "voc-animals-supervised", "voc12-psa-resnet38", "voc12-psa-vgg16", "voc12-resnet38"} <= set(preset_names())
    for name in preset_names():
        load_config(name)
        assert (PRESET_FOLDER / f"{name}.yaml").read_text().startswith("#"), f"{name}: a preset begins with what it is for"


def test_mlflow_does_not_call_home():
    code = """
import tfwsss_pipelines.engine.tracking
import mlflow
if tuple(map(int, mlflow.__version__.split(".")[:2])) < (3, 2):  # has no telemetry yet
    print(True)
else:
    from mlflow.telemetry.utils import is_telemetry_disabled
    print(is_telemetry_disabled())
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_says_that_it_is_typed(package):
    assert resources.files(package).joinpath("py.typed").is_file()
