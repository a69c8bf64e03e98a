"""The model card: what is known of an exported segmenter, from the run's own records. What they do not say stands there as not recorded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Template

import yaml

from tfwsss.config import Config
from tfwsss.report.table import ScoreTable
from tfwsss.storage.atomic import read_json

from ..engine.context import STRONG_MASKS, USABLE, usable_split
from ..engine.ownership import read_record
from ..stages.order import STAGES
from ..stages.scoring import load_table
from .exported import Exported

# https://huggingface.co/docs/hub/repositories-licenses, those that photos, masks and networks come under; any other is "other" with its name.
_LICENCES = {
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "isc", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl-2.1", "lgpl-3.0", "mpl-2.0", "epl-2.0", "eupl-1.2",
    "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0",
    "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "odbl", "pddl", "unlicense", "wtfpl", "zlib", "bsl-1.0", "osl-3.0",
}  # fmt: skip
UNSPECIFIED = "unspecified"  # the default of `export.licence`
SCRIPT = "segment.py"
PRECISIONS = {"model.onnx": "fp32", "model.fp16.onnx": "fp16", "model.int8.onnx": "int8"}


# Where the network has learnt smaller photos (`data.long_side`).
_SMALLER = Template(
    '''longest = max(*photo.size, $long_side)
small = photo.resize([max(round(side * $long_side / longest), 1) for side in photo.size], Image.Resampling.BILINEAR)
'''
)
_LARGER = "mask = np.asarray(Image.fromarray(mask).resize(photo.size, Image.Resampling.NEAREST))\n"
_SCRIPT = Template(
    '''"""python segment.py photo.jpg mask.png    (pip install numpy onnxruntime pillow)"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

photo = ImageOps.exif_transpose(Image.open(sys.argv[1])).convert("RGB")
${smaller}session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
mask = session.run(["$output"], {"images": np.asarray($seen)[np.newaxis]})[0]$turn[0]  # uint8 [height, width]
$larger
labels = json.load(open("labels.json", encoding="utf-8"))
picture = Image.fromarray(mask)
picture.putpalette(sum(labels["palette"], []))
picture.save(sys.argv[2])
print({labels["id2label"][str(label)]: int((mask == label).sum()) for label in np.unique(mask)})
'''
)


def script(exported: Exported) -> str:
    """The lines of Python that run the ONNX file; in the folder and in the card."""
    output, turn = ("mask", "") if any(tensor.name == "mask" for tensor in exported.outputs) else ("scores", '.argmax(axis=3).astype("uint8")')
    long_side = exported.metadata.get("long_side")
    if long_side is None:
        return _SCRIPT.substitute(output=output, turn=turn, smaller="", seen="photo", larger="")
    return _SCRIPT.substitute(output=output, turn=turn, smaller=_SMALLER.substitute(long_side=long_side), seen="small", larger=_LARGER)


@dataclass(frozen=True)
class Facts:
    """What a run's records say.

    Attributes:
        photos: split -> number of photos that were used; None for a split that the data set has not.
        tagged: class -> number of training photos with its tag.
        masked: number of training photos with a mask that was learnt from.
        scores: of the stage evaluate.
        seconds: stage -> seconds, of the finished stages.
        accuracy: file's precision -> its mIoU on the evaluation photos; empty where there are no masks.
    """

    photos: dict[str, int | None]
    tagged: dict[str, int]
    masked: int
    scores: ScoreTable
    seconds: dict[str, float]
    accuracy: dict[str, float]


def read_facts(config: Config, work: Path) -> Facts:
    """What the records of a finished run say.

    Raises:
        StageError, DataError: a record is missing or damaged.
    """
    train, val = (usable_split(config, work, split) for split in ("train", "val"))
    assert train is not None  # every data set has training photos
    counts = Counter(tag for sample in train.samples for tag in sample.tags)
    records = {stage.name: read_record(stage, work) for stage in STAGES}
    accuracy = (read_json(work / "export/parity.json") or {}).get("accuracy", {"images": 0})
    miou = {"fp32": accuracy["reference"]["miou"], **{name: entry["miou"] for name, entry in accuracy["variants"].items()}} if accuracy["images"] else {}
    return Facts(
        photos={"train": len(train), "val": None if val is None else len(val)},
        tagged={name: counts[index] for index, name in enumerate(train.classes)},
        masked=len((read_json(work / "data" / USABLE) or {}).get(STRONG_MASKS, ())),
        scores=load_table(work),
        seconds={name: record["seconds"] for name, record in records.items() if record.get("finished")},
        accuracy=miou,
    )


def licence_fields(licence: str) -> dict[str, str]:
    """A licence as the front matter names it."""
    if licence == UNSPECIFIED:
        return {"license": "unknown"}
    return {"license": licence.lower()} if licence.lower() in _LICENCES else {"license": "other", "license_name": licence}


def _front_matter(config: Config, facts: Facts, files: Iterable[str]) -> dict:
    fields: dict = {
        **licence_fields(config.export.licence),
        "library_name": "onnx",
        "pipeline_tag": "image-segmentation",
        "tags": ["semantic-segmentation", "onnx", *(["tflite"] if "model.tflite" in files else []), "tfwsss", *([] if _supervised(config) else ["weakly-supervised"])],
    }
    if "fp32" in facts.accuracy and math.isfinite(facts.accuracy["fp32"]):
        result = {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"name": config.name, "type": config.data.format, "split": "val"},
            "metrics": [{"type": "mean_iou", "name": "mIoU of model.onnx", "value": round(facts.accuracy["fp32"], 4)}],
        }
        fields["model-index"] = [{"name": config.serving.model_name, "results": [result]}]
    return fields


def _supervised(config: Config) -> bool:
    return config.segmenter.labels == "masks"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "'")


def _table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    lines = [list(head), *([str(value) for value in row] for row in rows)]
    texts = [f"| {' | '.join(_cell(value) for value in line)} |" for line in lines]
    return "\n".join([texts[0], "|---" * len(lines[0]) + "|", *texts[1:]])


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "not scored"


def _how(config: Config, facts: Facts) -> str:
    if _supervised(config):
        return f"It was trained on the masks of {facts.masked} photos, which were given to learn from."
    learnt = f" Of {facts.masked} photos a mask was given and learnt from, too." if facts.masked else ""
    return (
        "It was trained from tags: for each photo the names of the classes on it, no outlines. Labels of the pixels were made by class activation maps, AffinityNet and a "
        f"random walk (Ahn and Kwak, CVPR 2018), and the network learnt from those.{learnt}"
    )


def _scores(facts: Facts) -> str:
    val = [row for row in facts.scores.rows if row.split == "val"]
    if not val:
        return "Not scored: the run had no evaluation photos with masks."
    files = {name: facts.accuracy[precision] for name, precision in PRECISIONS.items() if precision in facts.accuracy}
    parts = [f"Mean intersection over union (mIoU) over background and classes, on {val[0].images} evaluation photos with masks. Steps beyond `segmenter` are not in the files."]
    parts.append(_table(["", *(row.name for row in val)], [["mIoU", *(_percent(row.miou) for row in val)], *([name, *(_percent(row.per_class.get(name, math.nan)) for row in val)] for name in val[0].per_class)]))
    if files:
        parts.append(_table(["file", "mIoU of the very file"], [[name, _percent(value)] for name, value in files.items()]))
    train = [row for row in facts.scores.rows if row.split == "train"]
    if train:
        parts.append("How good the labels were that it learnt from, on the training photos with masks for scoring:")
        parts.append(_table(["labels", "photos", "mIoU"], [[row.name, row.images, _percent(row.miou)] for row in train]))
    return "\n\n".join(parts)


def _limits(config: Config, facts: Facts, exported: Exported) -> str:
    lines = ["It knows the labels above and nothing else: whatever is of no class counts as background, or is taken for a class."]
    val = [row for row in facts.scores.rows if row.split == "val"]
    weakest = sorted((value, name) for name, value in (val[0].per_class if val else {}).items() if math.isfinite(value))[:1]
    lines += [f"Weakest label on the evaluation photos: {_cell(name)}, {_percent(value)}." for value, name in weakest]
    lines.append("The scores hold for photos like those it was evaluated on. Other cameras, places or seasons were not tried.")
    rare = [name for name, count in facts.tagged.items() if count < 20]
    if rare:
        lines.append(f"Fewer than 20 training photos each: {_cell(', '.join(rare))}.")
    if not _supervised(config):
        lines.append("Outlines come from tags. Things that always occur together (boats and water) may be taken for one.")
    lines.append("Whether groups of people are treated unequally, and how it behaves under attack, was not examined.")
    return "\n".join(f"* {line}" for line in lines)


def _effort(facts: Facts) -> str:
    total = sum(facts.seconds.values())
    rows = [[name, f"{seconds:.0f}"] for name, seconds in facts.seconds.items()]
    return (
        f"{_table(['stage', 'seconds'], [*rows, ['all', f'{total:.0f}']])}\n\n"
        "Of a stage that was interrupted, only the last part counts. Energy: not recorded. CO2 emissions: not recorded. The machine: not recorded."
    )


def _start_weights(config: Config) -> str:
    stages = ("segmenter", "classifier") if config.segmenter.model.weights == "classifier" else ("segmenter",)
    given = {stage: weights for stage in stages if (weights := getattr(config, stage).model.weights) not in (None, "classifier")}
    named = [f"of the {stage} {'those of ImageNet' if weights == 'imagenet' else f'the file {_cell(Path(weights).name)}'}" for stage, weights in given.items()]
    return f"Start weights: {', '.join(named)}; under which licence they are is not recorded." if named else "It started from random weights."


_CARD = Template(
    """---
$front---

# $name

Semantic segmentation: for every pixel of a photo, one of $count labels. Exported by tfwsss $version from the run `$run`.

Licence: $licence

## Labels

$labels

## Run it

    pip install numpy onnxruntime pillow
    python segment.py photo.jpg mask.png

```python
$script```

`images` is uint8 [batch, height, width, 3], RGB, of any size; resizing and normalisation are inside the file.$lite

Files of this export: $files.

## Data

$photos

$tagged

Digest of the training photos and tags: `$digest`. Where the photos come from, who took them and under which licences: not recorded.

## Training

$how

Network: $network. $start

## Scores

$scores

## Limits

$limits

## Time and energy

$effort
"""
)


def model_card(config: Config, facts: Facts, exported: Exported, files: list[str]) -> str:
    """README.md of the folder: YAML front matter and Markdown.

    Args:
        config: of the run.
        facts: its records.
        exported: its ONNX file.
        files: that lie beside the card.
    """
    metadata, size = exported.metadata, config.export.tflite
    evaluated = f"{facts.photos['val']} evaluation photos that training did not see" if facts.photos["val"] else "no evaluation photos"
    lite = f"\n\n`model.tflite` is for LiteRT: one photo of {size[0]}x{size[1]} pixels (height, width) in, uint8 [1, {size[0]}, {size[1]}, 3], its mask out." if size and "model.tflite" in files else ""
    return _CARD.substitute(
        front=yaml.safe_dump(_front_matter(config, facts, files), sort_keys=False, allow_unicode=True, width=200),
        name=config.serving.model_name,
        count=len(metadata["labels"]),
        version=metadata["versions"]["tfwsss"],
        run=_cell(config.name),
        licence="not specified by who trained it." if config.export.licence == UNSPECIFIED else _cell(config.export.licence),
        labels=_table(["label", "name"], enumerate(metadata["labels"])),
        script=script(exported),
        lite=lite,
        files=", ".join(f"`{name}`" for name in (*files, "labels.json", SCRIPT)),
        photos=f"{facts.photos['train']} training photos, {evaluated}.",
        tagged=_table(["class", "training photos with its tag"], facts.tagged.items()),
        digest=metadata["data_digest"],
        how=_how(config, facts),
        network=f"backbone {config.segmenter.model.backbone}, width {config.segmenter.model.width:g}, output stride {config.segmenter.model.output_stride}, head {config.segmenter.head}",
        start=_start_weights(config),
        scores=_scores(facts),
        limits=_limits(config, facts, exported),
        effort=_effort(facts),
    )
