"""Walks of other lengths and sharpness on a finished run's CAMs and affinities: what they score, and how much of the tags they keep.

    python benchmarks/walk_length.py CONFIG --work-dir RUN --photos 80

Before any CRF. "walk" is the label of the walked maps on all pixels, "label" what both votes agree on (docs/labels.md), on its own pixels;
"kept" is the part of the tags that is still in the first of them, mean over the classes, which is known without masks.
"""

from __future__ import annotations

import argparse
import itertools
from functools import partial
from pathlib import Path

import numpy as np

from tfwsss.config.files import load_config
from tfwsss.data import load_split
from tfwsss.metrics import ConfusionMatrix
from tfwsss.pseudolabel import from_grid, label_of_scores
from tfwsss.randomwalk import random_walk
from tfwsss.stencil import pair_affinity
from tfwsss.storage.artifacts import IGNORE
from tfwsss.tag_consistency import agreed_label, mean_kept, normalized, vanished
from tfwsss.training.loop import make_deterministic
from tfwsss_pipelines.engine.context import Context, NoRun
from tfwsss_pipelines.executors.timing import Timing
from tfwsss_pipelines.labelling.photos import device_names
from tfwsss_pipelines.labelling.walk import BORDER, walk_work
from tfwsss_pipelines.stages.affinity_labels import used_alphas

BETAS, STEPS = (4.0, 8.0, 16.0), (4, 16, 64, 256, 1024)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="as of tfwsss run")
    parser.add_argument("--work-dir", type=Path, required=True, help="of a run that has come to AffinityNet")
    parser.add_argument("--photos", type=int, default=80, help="with tags and masks, evenly from all (default: %(default)s)")
    arguments = parser.parse_args()
    config, work = load_config(arguments.config, arguments.set), arguments.work_dir
    make_deterministic(config.seed)
    dataset = load_split(config.data, "train", work)
    share, labels = config.pseudo_labels.smallest_share, dataset.num_classes + 1
    tagged = [sample for sample in dataset.samples if sample.tags and dataset.mask(sample) is not None]
    chosen = [tagged[int(index)] for index in np.linspace(0, len(tagged) - 1, min(arguments.photos, len(tagged)))]
    context = Context(config, work, NoRun())
    steps_of_stage = walk_work(context, dataset, work / "cams", work / "walk", (used_alphas(work).walk,), Timing())
    assert steps_of_stage.on_device is not None
    compute = steps_of_stage.on_device(device_names(config.runtime)[0])
    radius, border = config.affinitynet.radius, BORDER[config.switches.border_pairs]
    walk = partial(random_walk, radius=radius, border=border, method=config.pseudo_labels.method, tolerance=config.pseudo_labels.tolerance)
    grid = list(itertools.product(BETAS, STEPS))
    walks, agreed = ({each: ConfusionMatrix(labels) for each in grid} for _ in range(2))
    lost: dict[tuple[float, int], list] = {each: [] for each in grid}
    for sample in chosen:
        mask = dataset.mask(sample)
        assert mask is not None
        [(photo, found)] = compute([steps_of_stage.read(sample)])
        affinity = pair_affinity(found, radius, border)[None] if isinstance(found, np.ndarray) else found
        channels = photo.channels.transpose(1, 2, 0)[None]
        for beta, steps in grid:
            walked = walk(affinity, channels, beta=beta, steps=steps)[0].numpy().transpose(2, 0, 1)
            plain, normalised = (label_of_scores(photo.classes, from_grid(scores, *mask.shape)) for scores in (walked, normalized(walked)))
            walks[beta, steps].update(mask, plain)
            lost[beta, steps].append((sample.tags, vanished(plain, sample.tags, share)))
            label = agreed_label(plain, normalised, sample.tags, share)
            agreed[beta, steps].update(np.where(label == IGNORE, IGNORE, mask), np.where(label == IGNORE, 0, label))
    print(f"{len(chosen)} photos\n\n| beta | steps | walk | label | kept, % |\n|---|---|---|---|---|")
    for each in grid:
        print(f"| {each[0]:g} | {each[1]} | {100 * walks[each].miou():.1f} | {100 * agreed[each].miou():.1f} | {100 * mean_kept(lost[each]):.0f} |")


if __name__ == "__main__":
    main()
