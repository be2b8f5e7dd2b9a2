"""``python -m benchmarks.perf``: prints every speed figure of the project.

Ratios are taken within one run, against a reference measured in turn with it, because the
machine's speed drifts; absolute times stand beside them for orientation only.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.perf.commands import measure_commands
from benchmarks.perf.shards import measure_shards


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="real data")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    figures = measure_shards(options.repeats) | measure_commands(options.data, options.repeats)
    for name, value in figures.items():
        print(f"{name:<64} {value:>10.3f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
