"""What the commands print: names from files and folders can hold anything, and a terminal obeys control characters."""

import re
import sys

from rich.console import Console

# C0 but tab and line feed, DEL and C1, separators and directions of text that are not seen, halves of surrogate pairs (bytes of a file name that are no UTF-8).
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """The text with control characters as \\uXXXX, which is also what JSON calls them."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


class _Terminal(Console):
    def print(self, *objects, **options) -> None:
        super().print(*(printable(value) if isinstance(value, str) else value for value in objects), **options)


# Lines in a log file must not be broken at the 80 columns assumed without a terminal.
console = _Terminal(stderr=True, highlight=False, soft_wrap=True)


def show(text: str) -> None:
    """A result of a command, to standard output; characters that its encoding lacks are written as escapes."""
    line = printable(text) + "\n"
    encoding = sys.stdout.encoding or "utf-8"
    sys.stdout.write(line.encode(encoding, "backslashreplace").decode(encoding))
    sys.stdout.flush()
