"""Typed errors of the runtime. It is used without the rest of the project, hence they are its own."""


class SegmenterError(Exception):
    """Base class. The message names the file or argument, what was found and what was expected."""


class ModelError(SegmenterError):
    """The file is missing, not ONNX, or not an exported segmenter; or it lacks an output that was asked for."""


class DeviceError(SegmenterError):
    """The device that was asked for cannot be used."""


class ImageError(SegmenterError):
    """An image is unreadable, too large, or of the wrong type or shape."""


class ImageSizeError(ImageError):
    """An image has more pixels than the limit."""


class DependencyError(SegmenterError):
    """An optional package is needed for what was asked and is not installed."""


class Cancelled(SegmenterError):
    """A run was stopped by its `Cancellation`."""
