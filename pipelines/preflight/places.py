"""Whether the work directory can be written, and whether the tracking server is there."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from tfwsss.config import Config

from .inputs import tracking_store
from .weights import answers

PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


def work_problems(config: Config, folders: list[Path]) -> list[str]:
    """One line for each folder of a run that exists and cannot be written, and for a work directory that cannot be made."""
    work = Path(config.work_dir).resolve()
    there = next(place for place in (work, *work.parents) if place.exists())
    if not there.is_dir():
        return [f"work_dir: {there}: is a file"]
    return [f"work_dir: {folder}: no permission to write" for folder in (there, *(folder for folder in folders if folder.is_dir())) if not _writable(folder)]


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def tracking_warnings() -> list[str]:
    """A line where MLflow's store cannot be used, as far as it shows without MLflow; never with a password."""
    store = tracking_store()
    if store is None:
        address = urlsplit(os.environ["MLFLOW_TRACKING_URI"])
        scheme = address.scheme.partition("+")[0]
        try:
            host, port = address.hostname, address.port or PORTS.get(scheme)
        except ValueError:
            return ["MLFLOW_TRACKING_URI: the port is no number"]
        if host and port and not answers(host, port):
            return [f"MLFLOW_TRACKING_URI: nothing answers at {host}:{port}; a run would keep what it logs and send it later"]
        return []
    place = store if store.exists() else store.parent
    if not place.exists():
        return [f"MLflow's store {store}: there is no folder {place}"]
    if not os.access(place, os.W_OK) or not _writable(store.parent):
        return [f"MLflow's store {store}: no permission to write"]
    return []
