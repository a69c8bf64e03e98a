"""`tfwsss predict` and `tfwsss serve`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tfwsss.config import Runtime

from ..engine.interruption import interruptible
from ..options import PATH, path_of


class Executor(StrEnum):
    """`runtime.executor`."""

    local = "local"
    ray = "ray"


def predict(
    model: Annotated[Path, typer.Option("--model", **PATH, help="An exported .onnx file.")],
    images: Annotated[list[Path] | None, typer.Argument(help="Photos, folders of photos, and patterns in quotation marks.", metavar="[IMAGE]...", parser=path_of)] = None,
    lists: Annotated[list[Path] | None, typer.Option("--list", **PATH, help="A file with one of these in each line; - is the standard input.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", **PATH, help="Folder for <photo>.png label maps.")] = Path("predictions"),
    overlay: Annotated[bool, typer.Option(help="Also write <photo>.overlay.jpg.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    max_megapixels: Annotated[float, typer.Option(help="Larger photos are left out before decoding.")] = 50.0,
    time_limit_s: Annotated[float, typer.Option(help="Seconds that one photo may take.", min=0.1)] = 600.0,
    force: Annotated[bool, typer.Option("--force", help="Also do what is there, made by an earlier call with this model.")] = False,
    executor: Annotated[Executor, typer.Option(help="As runtime.executor.")] = Executor.local,
    ray_address: Annotated[str | None, typer.Option(help="As runtime.ray_address.")] = None,
    cpus_per_actor: Annotated[int, typer.Option(help="As runtime.cpus_per_actor.", min=0)] = 0,
) -> None:
    """Segment photos with an exported model; what an earlier call has left undone is gone on with."""
    from ..labelling.photo_list import chosen_photos
    from .predict import predict_files

    limits = {"max_megapixels": max_megapixels, "time_limit_s": time_limit_s}
    runtime = Runtime.model_validate({"executor": executor.value, "ray_address": ray_address, "cpus_per_actor": cpus_per_actor})
    with interruptible():
        failed = predict_files(chosen_photos(images or (), lists or ()), model, output, overlay=overlay, device=device, **limits, force=force, runtime=runtime)
    if failed:
        raise typer.Exit(2)


def serve(
    model: Annotated[Path, typer.Argument(help="An exported .onnx file.", metavar="MODEL", parser=path_of)],
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 is reachable from this machine only.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8080,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or tensorrt.")] = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads of one run; all cores without it.", min=1)] = None,
    name: Annotated[str, typer.Option(help="Name of the model in the Open Inference Protocol.")] = "segmenter",
    max_batch: Annotated[int, typer.Option(help="Photos of one size that run together at most.", min=1)] = 8,
    queue: Annotated[int, typer.Option(help="Requests in the service at once; more are answered 503.", min=1)] = 64,
    max_body_mb: Annotated[float, typer.Option(help="Longest request.")] = 32.0,
    memory_mb: Annotated[float, typer.Option(help="Resident memory of the whole process; 0: the model, a run of its largest tile and 1200 MB.", min=0)] = 0.0,
    time_limit_s: Annotated[float, typer.Option(help="Seconds for one request.")] = 30.0,
    write_limit_s: Annotated[float, typer.Option(help="Seconds for a client to read an answer.")] = 30.0,
    connections: Annotated[int, typer.Option(help="Open at once.", min=1)] = 512,
    connections_per_address: Annotated[int, typer.Option(help="Of them from one address.", min=1)] = 256,
    allow_host: Annotated[list[str] | None, typer.Option(help="A name that clients call the service by, besides this machine's own; * allows all.", metavar="NAME")] = None,
    max_megapixels: Annotated[float, typer.Option(help="Larger photos are refused before decoding.")] = 50.0,
    warm_up: Annotated[list[str] | None, typer.Option(help="Size of photos to come; may be given several times.", metavar="WIDTHxHEIGHT")] = None,
) -> None:
    """Serve an exported model over HTTP: Open Inference Protocol, POST /segment, /metrics, and a page at /."""
    from .serve import serve_model

    limits = {"name": name, "max_batch": max_batch, "queue": queue, "max_body_mb": max_body_mb, "memory_mb": memory_mb, "time_limit_s": time_limit_s}
    limits |= {"write_limit_s": write_limit_s, "connections": connections, "connections_per_address": connections_per_address}
    options = {"host": host, "port": port, "device": device, "threads": threads, "max_megapixels": max_megapixels, "allow_host": tuple(allow_host or ())}
    serve_model(model, limits, warm_up or ["512x512"], **options)
