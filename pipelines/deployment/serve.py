"""Serves an exported ONNX model over HTTP; TensorFlow stays out of the process."""

from __future__ import annotations

from pathlib import Path

from tfwsss.errors import ExportError


def serve_model(model: Path, limits: dict, warm_up: list[str], **options) -> None:
    """Serve until SIGINT or SIGTERM.

    Args:
        model: an exported .onnx file.
        limits: fields of `tfwsss_onnx.http_service.Settings`.
        warm_up: sizes of photos to come, "WIDTHxHEIGHT".
        **options: of `tfwsss_onnx.http_service.command.serve`.

    Raises:
        ExportError: the model cannot be used, a limit is wrong, or the packages of the extra `serve` are missing.
    """
    from tfwsss_onnx import SegmenterError

    try:
        from tfwsss_onnx.http_service import Settings
        from tfwsss_onnx.http_service.command import serve, size
    except ImportError as error:
        raise ExportError(f"tfwsss serve needs the extra `serve`: pip install tfwsss[serve] ({error})") from None
    try:
        serve(model, Settings(**limits, warm_up=tuple(size(text) for text in warm_up)), **options)
    except (SegmenterError, ValueError) as error:
        raise ExportError(str(error)) from None
