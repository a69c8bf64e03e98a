"""`tfwsss-onnx-serve MODEL.onnx`, and the same for other commands."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
from collections.abc import Sequence

import onnxruntime
import uvicorn

from ..errors import SegmenterError
from ..providers import DEVICES
from ..segmenter import Segmenter
from . import process_memory
from .app import create_app
from .budget import divide
from .connections import Connections
from .hosts import HostCheck, is_loopback
from .settings import Settings

_FILES_IN_RESERVE = 64  # open files besides connections


def serve(
    model,
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8080,
    device: str = "auto",
    threads: int | None = None,
    max_megapixels: float = 50.0,
    allow_host: Sequence[str] = (),
) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are finished.

    Args:
        model: an exported .onnx file.
        settings: limits.
        host: the address to listen on; the default is reachable from this machine only.
        port: 0 takes a free one (it is logged).
        device, threads, max_megapixels: see `Segmenter`.
        allow_host: names, besides this machine's own and `host`, that requests may call the service by; "*" allows all.

    Raises:
        SegmenterError: the model cannot be used.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("PIL").setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("py.warnings").setLevel(logging.ERROR)  # Pillow warns of each damaged EXIF block
    if device == "auto":
        onnxruntime.set_default_logger_severity(4)  # trying CUDA in vain is no error then
    process_memory.return_large_blocks()
    # Cores that wait busily for the next operation are missing to the threads that read and write.
    segmenter = Segmenter(model, device, threads=threads, max_megapixels=max_megapixels, spinning=False)
    divide(settings.memory_mb * 1e6, process_memory.resident(), None, segmenter.tile**2, 0)  # refuses what is too little for the model
    connections = Connections(_most_connections(settings.connections), settings.connections_per_address, settings.header_limit_s, settings.write_limit_s)
    app = create_app(segmenter, settings, on_budget=lambda budget: connections.limit(budget.connections))
    uvicorn.run(
        HostCheck(app, (host, *allow_host), any_address=not is_loopback(host)),
        host=host,
        port=port,
        http=connections.protocol(),
        ws="none",
        access_log=False,
        server_header=False,
        log_config=None,
        timeout_keep_alive=settings.header_limit_s,
        timeout_graceful_shutdown=int(settings.time_limit_s) + 1,
    )


def _most_connections(wanted: int) -> int:
    try:
        import resource
    except ImportError:  # Windows
        return wanted
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return wanted if files == resource.RLIM_INFINITY else max(1, min(wanted, files - _FILES_IN_RESERVE))


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
    parser.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name that clients call the service by; may be given several times, * allows all (this machine's own)")
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
    others = {name: given[name] for name in ("host", "port", "device", "threads", "max_megapixels", "allow_host")}
    try:
        serve(given["model"], Settings(**limits), **others)
    except (SegmenterError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
