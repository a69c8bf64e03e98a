"""The diagram of docs/architecture.md against the stages' declarations, a finished run, and the import contracts."""

import re
import tomllib

import pytest

from tests.markdown import ROOT, code_blocks
from tfwsss_pipelines.stages.order import STAGES

CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
LAYERS = {contract["containers"][0] if contract["containers"] else "tfwsss": contract["layers"] for contract in CONTRACTS["contracts"] if contract["type"] == "layers"}


@pytest.fixture(scope="module")
def diagram() -> str:
    [block] = [block for block in code_blocks("mermaid") if block.page == "docs/architecture.md"]
    return block.text


def nodes(text: str) -> dict[str, list[str]]:
    """{name: lines of its label}, in order."""
    return {name: label.split("<br/>") for name, label in re.findall(r'^ +(?!subgraph)(\w+)\["(.*)"\]$', text, re.MULTILINE)}


def arrows(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^ +(\w+) --> (\w+)$", text, re.MULTILINE))


def subgraph(text: str, name: str) -> str:
    return re.search(rf"^  subgraph {name} .*?^  end$", text, re.MULTILINE | re.DOTALL).group()


def test_stages_and_their_needs(diagram):
    stages = subgraph(diagram, "data_flow")
    assert list(nodes(stages)) == [stage.name for stage in STAGES]
    # The data stage is needed by all: its digests are in every fingerprint.
    needs = {stage.name: {*stage.needs, *(["data"] if stage is not STAGES[0] else [])} for stage in STAGES}

    def implied(name: str) -> set[str]:
        return {far for near in needs[name] for far in needs[near] | implied(near)}

    assert arrows(stages) == {(near, name) for name in needs for near in needs[name] - implied(name)}


def test_files_of_a_run(diagram, finished):
    stages = {stage.name: stage for stage in STAGES}
    for name, (_, files) in nodes(subgraph(diagram, "data_flow")).items():
        for file in files.split(", "):
            path = finished / file
            assert any(path.is_relative_to(folder) for folder in stages[name].folders(finished)), f"{file} is not in a folder of {name}"
            assert path.exists() if "ID" not in file else list(path.parent.rglob(path.name.replace("ID", "*"))), file
    drawn = {folder.relative_to(finished).parts[0] for stage in STAGES for folder in stage.folders(finished)}
    assert {path.name for path in finished.iterdir() if path.is_dir()} - {"scenes"} == drawn


@pytest.mark.parametrize(("folder", "container"), [("pipelines", "tfwsss_pipelines"), ("tfwsss", "tfwsss")])
def test_folders_are_the_layers_of_the_contracts(diagram, folder, container):
    part = subgraph(diagram, folder)
    layers = [{name.removeprefix("tfwsss.") for name in layer.split(" | ")} for layer in LAYERS[container]]
    assert [set(label[0].split(", ")) for label in nodes(part).values()] == layers
    names = list(nodes(part))
    assert arrows(part) == set(zip(names, names[1:], strict=False))


@pytest.mark.parametrize(("folder", "container"), [("pipelines", "tfwsss_pipelines"), ("tfwsss", "tfwsss")])
def test_the_contracts_leave_nothing_out(folder, container):
    named = {name.removeprefix("tfwsss.") for layer in LAYERS[container] for name in layer.split(" | ")}
    there = {path.parent.name if path.name == "__init__.py" else path.stem for path in [*(ROOT / folder).glob("*.py"), *(ROOT / folder).glob("*/__init__.py")]}
    assert there - {folder} == named


def test_packages(diagram):
    assert set(nodes(subgraph(diagram, "serving"))) == set(CONTRACTS["root_packages"]) - {"tfwsss", "tfwsss_pipelines"}
    between = arrows(re.sub(r"^  subgraph .*?^  end$", "", diagram, flags=re.MULTILINE | re.DOTALL))
    assert between == {("pipelines", "tfwsss"), ("pipelines", "serving")}
