"""What README.md and docs/ show works, also for a user who has folders called `serving` and `pipelines`.

Python examples run whole beside a server or a model: in tests/serving, tests/tf_serving and tests/mlflow_models. Commands
run in tests/pipelines with the same folders on PYTHONPATH; here every line that is shown is parsed as far as its first work.
"""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml

import tfwsss
from tests import decoys
from tests.command import environment_with
from tests.decoys import make_decoys
from tests.markdown import ROOT, code_blocks, commands, subject
from tfwsss.config.files import load_config
from tfwsss_pipelines.stages import NAMES

EXAMPLES_RUN_WITH = {"tfwsss_onnx", "tritonclient", "tfwsss_tf_serving", "mlflow"}
PLACEHOLDERS = {"CONFIG": "demo-scenes", r"WORK_DIR\.\.\.": "runs/one runs/two", "(?<==)B": "mobilenetv2", "(?<==)W": "imagenet"}


@pytest.fixture
def users(tmp_path):
    """A user's current directory, also on PYTHONPATH."""
    return make_decoys(tmp_path)


@pytest.mark.parametrize("name", decoys.NAMES)
def test_the_users_folders_would_be_taken(users, name):
    done = subprocess.run([sys.executable, "-c", f"import {name}"], cwd=users, env=environment_with(users), capture_output=True, text=True)
    assert f"{name}/__init__.py of the user was imported" in done.stderr


def test_commands_take_the_arguments_that_are_shown(users):
    (users / "animals.yaml").write_text(code_blocks("yaml")[0].text)
    shown = {}
    for command in (entry for program in ("tfwsss", "tfwsss-onnx-serve", "python") for entry in commands(program)):
        line = command.text
        for word, value in PLACEHOLDERS.items():
            line = re.sub(rf"\b{word}(?!\w)", value, line)
        shown[line] = command
    assert len(shown) > 20
    driver = [sys.executable, str(ROOT / "tests/parse_commands.py"), str(ROOT / "benchmarks")]
    done = subprocess.run(driver, cwd=users, env=environment_with(users), input=json.dumps(list(shown)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wrong = json.loads(done.stdout.splitlines()[-1])
    assert not wrong, "\n".join(f"{shown[line]}: {line}\n    {message}" for line, message in wrong.items())


@pytest.mark.parametrize("block", code_blocks("yaml"), ids=str)
def test_configurations_are_valid(tmp_path, block):
    (tmp_path / "animals.yaml").write_text(block.text)
    assert load_config(str(tmp_path / "animals.yaml"), []).name == "animals"


def test_every_python_example_is_run():
    assert {subject(block) for block in code_blocks("python")} <= EXAMPLES_RUN_WITH


def test_make_knows_its_targets():
    targets = {word for command in commands("make") for word in command.text.split()[1:] if word.isidentifier() or "-" in word}
    for target in targets:
        done = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_mlflow_project_has_all_stages():
    assert list(yaml.safe_load((ROOT / "mlflow_project/MLproject").read_text())["entry_points"]) == ["main", *NAMES]


def test_mlflow_project_has_what_is_passed_to_it():
    entry_points = yaml.safe_load((ROOT / "mlflow_project/MLproject").read_text())["entry_points"]
    runs = [command for command in commands("mlflow") if command.text.startswith("mlflow run")]
    assert runs
    for command in runs:
        entry = re.search(r" -e (\w+)", command.text)
        parameters = entry_points[entry.group(1) if entry else "main"]["parameters"]
        assert set(re.findall(r"-P (\w+)=", command.text)) <= set(parameters), str(command)


def test_extras_exist():
    own = tomllib.loads((ROOT / "serving/onnx/pyproject.toml").read_text())["project"]["optional-dependencies"]
    extras = {"./serving/onnx": set(own), "tfwsss": set(metadata.metadata("tfwsss").get_all("Provides-Extra"))}
    for command in commands("pip"):
        for place, names in re.findall(r'"([^"\[]+)\[([^\]]+)\]"', command.text):
            assert set(names.split(",")) <= extras["tfwsss" if place == "." else place], str(command)


def test_readme_lists_the_stages():
    rows = re.findall(r"^\| `(\w+)` \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert tuple(rows) == NAMES


def test_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == tfwsss.__version__ and citation["references"][0]["start"] == 4981


def test_pre_commit_runs_what_lint_runs():
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local" and [hook["entry"] for hook in repository["hooks"]] == ["make lint"]


def test_files_and_folders_are_small():
    """At most 350 lines a file, 16 files a folder; more files have a reason in the folder's docstring."""
    folders = {path.parent for place in ("tfwsss", "pipelines", "serving", "benchmarks") for path in (ROOT / place).rglob("*.py")}
    for folder in folders:
        files = [path for path in folder.iterdir() if path.is_file() and path.name != "__init__.py" and path.suffix != ".pyc"]
        assert len(files) <= 16 or "more files" in (folder / "__init__.py").read_text(), folder
        for path in files:
            assert path.suffix != ".py" or len(path.read_text().splitlines()) <= 350, path
