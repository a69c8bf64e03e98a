"""A whole run on photos that are made smaller as they are read (`data.long_side`)."""

import json

import numpy as np
import onnx
import pytest
import tensorflow as tf
import yaml
from PIL import Image

from tests.pipelines.conftest import TINY
from tfwsss.data.image import read_image, reduced_size, with_nearest
from tfwsss_onnx import Segmenter


@pytest.mark.slow
def test_stages_work_on_smaller_photos_and_masks_have_the_size_of_the_files(tmp_path, cli):
    config = {
        **TINY,
        "data": {**TINY["data"], "long_side": 64, "strong_masks": "exact"},  # of scenes with a side of 96
        **{name: {**TINY[name], "epochs": 1} for name in ("classifier", "affinitynet", "segmenter")},
        "cams": {**TINY["cams"], "long_side": 80},
        "export": {"precisions": ["fp32"]},
        "evaluate": {"scales": [1.0], "crf": None},
    }
    (tmp_path / "large.yaml").write_text(yaml.safe_dump(config))
    done = cli(tmp_path, "run", "large.yaml", "--work-dir", "work")
    assert done.returncode == 0, done.stderr
    work = tmp_path / "work"
    scenes = sorted((work / "scenes/val").glob("*.png"))
    assert max(read_image(scenes[0]).shape) == 96
    for folder in ("affinity_labels", "pseudo_labels", "evaluate/segmenter"):
        labels = [path for path in (work / folder).rglob("*.png")]
        assert labels and all(max(Image.open(path).size) == 64 for path in labels), folder
    with np.load(next((work / "cams").rglob("*.npz")), allow_pickle=False) as cams:
        assert max(cams["size"]) == 64
    described = {entry.key: entry.value for entry in onnx.load(work / "export/model.onnx").metadata_props}
    assert described["long_side"] == "64"
    assert json.loads((work / "export/saved_model/1/assets/metadata.json").read_text())["long_side"] == 64

    done = cli(tmp_path, "predict", *map(str, scenes), "--model", "work/export/model.onnx", "--output", "masks")
    assert done.returncode == 0, done.stdout + done.stderr
    segmenter = Segmenter(work / "export/model.onnx", device="cpu")
    served = tf.saved_model.load(str(work / "export/saved_model/1")).signatures["serving_default"]
    for scene in scenes:
        with Image.open(tmp_path / f"masks/{scene.stem}.png") as picture:
            mask = np.asarray(picture)
        assert mask.shape == read_image(scene).shape[:2]
        np.testing.assert_array_equal(mask, segmenter(scene))
        small = with_nearest(mask, reduced_size(*mask.shape, 64))
        np.testing.assert_array_equal(with_nearest(small, mask.shape), mask)  # as fine as what the network sees
        in_graph = served(images=tf.constant(read_image(scene)[np.newaxis]))["mask"].numpy()[0]
        assert (in_graph == mask).mean() > 0.97  # single grey values differ by one
