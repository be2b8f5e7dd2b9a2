"""How much memory imputing 60,000 genes × 54 tissues × 20 genotypes takes: preparing, folds, completing."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

GENES, TISSUES, GENOTYPES = 60_000, 54, 20
_PIECE: Final = 1000


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Peak memory and seconds in a process of its own, on simulated values on disk."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.perf.genotypes", folder]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
    name = f"{GENES:,} genes x {TISSUES} tissues x {GENOTYPES} genotypes"
    figures = (line.rpartition(" ") for line in done.stdout.splitlines())
    return {f"{name}: {what}": float(value) for what, _, value in figures}


class _OnDisk:
    """Stands for the stored array: a memory map of simulated values, read by row."""

    def __init__(self, path: Path) -> None:
        self._map: Any = np.memmap(path, np.float32, "r", shape=(GENES, TISSUES * GENOTYPES))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        return np.array(self._map[rows])


class _Store:
    """As much of a store as the task asks for."""

    path = "simulated"

    def __init__(self, path: Path) -> None:
        samples = [(g, t) for g in range(GENOTYPES) for t in range(TISSUES)]
        self._view = SimpleNamespace(
            unit="TPM", sample=np.array([f"s{i}" for i in range(len(samples))]),
            tissue=np.array([f"tissue{t}" for _, t in samples]),
            genotype=np.array([f"line{g}" for g, _ in samples]),
        )  # fmt: skip
        self._genes = SimpleNamespace(gene=np.array([f"g{i:05d}" for i in range(GENES)]))
        self._array = _OnDisk(path)

    def expression(self, species: str) -> Any:
        return self._view

    def genes(self, species: str) -> Any:
        return self._genes

    def stored(self, species: str, path: str) -> Any:
        return self._array

    def notes(self, species: str) -> list[str]:
        return []


def _write(path: Path) -> None:
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for _ in range(GENES // _PIECE):
            level = rng.normal(3, 2, (_PIECE, 1))
            log = np.maximum(level + rng.normal(0, 1, (_PIECE, TISSUES * GENOTYPES)), 0)
            file.write((np.exp2(log) - 1).astype("<f4").tobytes())


def _main(folder: Path) -> None:
    from benchmarks.imputation.masks import DEFAULT
    from benchmarks.imputation.prepare import make_problem
    from benchmarks.imputation.setting import Setting
    from benchmarks.imputation.views import learning_views, test_views
    from benchmarks.inputs.genes import with_families
    from benchmarks.runs.identity import PeakMemory
    from benchmarks.splits.artefact import AlignedSplit, make_split

    _write(folder / "values")
    store, place = _Store(folder / "values"), np.arange(GENES)
    genes = with_families(pd.DataFrame({
        "gene": store.genes("").gene.astype(object), "species": "simulated", "family": "",
        "locus": "", "contig": [f"chr{i}" for i in place // 6000], "strand": 1,
        "tss": place * 5000, "tts": place * 5000 + 2000, "fold": "",
    }))  # fmt: skip
    steps: dict[str, Any] = {}

    def prepare() -> None:
        steps["problem"] = make_problem(store, ["simulated"], genes, DEFAULT)

    def masks() -> None:
        problem = steps["problem"]
        aligned = AlignedSplit(make_split(genes), genes, 0, problem.scored)
        steps["setting"] = Setting(problem, aligned, 0)
        _ = [mask.digest for mask in steps["setting"].artefacts.values()]

    def folds() -> None:
        setting = steps["setting"]
        for fold in (0, 1020, 2000):
            learning_views(setting, fold)
            test_views(setting, fold)

    def stream() -> None:
        values = steps["problem"].values
        for start in range(0, GENES, 1024):
            values.every(np.arange(start, min(start + 1024, GENES)))

    for name, step in (
        ("preparing", prepare), ("masks and digests", masks), ("three folds", folds),
        ("all genotypes once", stream),
    ):  # fmt: skip
        start = time.perf_counter()
        with PeakMemory() as peak:
            step()
        print(f"{name}, seconds {time.perf_counter() - start:.1f}")
        print(f"{name}, peak MiB {peak.bytes / 2**20:.0f}")
    print(
        f"one table of all genotypes in float64, MiB {GENES * TISSUES * GENOTYPES * 8 / 2**20:.0f}"
    )


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
