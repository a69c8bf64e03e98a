"""What `tfwsss bench-export` says about its measurements: figures per artefact, and a table of them."""

from __future__ import annotations

import statistics

import numpy as np


def summary(rounds: list[list[float]], references: dict[str, list[list[float]]], *, batch: int, flops: int, limit: float) -> dict:
    """Figures of one artefact on one case.

    Args:
        rounds: per round the seconds of each call.
        references: the same of artefacts to compare with; a factor is the median of the rounds' ratios.
        flops: operations of one photo.
        limit: operations per second of the machine.
    """
    calls = [seconds for found in rounds for seconds in found]
    middle = statistics.median(calls)
    medians = [statistics.median(found) for found in rounds]
    factors = {
        name: statistics.median(statistics.median(other) / own for other, own in zip(reference, medians, strict=True)) for name, reference in references.items()
    }
    return {
        "calls": len(calls),
        "p50_ms": 1e3 * middle,
        "p99_ms": 1e3 * float(np.quantile(calls, 0.99)),
        "images_per_second": batch / middle,
        "percent_of_limit": 100 * flops * batch / middle / limit,
        "factor": factors,
    }


def table(result: dict) -> str:
    """The figures as Markdown."""
    machine, best = result["machine"], result["limit"]["best"]
    limits = ", ".join(f"{precision} {value / 1e9:.0f} GFLOP/s" for precision, value in best.items())
    lines = [
        f"{machine.get('gpu') or machine['cpu']}, {machine['threads']} threads, load average before {machine['load_average']['before'][0]:.1f}; limit (matrix products): {limits}",
        "",
        "| photos | artefact | p50 ms | p99 ms | CPU ms | photos/s | x Keras | x ONNX fp32 | peak MiB | % of limit |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for case in result["cases"]:
        for name, found in case["artefacts"].items():
            factors = " | ".join(f"{found['factor'][other]:.2f}" for other in ("Keras predict", "ONNX fp32"))
            lines.append(
                f"| {case['batch']} x {case['height']}x{case['width']} | {name} | {found['p50_ms']:.1f} | {found['p99_ms']:.1f} | {found['cpu_ms']:.1f} | "
                f"{found['images_per_second']:.1f} | {factors} | {found['peak_mb']:.0f} | {found['percent_of_limit']:.0f} |"
            )
    if result["start"]:
        lines += ["", "| fresh process | first request ms | first after warm-up ms | steady p50 ms | after warm-up / steady |", "|---|---|---|---|---|"]
        for name, found in result["start"].items():
            lines.append(f"| {name} | {1e3 * found['first']:.0f} | {1e3 * found['first_warmed']:.1f} | {1e3 * found['steady']:.1f} | {found['warmed_to_steady']:.2f} |")
    return "\n".join(lines)
