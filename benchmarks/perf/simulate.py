"""``fs simulate`` against ``fs build``: predicted over real time of the same small build, by whole commands.

The data set is simulated (``fs init``), the models are ``onehot``, ``kmer`` and ``plantcaduceus-nano``. Predictions and
builds take turns, and the median of each is taken: on a machine that others use, its speed in the
minute of the prediction is not its speed in the minute of the build. What the machine itself wavered
stands beside, as the slowest over the fastest build.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

GENES: Final = 100
"""Of each of the two species of the sample; 24 windows each."""
EMBEDDERS: Final = ("onehot", "kmer", "plantcaduceus-nano")
CREWS: Final = {"threads": (), "2 workers": ("--workers", "2")}
NAMES: Final = {"threads": "threads", "2 workers": "2"}


def _fs(*words: str | Path) -> str:
    command = [sys.executable, "-m", "featurestore", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _predict(dataset: Path, which: tuple[str, ...]) -> dict[str, Any]:
    """Seconds by crew, bytes and files."""
    crews = ",".join(NAMES.values())
    told = json.loads(_fs("simulate", dataset, *which, "--workers", crews, "--json"))
    return {
        ("threads" if o["threads_only"] else f"{o['workers']} workers"): o for o in told["outcomes"]
    }


def _build(dataset: Path, store: Path, which: tuple[str, ...], crew: str) -> float:
    started = time.perf_counter()
    _fs("build", dataset, "--store", store, *which, *CREWS[crew])
    return time.perf_counter() - started


def _stored(store: Path) -> tuple[int, int]:
    """Files, and bytes of those that the manifest gives to a shard."""
    files = [p for p in store.rglob("*") if p.is_file()]
    return len(files), sum(p.stat().st_size for p in files)


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Predicted over real seconds for each crew, predicted over real bytes and files."""
    which = tuple(word for name in EMBEDDERS for word in ("--embedder", name))
    predicted: dict[str, list[float]] = {crew: [] for crew in CREWS}
    real: dict[str, list[float]] = {crew: [] for crew in CREWS}
    sizes: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _fs("init", folder / "sample", "--genes", str(GENES), "--lines", "0")
        dataset = folder / "sample" / "dataset.toml"
        for turn in range(repeats + 1):
            outcomes = _predict(dataset, which)
            for crew in CREWS:
                predicted[crew].append(outcomes[crew]["seconds"])
            if turn == repeats:
                break  # a prediction before and after each build
            for crew in CREWS:
                store = folder / "store.zarr"
                real[crew].append(_build(dataset, store, which, crew))
                files, size = _stored(store)
                sizes = {
                    "files, predicted / real": outcomes[crew]["files"] / files,
                    "bytes with metadata, predicted / real": outcomes[crew]["bytes"] / size,
                }
                shutil.rmtree(store)
    return _figures(predicted, real) | sizes


def _figures(predicted: dict[str, list[float]], real: dict[str, list[float]]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for crew in CREWS:
        told, took = statistics.median(predicted[crew]), statistics.median(real[crew])
        figures |= {
            f"{crew}: seconds predicted": told,
            f"{crew}: seconds it took": took,
            f"{crew}: predicted / real": told / took,
            f"{crew}: slowest / fastest build": max(real[crew]) / min(real[crew]),
            f"{crew}: slowest / fastest prediction": max(predicted[crew]) / min(predicted[crew]),
        }
    return figures
