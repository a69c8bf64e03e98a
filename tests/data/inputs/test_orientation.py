"""Photos that have no up: every training turns them, and their labels with them."""

import dataclasses

import numpy as np
import pytest


@pytest.mark.parametrize("augmentation", [{}, {"rotate": 10.0, "sharpness": 0.5}])
@pytest.mark.parametrize("pipeline", ["classifier", "affinity", "segmenter"])
def test_photos_are_turned_with_their_labels_and_nothing_else_changes(photos, pipeline, augmentation):
    turnable = dataclasses.replace(photos, dataset=dataclasses.replace(photos.dataset, orientation="any"))
    turns = set()
    for epoch in range(3):
        upright, turned = (one.collect(pipeline, batch_size=7, epoch=epoch, augmentation=augmentation) for one in (photos, turnable))
        for row in range(len(upright["image"])):
            fits = [turn for turn in range(4) if np.array_equal(np.rot90(upright["image"][row], turn), turned["image"][row])]
            assert fits
            turns |= set(fits)
            for name in upright.keys() - {"image", "label"}:
                np.testing.assert_array_equal(turned[name][row], upright[name][row])
            if "label" in upright:
                assert any(np.array_equal(np.rot90(upright["label"][row], turn), turned["label"][row]) for turn in fits)
    assert turns == {0, 1, 2, 3}
