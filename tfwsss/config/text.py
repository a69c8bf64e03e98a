"""Fields that hold names and paths as users write them."""

import unicodedata
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator


def _at_home(path):
    """`~` and `~name` at the beginning stand for a home folder, as in a shell; anything but text is left to the field's type."""
    try:
        return str(Path(path).expanduser()) if isinstance(path, str) and path.startswith("~") else path
    except RuntimeError:
        raise ValueError(f"no home folder is known for {Path(path).parts[0]}; write the path out") from None


UserPath = Annotated[Path, BeforeValidator(_at_home)]
PathText = Annotated[str, BeforeValidator(_at_home)]  # a path, or something that is none
ClassName = Annotated[str, AfterValidator(lambda name: unicodedata.normalize("NFC", name))]
