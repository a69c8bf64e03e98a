"""What is compiled just in time is made ready before the progress bar, and the user told why nothing moves."""

from tfwsss.config import Crf
from tfwsss.crf import compile_engine

from ..engine.progress import console


def prepare_crf(crf: Crf | None) -> None:
    """Compile the engine where this was not done on this machine before, and tell the user."""
    if crf is None:
        return
    with console.status("  compiling the dense CRF, once per installation"):
        seconds = compile_engine(crf.engine)
    if seconds:
        console.print(f"  dense CRF compiled in {seconds:.0f} s, once per installation")
