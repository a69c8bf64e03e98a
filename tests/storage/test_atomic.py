"""Files and folders that are whole or absent, whatever was at their place."""

import os

import pytest

from tfwsss.storage.atomic import (
    atomic_folder,
    atomic_path,
    is_temporary,
    remove,
    remove_leftovers,
    replace_folder,
    write_text,
)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    write_text(tmp_path / ("x" * 251 + ".txt"), "text")
    write_text(tmp_path / ("ü" * 125 + ".json"), "text")
    assert len(names(tmp_path)) == 2


def test_a_failed_write_leaves_what_was_there(tmp_path):
    write_text(tmp_path / "file", "before")
    with pytest.raises(ZeroDivisionError), atomic_path(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert names(tmp_path) == ["file"] and (tmp_path / "file").read_text() == "before"


def test_a_folder_at_the_place_of_a_file_is_left_alone(tmp_path):
    (tmp_path / "report").mkdir()
    (tmp_path / "report/mine").write_text("mine")
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "report") as temporary:
        temporary.write_text("ours")
    assert names(tmp_path) == ["report", "report/mine"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_a_folder_may_not_replace(tmp_path, replace):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/mine").write_text("mine")
    (tmp_path / "link").symlink_to("elsewhere")
    (tmp_path / "file").write_text("mine")
    before = names(tmp_path)
    for name in ("link", "file") if replace else ("link", "file", "elsewhere"):
        with pytest.raises(FileExistsError), atomic_folder(tmp_path / name, replace=replace) as temporary:
            temporary.mkdir()
    assert names(tmp_path) == before


def test_a_folder_replaces_another_only_when_it_is_whole(tmp_path, monkeypatch):
    (tmp_path / "target").mkdir()
    (tmp_path / "target/old").touch()
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "target", replace=True) as temporary:
        temporary.mkdir()
        raise ZeroDivisionError
    assert names(tmp_path) == ["target", "target/old"]
    with pytest.raises(FileNotFoundError):  # the old one comes back when the new one cannot be renamed
        replace_folder(tmp_path / "absent", tmp_path / "target")
    assert names(tmp_path) == ["target", "target/old"]
    with atomic_folder(tmp_path / "target", replace=True) as temporary:
        temporary.mkdir()
        (temporary / "new").touch()
    assert names(tmp_path) == ["target", "target/new"]


def test_removing_a_link_leaves_its_target(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/mine").touch()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/link").symlink_to("../folder")
    (tmp_path / "link").symlink_to("folder")
    remove(tmp_path / "link")
    remove(tmp_path / "tree")
    remove(tmp_path / "absent")
    assert names(tmp_path) == ["folder", "folder/mine"]


def test_leftovers_go_and_what_only_looks_like_them_stays(tmp_path):
    left = f".tfwsss-{os.urandom(16).hex()}.tmp"
    (tmp_path / "below").mkdir()
    (tmp_path / "elsewhere").mkdir()
    for name in (f"{left}.png", f"below/{left}.npz", f"elsewhere/{left}", ".a.1234.tmp.png", ".scenes.tmp", ".tfwsss-1.tmp"):
        (tmp_path / name).touch()
    (tmp_path / left).mkdir()
    (tmp_path / left / "half").touch()
    (tmp_path / "work").mkdir()
    (tmp_path / "work/link").symlink_to("../elsewhere")
    (tmp_path / "work/itself").symlink_to("../elsewhere", target_is_directory=True)
    remove_leftovers(tmp_path / "work")
    remove_leftovers(tmp_path / "work/itself")
    assert (tmp_path / "elsewhere" / left).exists()
    remove_leftovers(tmp_path, below=False)
    assert not (tmp_path / left).exists() and (tmp_path / f"below/{left}.npz").exists()
    remove_leftovers(tmp_path / "below")
    assert names(tmp_path / "below") == []
    assert {".a.1234.tmp.png", ".scenes.tmp", ".tfwsss-1.tmp"} <= set(names(tmp_path))
    assert is_temporary(left) and is_temporary(f"{left}.a\nb") and not is_temporary("." + left)
