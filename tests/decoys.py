"""Folders of a user's own in the current directory and on PYTHONPATH, under the names of ours: half of all repositories have them."""

from pathlib import Path

NAMES = ("serving", "pipelines")
_MODULES = ("__init__", "onnx", "tf_serving", "mlflow_models", "cli", "stages", "engine", "bench", "deployment")


def make_decoys(folder: Path) -> Path:
    """Packages that say so when anything of theirs is imported; returns the folder."""
    for name in NAMES:
        (folder / name).mkdir()
        for module in _MODULES:
            (folder / name / f"{module}.py").write_text(f'raise ImportError("{name}/{module}.py of the user was imported")\n', encoding="utf-8")
    return folder
