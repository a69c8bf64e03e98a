"""The figures of bench-export: their arithmetic on made-up times, and a short measurement of a real run."""

from __future__ import annotations

import json

import pytest

from tfwsss_pipelines.bench.export import Case, find_artefacts, measure, start_up
from tfwsss_pipelines.bench.table import summary, table


def test_factors_are_medians_of_the_rounds_ratios():
    own, other = [[0.1, 0.1], [0.4, 0.4], [0.1, 0.3]], [[0.2, 0.2], [0.8, 0.8], [5.0, 5.0]]
    found = summary(own, {"other": other, "own": own}, batch=4, flops=10**9, limit=1e11)
    assert found["calls"] == 6
    assert found["p50_ms"] == pytest.approx(200) and found["p99_ms"] == pytest.approx(400, rel=0.01)
    assert found["images_per_second"] == pytest.approx(4 / 0.2)
    assert found["percent_of_limit"] == pytest.approx(100 * 4e9 / 0.2 / 1e11)
    assert found["factor"] == {"other": pytest.approx(2.0), "own": 1.0}  # one busy round does not count


@pytest.mark.slow
def test_every_artefact_of_a_run_is_measured(finished):
    case = Case(2, 33, 47)
    result = measure(finished, [case], threads=1, rounds=2, seconds=0.01, starts=0)
    # As measure does with every artefact, some of which take seconds to start.
    result["start"]["ONNX fp32"] = start_up(find_artefacts(finished)[2], case, "cpu", 1, starts=1)
    assert min(result["start"]["ONNX fp32"].values()) > 0
    (case,) = result["cases"]
    assert list(case["artefacts"]) == ["Keras predict", "SavedModel", "ONNX fp32", "ONNX fp16", "ONNX int8"]
    assert set(result["limit"]["best"]) == {"fp32", "int8"} and min(result["limit"]["best"].values()) > 1e8
    for name, found in case["artefacts"].items():
        assert found["calls"] >= 4 and 0 < found["p50_ms"] <= found["p99_ms"] and found["percent_of_limit"] > 0 and found["cpu_ms"] > 0
        assert found["peak_mb"] < (300 if name.startswith("ONNX") else 3000)  # ONNX Runtime's processes bring no TensorFlow
    assert case["artefacts"]["ONNX fp32"]["factor"]["ONNX fp32"] == 1.0
    assert json.loads(json.dumps(result))["machine"]["threads"] == 1
    assert table(result).count("2 x 33x47") == 5 and "| fresh process |" in table(result)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--work-dir", "nowhere"], "run the stage export first"),
        (["--size", "100"], "expected HEIGHTxWIDTH"),
        (["--device", "tpu"], "expected cpu or cuda"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, cli, arguments, message):
    done = cli(tmp_path, "bench-export", "demo-scenes", *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr
