"""``python -m benchmarks.perf [SECTION …]``: prints every speed figure of the project.

Ratios are taken within one run, against a reference measured in turn with it, because the
machine's speed drifts; absolute times stand beside them for orientation only.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Final

SECTIONS: Final = {
    "store": "benchmarks.perf.store",
    "commands": "benchmarks.perf.commands",
    "plantcaduceus": "benchmarks.perf.plantcaduceus",
    "plantcaduceus_cuda": "benchmarks.perf.plantcaduceus_cuda",
    "a2z": "benchmarks.perf.a2z",
    "model_build": "benchmarks.perf.model_build",
    "simulate": "benchmarks.perf.simulate",
    "build_overhead": "benchmarks.perf.build_overhead",
    "loader": "benchmarks.perf.loader",
    "export": "benchmarks.perf.export",
    "long_windows": "benchmarks.perf.long_windows",
    "enformer": "benchmarks.perf.enformer",
    "trees": "benchmarks.perf.trees",
    "imputation": "benchmarks.perf.imputation",
    "genotypes": "benchmarks.perf.genotypes",
    "variant_tracks": "benchmarks.perf.variant_tracks",
}
"""Each module has ``measure(data, repeats)``, which gives figures by name; some also take ``size``."""


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf", description=__doc__)
    parser.add_argument("section", nargs="*", help=f"of {', '.join(SECTIONS)}; default all")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--size", choices=("full", "quick"), default="full", help="of the arrays of 'store'"
    )
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    if unknown := set(options.section) - set(SECTIONS):
        parser.error(f"no section {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}")
    figures: dict[str, float] = {}
    for name in options.section or SECTIONS:
        print(f"# {name}", flush=True)
        measure = import_module(SECTIONS[name]).measure
        sized = "size" in signature(measure).parameters
        found = measure(options.data, options.repeats, **({"size": options.size} if sized else {}))
        for figure, value in found.items():
            print(f"{figure:<72} {value:>10.3f}", flush=True)
        figures |= found
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
