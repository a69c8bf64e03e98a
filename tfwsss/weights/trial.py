"""Whether weight files fit the networks that are to begin with them; a program of its own.

    python -P -m tfwsss.weights.trial < TASKS

TASKS: JSON list of {"file": path, "builder": name, "arguments": {name: value}, "whole": whether nothing may be missing}, see
`tfwsss.models.build`. Prints one line of JSON for each: {"trial": what is wrong, "" for nothing}.
"""

from __future__ import annotations

import json
import sys

from tfwsss import models
from tfwsss.errors import TfwsssError
from tfwsss.weights.loading import load_weights


def trial(file: str, builder: str, arguments: dict, whole: bool) -> str:
    """What is wrong with a file as start of a network; "" for nothing."""
    try:
        report = load_weights(models.build({"builder": builder, "arguments": arguments}), file)
    except TfwsssError as error:
        return str(error)
    absent = [*report.missing, *(entry.name for entry in report.wrong_shape)]
    if whole and absent:
        return f"{file}: lacks {len(absent)} arrays of the network, such as {absent[0]}, and with 0 epochs nothing is trained"
    return ""


if __name__ == "__main__":
    for task in json.load(sys.stdin):
        print(json.dumps({"trial": trial(task["file"], task["builder"], task["arguments"], task["whole"])}), flush=True)
