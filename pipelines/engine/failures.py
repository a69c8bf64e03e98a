"""One line for everything that ends a command, and a log file with the rest.

Exit code 2: wrong input, or something around the program, such as a full disk. 1: most likely a fault of tfwsss itself.
"""

from __future__ import annotations

import datetime
import os
import re
import sys
import tempfile
import traceback
from pathlib import Path

from tfwsss import __version__, errors
from tfwsss.errors import TfwsssError

from .terminal import console

# By name, so that nothing is imported for it: package of the class -> class, or "" for all of the package.
OUTER = {
    "mlflow": "MlflowException",
    "safetensors_rust": "SafetensorError",
    "safetensors": "SafetensorError",
    "sqlite3": "Error",
    "sqlalchemy": "",
    "onnxruntime": "",
    "requests": "",
    "urllib3": "",
    "zipfile": "BadZipFile",
    "zlib": "error",
    "yaml": "YAMLError",
    "json": "JSONDecodeError",
    "tensorflow": "OpError",
    "google": "",  # protobuf
}
_OURS = re.compile(rf"\b({'|'.join(name for name in vars(errors) if name.endswith('Error'))}): ")
_GRAPH = re.compile(r"\{\{function_node [^}]*\}\}\s*|\s*\[Op:\w+\]")  # names of TensorFlow's graph around a message
_USER = re.compile(r"(?<=://)[^/\s]*@")


def redact(text: str) -> str:
    """The text without user names and passwords in addresses."""
    return _USER.sub("***@", text)


def is_outer(error: BaseException) -> bool:
    """Whether what went wrong is no fault of this program."""
    if isinstance(error, (TfwsssError, OSError, UnicodeError, MemoryError)):
        return True
    return any(OUTER.get(cls.__module__.partition(".")[0]) in ("", cls.__name__) for cls in type(error).__mro__)


def one_line(error: BaseException) -> str:
    """What happened, in one line; the messages of this program's own errors as they are."""
    if isinstance(error, TfwsssError):
        return redact(str(error))
    if isinstance(error, OSError) and error.strerror:
        place = error.filename2 or error.filename
        return redact(f"{os.fsdecode(place)}: {error.strerror}" if isinstance(place, (str, bytes, Path)) else error.strerror)
    if isinstance(error, MemoryError):
        return f"not enough memory: {error}" if str(error) else "not enough memory"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    text = f"{type(error).__name__}: {lines[0]}"
    if type(error).__module__.startswith("tensorflow"):
        # An error of ours in an input pipeline comes as TensorFlow's, its text behind names of the graph.
        own = _OURS.search(lines[0])
        text = lines[0][own.end() :] if own else _GRAPH.sub("", text)
    return redact(text)


def write_log(error: BaseException) -> Path | None:
    """The command and the traceback in a file of the system's temporary folder; None where it cannot be written."""
    now = datetime.datetime.now().astimezone()
    text = f"tfwsss {__version__}, Python {sys.version}\n{now:%Y-%m-%d %H:%M:%S %z}, in {Path.cwd()}\n{sys.argv}\n\n{''.join(traceback.format_exception(error))}"
    try:
        descriptor, name = tempfile.mkstemp(".log", f"tfwsss-{now:%Y%m%d-%H%M%S}-")
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(redact(text))
    except OSError:
        return None
    return Path(name)


def take_debug(arguments: list[str]) -> bool:
    """Remove --debug, wherever it stands before a `--`."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [word for word in arguments[:end] if word != "--debug"]
    found = len(options) < end
    arguments[:end] = options
    return found


def report(error: Exception, debug: bool) -> int:
    """Say what ended the command; the exit code."""
    outer = is_outer(error)
    hint = "" if outer else "; this should not happen, please report it"
    if debug:
        console.print(redact("".join(traceback.format_exception(error))), markup=False, soft_wrap=True)
    elif not isinstance(error, TfwsssError):
        log = write_log(error)
        hint += f" (details: {log})" if log else " (details: --debug)"
    console.print(f"error: {one_line(error)}{hint}", style="red", markup=False, soft_wrap=True)
    return 2 if outer else 1
