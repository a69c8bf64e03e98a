"""XML of others: parsed without entities, which can expand to gigabytes or name other files, and without keeping the whole tree."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from tfwsss.errors import DataError
from tfwsss.storage.atomic import require_regular

BLOCK = 1 << 16  # bytes read at once
MOST_BYTES = 64 << 20  # of one element that is kept, with all that is in it


def each_element(path: Path, names: Collection[str], take: Callable[[ElementTree.Element], None]) -> None:
    """Call `take` with every outermost element of these names, in the order of the file; the others are not kept.

    Raises:
        FileNotFoundError: there is no file.
        DataError: it cannot be read, is no XML, or declares a document type.
    """
    parser = expat.ParserCreate()
    builder: ElementTree.TreeBuilder | None = None
    depth, size = 0, 0

    def refuse(*_):
        raise DataError(f"{path}: has a document type declaration, which is refused")

    def start(name, attributes):
        nonlocal builder, depth, size
        if builder is None and name in names:
            builder, depth, size = ElementTree.TreeBuilder(), 0, 0
        if builder is not None:
            depth += 1
            grow(sum(map(len, attributes.values())) + 200)
            builder.start(name, attributes)

    def end(name):
        nonlocal builder, depth
        if builder is None:
            return
        builder.end(name)
        depth -= 1
        if depth == 0:
            element, builder = builder.close(), None
            take(element)

    def data(text):
        if builder is not None:
            grow(len(text))
            builder.data(text)

    def grow(by):
        nonlocal size
        size += by
        if size > MOST_BYTES:
            raise DataError(f"{path}: one element is larger than {MOST_BYTES >> 20} MB")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data
    try:
        require_regular(path)
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                parser.Parse(block, False)
        parser.Parse(b"", True)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (expat.ExpatError, ValueError, LookupError) as error:  # LookupError: an encoding that Python does not know
        raise DataError(f"{path}: not valid XML: {error}") from None
