"""Typed errors. The command line turns every one of them into its message and exit code 2."""


class TfwsssError(Exception):
    """Base class. The message names the file or field, what was found and what was expected."""


class ConfigError(TfwsssError):
    """A configuration file or override is wrong."""


class DataError(TfwsssError):
    """A data set cannot be used: files, tags or masks are missing or inconsistent."""


class ImageError(DataError):
    """One photo or mask cannot be read. Runs leave the image out and go on (quarantine)."""


class WeightsError(TfwsssError):
    """A weight file is unreadable or does not fit the model."""


class ExportError(TfwsssError):
    """An exported artefact could not be made or does not agree with the Keras model."""


class StageError(TfwsssError):
    """A pipeline stage cannot run, for example because its predecessor has no result."""


class StackError(TfwsssError):
    """The installed TensorFlow, Keras and tensorflow-addons do not belong together, or cannot do what is wanted."""
