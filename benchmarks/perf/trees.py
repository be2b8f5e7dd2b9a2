"""Boosted trees read from a store, against the libraries called directly on the same values in memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.perf.trees_data import write_generated

GENES: Final = 24_000
CHANNELS: Final = 48
BINS: Final = 20
ROUNDS: Final = 60


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Time and memory of whole fits: search, early stopping, refit on both; each in its own process.

    24,000 simulated genes × 1,920 float16 features (92 MB), 60 rounds, the learner's defaults. The
    reference makes the same data sets, trains the same boosters with the library's own calls, on a
    float16 array that is in memory beforehand and not counted. Memory is the peak of what is
    anonymous beyond what there was before the fit; mapped files of the store are not in it. Processor
    time stands beside the time of the clock, which other users of a machine lengthen.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = write_generated(Path(folder), GENES, channels=CHANNELS, bins=BINS)
        figures: dict[str, float] = {}
        for learner in ("xgboost", "lightgbm"):
            figures |= _compared(store, learner, min(repeats, 3))
        return figures


def _compared(store: Path, learner: str, repeats: int) -> dict[str, float]:
    runs: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for turn in range(repeats):
        for direct in (False, True) if turn % 2 else (True, False):
            runs[direct].append(fit(store, learner, direct=direct))
    own, reference = runs[False], runs[True]

    def ratio(what: str) -> float:
        return statistics.median(
            float(a[what]) / float(b[what]) for a, b in zip(own, reference, strict=True)
        )

    return {
        f"{learner}: memory of the fit, MB": own[0]["anonymous"] / 1e6,
        f"{learner}: memory of the library alone, MB": reference[0]["anonymous"] / 1e6,
        f"{learner}: memory, of the library alone": ratio("anonymous"),
        f"{learner}: time, of the library alone": ratio("seconds"),
        f"{learner}: processor time, of the library alone": ratio("processor_seconds"),
        f"{learner}: R2 less that of the library": own[0]["r2"] - reference[0]["r2"],
    }


def fit(store: Path, learner: str, *, direct: bool) -> dict[str, Any]:
    """What :mod:`benchmarks.perf.trees_fit` prints."""
    command = [sys.executable, "-m", "benchmarks.perf.trees_fit", str(store), learner]
    command += ["--rounds", str(ROUNDS), *(["--library"] if direct else [])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found
