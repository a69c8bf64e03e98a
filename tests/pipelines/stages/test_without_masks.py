"""What most users have: photos and tags, and nobody's masks."""

import csv
import re
import shutil

import pytest
import yaml

from tests.pipelines.conftest import TINY


@pytest.mark.slow
def test_photos_and_tags_alone_become_a_model(finished, tmp_path, cli):
    scenes, root = finished / "scenes", tmp_path / "photos"
    shutil.copytree(scenes / "train", root)
    with (scenes / "train.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    (root / "tags.csv").write_text("".join(f"{image.rpartition('/')[2]},{tags}\n" for image, tags in rows))
    training = {name: {**TINY[name], "epochs": 1} for name in ("classifier", "affinitynet", "segmenter")}
    data = {"format": "folder", "root": str(root), "val_fraction": 0.3}
    config = {**TINY, **training, "data": data, "evaluate": {"scales": [1.0]}, "export": {"precisions": ["fp32", "fp16"]}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(config))
    done = cli(tmp_path, "run", "mine.yaml", "--work-dir", "work")
    assert done.returncode == 0, done.stderr
    said = "".join(line for line in (done.stdout + done.stderr).splitlines(keepends=True) if "alembic" not in line)
    assert "no masks for the training photos: CAMs, walk and pseudo labels are not scored" in said
    assert "the accuracy of fp16 and int8 is not checked" in said
    assert "mIoU" not in done.stdout and not re.search(r"\bnan\b", said, re.IGNORECASE)
    work = tmp_path / "work"
    assert (work / "export/model.onnx").is_file() and len(list((work / "pseudo_labels").glob("**/*.png"))) > 0
    text = re.sub(r"<[^>]*>", " ", (work / "report/index.html").read_text())
    assert not re.search(r"\bnan\b", text, re.IGNORECASE)
