"""Turning a published weight file into one of this project or of Keras."""

from pathlib import Path

from tfwsss import models
from tfwsss.errors import WeightsError
from tfwsss.storage.atomic import atomic_path
from tfwsss.weights.loading import load_weights
from tfwsss.weights.matching import LoadReport
from tfwsss.weights.native import save_weights

KERAS_SUFFIX = ".weights.h5"


def import_weights(
    source,
    builder: str,
    backbone: str,
    num_classes: int,
    output,
    *,
    width: float = 1.0,
    allow_mismatch: bool = False,
) -> LoadReport:
    """Build a network, fill it from `source` (any supported format) and save it.

    Args:
        builder: "classifier", "affinitynet" or "segmenter".
        backbone: name in `tfwsss.models.BACKBONES`.
        num_classes: classes without background; AffinityNet has none.
        output: a path ending in ".safetensors", or in ".weights.h5" for the layout of the installed Keras. Written
            atomically.
        width: channel multiplier of the backbone.
        allow_mismatch: save what fits although something is missing, left over or of another shape.

    Raises:
        WeightsError: the output's name has another ending, or the source is unreadable or does not fit.
        ConfigError: unknown builder or backbone.
    """
    output = Path(output)
    if not output.name.endswith((".safetensors", KERAS_SUFFIX)):
        raise WeightsError(f"{output}: found the ending {output.suffix!r}, expected .safetensors or {KERAS_SUFFIX}")
    # Weights do not depend on the output stride; the backbone's finest is what the builders take by default.
    arguments = {"backbone": backbone, "width": width, "output_stride": models.find(backbone).output_strides[0]}
    if builder != "affinitynet":
        arguments["num_classes"] = num_classes
    model = models.build({"builder": builder, "arguments": arguments})
    report = load_weights(model, source, allow_mismatch=allow_mismatch)
    if output.suffix == ".safetensors":
        save_weights(model, output)
    else:
        _save_keras(model, output)
    return report


def _save_keras(model, output: Path) -> None:
    with atomic_path(output) as temporary:
        named = temporary.with_name(temporary.name + KERAS_SUFFIX)  # Keras insists on this ending
        try:
            model.save_weights(str(named))
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)
