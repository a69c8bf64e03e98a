"""What a stage may remove: what it wrote itself, and nothing else.

A stage owns its folders below the work directory, see `Stage.folders`. That files in them are its own, its record
says (`stage.json`), and for a finished stage the list of files with their digests beside it (`files.json`). A folder with
content but without a record belongs to somebody else. Files that are not on the list, or whose content is another one,
are moved to set_aside/ in the work directory before a stage is cleared. Links are never followed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from tfwsss.errors import DataError, StageError
from tfwsss.storage.atomic import is_temporary, read_json, remove, remove_leftovers, write_json

from .contents import Contents
from .progress import console
from .stage import Stage

RECORD = "stage.json"
FILES = "files.json"
SET_ASIDE = "set_aside"


def read_record(stage: Stage, work: Path) -> dict:
    """The record that a stage has left; {} without one.

    Raises:
        StageError: the file is damaged, or not a record.
    """
    return _read(work / stage.name / RECORD, ("fingerprint", "finished")) or {}


def write_record(stage: Stage, work: Path, record: dict) -> None:
    """Replace a stage's record; from then on what is in its folders is its own."""
    write_json(work / stage.name / RECORD, record)


def _read(path: Path, keys: tuple[str, ...]) -> dict | None:
    try:
        found = read_json(path)
    except DataError:
        found = "damaged"
    if found is None or (isinstance(found, dict) and all(key in found for key in keys)):
        return found
    raise StageError(f"{path}: damaged, or not written by tfwsss; move the folder {path.parent} away and run its stage again")


def require_own_folders(stages: list[Stage], work: Path) -> None:
    """Refuse folders that a stage would write and clear although they are somebody else's. Touches nothing.

    Raises:
        StageError: a folder is a link or a file, or has content but no record.
    """
    for stage in stages:
        for folder in stage.folders(work):
            for place in (folder, *(parent for parent in folder.parents if work in parent.parents)):
                if place.is_symlink():
                    raise StageError(f"{place}: is a link; stage {stage.name} writes and removes files there: remove the link or choose another work_dir")
            if folder.exists() and not folder.is_dir():
                raise StageError(f"{folder}: is a file, but the name of the folder of stage {stage.name}; move it away or choose another work_dir")
            if not _content(folder) or read_record(stage, work) or _listed(stage, work) is not None:
                continue
            raise StageError(
                f"{folder}: holds files that stage {stage.name} did not write, such as {_content(folder)[0].name}; "
                "choose another work_dir, or move them away"
            )


def _content(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not is_temporary(path.name)) if folder.is_dir() else []


def refuse_inputs(inputs: Iterable[tuple[str, Path]], stages: list[Stage], work: Path, more: tuple[str, ...] = ()) -> None:
    """Refuse a work directory in whose owned folders something lies that a run reads. Touches nothing.

    Args:
        inputs: (how the configuration names it, path).
        stages: all stages.
        work: the work directory, resolved.
        more: other folders below the work directory that a run writes.

    Raises:
        StageError: names the input and the folder.
    """
    owned = {folder.resolve(): stage.name for stage in stages for folder in stage.folders(work)}
    owned |= {(work / name).resolve(): name for name in (*more, SET_ASIDE)}
    for name, path in inputs:
        # A link is removed by its own place, its target by the one it points to.
        for place in dict.fromkeys((Path(os.path.abspath(path)), path.resolve())):  # noqa: PTH100  (resolve would follow links)
            for folder in (place, *place.parents):
                if folder in owned:
                    raise StageError(
                        f"{name}: {path} lies in {folder}, where a run writes and removes the results of {owned[folder]}; "
                        f"choose another work_dir (now {work})"
                    )


def _files(stage: Stage, work: Path) -> Iterator[Path]:
    """Everything in a stage's folders but folders, its record and list, and half-written files. Links count as files."""
    own = {work / stage.name / name for name in (RECORD, FILES)}
    for folder in stage.folders(work):
        for place, folders, names in os.walk(folder):
            folders.sort()
            links = [name for name in folders if (Path(place) / name).is_symlink()]
            for name in sorted((*names, *links)):
                path = Path(place) / name
                if path not in own and not is_temporary(name):
                    yield path


def kept_files(stage: Stage, work: Path) -> set[Path]:
    """Files below the paths that a stage keeps when it is cleared."""
    kept = [work / path for path in stage.kept]
    return {path for path in _files(stage, work) if any(folder == path or folder in path.parents for folder in kept)}


def list_files(stage: Stage, work: Path, contents: Contents, before: dict[Path, str | None]) -> None:
    """Write the list of a finished stage's files.

    Args:
        stage, work: of the run.
        contents: of the work directory.
        before: kept files, with digests, that were there when the stage began: others wrote them.
    """
    found = contents.digests(path for path in _files(stage, work) if not path.is_symlink())
    listed = {str(path.relative_to(work)): digest for path, digest in found.items() if digest is not None and before.get(path) != digest}
    write_json(work / stage.name / FILES, listed)


def check_files(stage: Stage, work: Path, contents: Contents) -> list[Path]:
    """Compare the files of a finished stage with its list.

    Returns:
        Those that are gone.

    Raises:
        StageError: one has another content.
    """
    listed = _listed(stage, work) or {}
    found = contents.digests(work / name for name in listed)
    changed = [path for path, digest in found.items() if path.exists() and digest != listed[str(path.relative_to(work))]]
    if changed:
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise StageError(
            f"{changed[0]}{more}: changed or damaged since stage {stage.name} wrote it; put it back, or make it anew with "
            f"tfwsss stage {stage.name} CONFIG --force, which moves it to {work / SET_ASIDE}"
        )
    return [path for path in found if not path.exists()]


def _listed(stage: Stage, work: Path) -> dict[str, str] | None:
    """{path below the work directory: digest}; None where the stage was finished by a version that wrote no list."""
    return _read(work / stage.name / FILES, ())


def clear(stage: Stage, work: Path, contents: Contents) -> None:
    """Remove the results of an earlier configuration, all but what the stage keeps; what it did not write is set aside.

    Raises:
        StageError: a folder is not the stage's, see `require_own_folders`.
    """
    require_own_folders([stage], work)
    record = read_record(stage, work)
    if not record and _listed(stage, work) is not None:  # somebody removed the record, to have the stage run again
        record = {"fingerprint": "", "finished": True}
    if not record:
        for folder in stage.folders(work):
            remove_leftovers(folder)
        return
    # A kill from here on leaves an unfinished stage, whose record still says what is whose.
    listing = record.get("finished") or record.get("clearing")
    write_record(stage, work, {**record, "finished": False, "clearing": bool(listing)})
    listed = _listed(stage, work) if listing else None
    kept = kept_files(stage, work)
    paths = [path for path in _files(stage, work) if path not in kept]
    found = contents.digests(path for path in paths if not path.is_symlink()) if listed is not None else {}
    aside = []
    for path in paths:
        known = listed and listed.get(str(path.relative_to(work)))
        if path.is_symlink() or (listed is not None and (known is None or known != found[path])):
            aside.append(_set_aside(path, work))
        else:
            remove(path)
    if aside:
        more = f" and {len(aside) - 1} more" if len(aside) > 1 else ""
        console.print(f"  {stage.name}: not written by it, or changed since, and set aside: {aside[0]}{more}", markup=False)
    for folder in stage.folders(work):
        remove_leftovers(folder)
        _remove_empty(folder, [work / path for path in stage.kept])
    remove(work / stage.name / FILES)


def _set_aside(path: Path, work: Path) -> Path:
    target = work / SET_ASIDE / path.relative_to(work)
    number = 1
    while target.exists() or target.is_symlink():
        number += 1
        target = target.with_name(f"{path.name}.{number}")
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
    return target


def _remove_empty(folder: Path, kept: list[Path]) -> None:
    for place, _, _ in os.walk(folder, topdown=False):
        path = Path(place)
        if path != folder and path not in kept and not any(path.iterdir()):
            path.rmdir()
