"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tfwsss.config import Config
from tfwsss.config.files import load_config


def path_of(text: str) -> Path:
    """A shell leaves the ~ of --work-dir=~/x as it is."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise typer.BadParameter(f"{text}: no home folder is known for it; write the path out") from None


PATH = {"parser": path_of, "metavar": "PATH"}
ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped preset.", metavar="CONFIG")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.FIELD=VALUE", help="Override one field; may be given several times.")]
CodeOption = Annotated[
    bool, typer.Option("--any-code", help="Take results that other code, such as an older version, made of the same settings and data.")
]
WorkOption = Annotated[Path | None, typer.Option("--work-dir", **PATH, help="Where results go; overrides work_dir.")]


def load(config: str, overrides: list[str] | None, work_dir: Path | None = None) -> Config:
    """The configuration that a command's arguments mean."""
    loaded = load_config(config, overrides or [])
    return loaded if work_dir is None else loaded.model_copy(update={"work_dir": work_dir})
