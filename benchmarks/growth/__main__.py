"""``python -m benchmarks.growth``: time and memory of every step, and how steeply they grow.

The exponent is that of the best fit of ``fixed + slope · size^exponent`` to processor seconds and to
peak memory: 1 is linear, less is better. Data are simulated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import nnls

from benchmarks.growth.measure import Cost, steps


def exponent(sizes: list[int], values: list[float]) -> float:
    """Exponent p of the best fit of ``fixed + slope · size^p``; NaN where nothing grows by half.

    Every p of a grid gets its best non-negative fixed cost and slope, in relative error: what every
    size pays alike does not hide how the rest grows.
    """
    if len(sizes) < 3 or max(values) < 1.5 * min(values):
        return float("nan")
    n, y = np.array(sizes, float) / min(sizes), np.array(values)
    best = (np.inf, float("nan"))
    for p in np.arange(0.05, 2.01, 0.01):
        _, error = nnls(np.stack([1 / y, n**p / y], axis=1), np.ones(len(y)))
        best = min(best, (error, float(p)))
    return best[1]


def table(label: str, sizes: list[int], costs: list[dict[str, Cost]]) -> str:
    """Markdown: seconds and peak memory by step and size, and the exponents."""
    head = f"| step | {' | '.join(f'{n:,}' for n in sizes)} | exponent of time, memory |"
    lines = [f"| {label} →{head[6:]}", "|---" * (len(sizes) + 2) + "|"]
    for step in costs[0]:
        cells = [f"{c[step].seconds:.2f} s, {c[step].peak_bytes / 1e6:,.0f} MB" for c in costs]
        slopes = [
            exponent(sizes, [c[step].cpu_seconds for c in costs]),
            exponent(sizes, [float(c[step].peak_bytes) for c in costs]),
        ]
        told = ", ".join("flat" if np.isnan(s) else f"{s:.2f}" for s in slopes)
        lines.append(f"| {step} | {' | '.join(cells)} | {told} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all sizes and print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__)
    parser.add_argument("--genes", type=int, nargs="*", default=[1_000, 10_000, 100_000, 1_000_000])
    parser.add_argument("--species", type=int, nargs="*", default=[1, 5, 17, 50])
    parser.add_argument("--genes-of-species", type=int, default=50_000, help="genes in all, there")
    parser.add_argument("--work", type=Path, help="where to work; default a temporary folder")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=options.work) as folder:
        for label, sizes in (("genes", options.genes), ("species", options.species)):
            costs = []
            for size in sizes:
                of = (size, 1) if label == "genes" else (options.genes_of_species, size)
                costs.append(steps(Path(folder) / "work", *of))
                print(f"{label} {size:,}: build {costs[-1]['build'].seconds:.1f} s", flush=True)
            if sizes:
                print("\n" + table(label, sizes, costs) + "\n", flush=True)
                figures[label] = {
                    str(n): {k: asdict(v) for k, v in c.items()}
                    for n, c in zip(sizes, costs, strict=True)
                }
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
