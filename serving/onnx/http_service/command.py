"""`tfwsss-onnx-serve MODEL.onnx`, and the same for other commands."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys

import onnxruntime
import uvicorn

from ..errors import SegmenterError
from ..providers import DEVICES
from ..segmenter import Segmenter
from .app import create_app
from .connections import timed_protocol
from .settings import Settings

MOST_CONNECTIONS = 1024


def serve(model, settings: Settings, *, host: str = "127.0.0.1", port: int = 8080, device: str = "auto", threads: int | None = None, max_megapixels: float = 50.0) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished.

    Args:
        model: an exported .onnx file.
        settings: limits.
        host: the address to listen on; the default is reachable from this machine only.
        port: 0 takes a free one (it is logged).
        device, threads, max_megapixels: see `Segmenter`.

    Raises:
        SegmenterError: the model cannot be used.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("PIL").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # Pillow warns of each damaged EXIF block
    if device == "auto":
        onnxruntime.set_default_logger_severity(4)  # trying CUDA in vain is no error then
    # Cores that wait busily for the next operation are missing to the threads that read and write.
    segmenter = Segmenter(model, device, threads=threads, max_megapixels=max_megapixels, spinning=False)
    uvicorn.run(
        create_app(segmenter, settings),
        host=host,
        port=port,
        http=timed_protocol(settings.header_limit_s),
        ws="none",
        access_log=False,
        server_header=False,
        log_config=None,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=int(settings.time_limit_s) + 1,
    )


def size(text: str) -> tuple[int, int]:
    """(height, width) from "WIDTHxHEIGHT"."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise ValueError(f"found {text!r}, expected WIDTHxHEIGHT, for example 640x480")
    return int(height), int(width)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tfwsss-onnx-serve", description="Serve an exported segmenter over HTTP.")
    parser.add_argument("model", help="an exported .onnx file")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this machine only)")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--device", choices=DEVICES, default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads of a run (one per core)")
    parser.add_argument("--max-megapixels", type=float, default=50.0, help="larger photos are refused (50)")
    parser.add_argument("--warm-up", type=size, action="append", metavar="WIDTHxHEIGHT", help="size of photos to come; may be given several times (512x512)")
    for option in dataclasses.fields(Settings):
        if option.name not in ("warm_up", "codec_threads"):
            default = option.default
            parser.add_argument("--" + option.name.replace("_", "-"), type=type(default), default=default, help=f"({default})")
    return parser


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the console script; a wrong model or option ends with exit code 2."""
    given = vars(_parser().parse_args(arguments))
    limits = {option.name: given[option.name] for option in dataclasses.fields(Settings) if given.get(option.name) is not None}
    if "warm_up" in limits:
        limits["warm_up"] = tuple(limits["warm_up"])
    others = {name: given[name] for name in ("host", "port", "device", "threads", "max_megapixels")}
    try:
        serve(given["model"], Settings(**limits), **others)
    except (SegmenterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
