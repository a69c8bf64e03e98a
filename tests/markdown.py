"""The Python examples and commands that the README files and docs/ show."""

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.command import environment_with
from tests.decoys import make_decoys

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("serving/*/README.md"))]

# Whoever shows another program says here that it is one; other indented text is tables, trees and files.
PROGRAMS = ("tfwsss", "tfwsss-onnx-serve", "python", "make", "mlflow", "pip", "git", "npm", "curl", "cd", "docker", "export", "pytest", ".venv/bin/python", ".")

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Shown(NamedTuple):
    """A command or a piece of code, and where it is shown."""

    page: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def code_blocks(language: str) -> list[Shown]:
    """Fenced blocks of a language."""
    blocks = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in _FENCED.finditer(text):
            if found.group(1) == language:
                blocks.append(Shown(str(page.relative_to(ROOT)), text.count("\n", 0, found.start()) + 2, found.group(2)))
    return blocks


def examples(package: str) -> list[Shown]:
    """Python examples by the package they are about: the first of ours or of others that they import."""
    return [block for block in code_blocks("python") if subject(block) == package]


def subject(example: Shown) -> str:
    imported = re.findall(r"^(?:from|import) (\w+)", example.text, re.MULTILINE)
    return next(name for name in imported if name not in ("numpy", "PIL"))


def run_example(example: Shown, folder: Path, addresses: dict[str, str] | None = None, **variables: str) -> None:
    """Run an example of a page as a user with folders `serving` and `pipelines` would, beside the files that it names.

    Args:
        example: the code.
        folder: current directory, with the files; the decoys are put there.
        addresses: what stands in the example -> where the server of the test is.
        variables: of the environment.
    """
    code = example.text
    for shown, real in (addresses or {}).items():
        assert shown in code, f"{example}: {shown} is not there"
        code = code.replace(shown, real)
    make_decoys(folder)
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment_with(folder, **variables), capture_output=True, text=True)
    assert done.returncode == 0, f"{example}\n{done.stderr}"


def commands(program: str) -> list[Shown]:
    """Lines of indented text that begin with a program, continued lines joined, comments cut off, `a && b` in two."""
    lines = []
    for page in PAGES:
        text = _FENCED.sub(lambda block: "\n" * block.group().count("\n"), page.read_text(encoding="utf-8"))
        for found in re.finditer(r"^ {4,}(?:.*\\\n)*.*$", text, re.MULTILINE):
            joined = re.sub(r"\\\n\s*", " ", found.group()).strip()
            if joined.split(" ")[0] not in PROGRAMS:
                continue
            for part in re.sub(r"\s{2,}#.*$", "", joined).split(" && "):
                if part.split(" ")[0] == program:
                    lines.append(Shown(str(page.relative_to(ROOT)), text.count("\n", 0, found.start()) + 1, part.strip()))
    return lines
