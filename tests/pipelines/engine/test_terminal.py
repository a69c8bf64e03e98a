"""What reaches a terminal: no control character of a file's name, and nothing that its encoding lacks."""

import io
import json
import os
import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st

from tfwsss_pipelines.engine import terminal


@given(st.text())
def test_only_tab_and_line_feed_are_left(text):
    shown = terminal.printable(text)
    assert not any(ord(character) < 32 and character not in "\t\n" or 127 <= ord(character) < 160 for character in shown)
    assert not set(shown) & {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    shown.encode()
    assert json.loads(terminal.printable(json.dumps(text, ensure_ascii=False))) == text


def test_names_with_control_characters_in_messages_of_the_command(tmp_path):
    name = "\x1b]0;title\x07\x1b[31mred\x9b\u202e"
    command = [sys.executable, "-m", "tfwsss_pipelines.cli"]
    done = subprocess.run([*command, "run", name], cwd=tmp_path, capture_output=True)
    assert done.returncode == 2 and b"[31mred" in done.stderr
    assert not {0x1B, 0x07} & set(done.stderr) and "\x9b".encode() not in done.stderr
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/tags.csv").write_text(f'image,tags\n"{name}.jpg","{name}"\nb.jpg,b\n', encoding="utf-8")
    (tmp_path / "c.yaml").write_text("data: {format: folder, root: photos}\n")
    for more in ([], ["--json"]):
        done = subprocess.run([*command, "data", "check", "c.yaml", *more], cwd=tmp_path, capture_output=True, env=os.environ | {"PYTHONIOENCODING": "ascii"})
        assert done.returncode == 1 and b"\\u001b[31mred" in done.stdout, done.stderr
        assert not {0x1B, 0x07} & set(done.stdout + done.stderr)


def test_bytes_that_are_no_text(monkeypatch):
    output = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", output)
    terminal.show("caf\udce9 é")
    assert output.buffer.getvalue() == b"caf\\udce9 \\xe9\n"
