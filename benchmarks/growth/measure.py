"""Runs whole commands in processes of their own: seconds, processor seconds, peak memory."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.growth.data import write_simulated

OPEN: Final = "import time, sys; t = time.perf_counter(); import featurestore; s = featurestore.open(sys.argv[1]); s.species; print(time.perf_counter() - t)"
LEARNERS: Final = ("species_mean", "family_mean")
"""Learners that cost next to nothing: what grows is the benchmark around them."""


@dataclass(frozen=True)
class Cost:
    """What one command took."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def run(*words: str | Path) -> Cost:
    """Run ``python words…`` to its end.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails; what it said stands in the message.
    """
    command = [sys.executable, *map(str, words)]
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=said.decode())
    seconds = time.perf_counter() - started
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def opening(store: Path) -> Cost:
    """Import and open, as a user's script does; interpreter start not counted."""
    best = [
        float(
            subprocess.run(
                [sys.executable, "-c", OPEN, str(store)], capture_output=True, check=True, text=True
            ).stdout
        )
        for _ in range(3)
    ]
    cost = run("-c", OPEN, store)
    return Cost(sorted(best)[1], cost.cpu_seconds, cost.peak_bytes)


def steps(folder: Path, genes: int, species: int) -> dict[str, Cost]:
    """Every step for one size: build, build again, open, query, split, run, compare, report.

    ``folder`` is emptied first and removed afterwards.
    """
    shutil.rmtree(folder, ignore_errors=True)
    dataset = write_simulated(folder, genes, species)
    store, runs = folder / "store.zarr", folder / "runs"
    fs, bench = ("-m", "featurestore"), ("-m", "benchmarks")
    gene = "simulated_00_0000001"
    cost = {
        "build": run(*fs, "build", dataset, "--store", store),
        "build again": run(*fs, "build", dataset, "--store", store),
        "verify": run(*fs, "verify", store),
        "open": opening(store),
        "query": sorted(
            (run(*fs, "query", store, "--gene", gene, "--embedder", "kmer") for _ in range(3)),
            key=lambda c: c.seconds,
        )[1],
        "split": run(*bench, "split", "--store", store, "--out", folder / "split.parquet"),
    }
    learners = [word for name in LEARNERS for word in ("--learner", name)]
    cost["run"] = run(
        *bench, "run", "--store", store, *learners, "--seeds", "2", "--bootstrap", "100",
        "--features", "kmer", "--out", runs,
    )  # fmt: skip
    cost["compare"] = run(*bench, "compare", runs, "--bootstrap", "100")
    cost["report"] = run(*bench, "report", runs, "--out", folder / "report.html")
    shutil.rmtree(folder)
    return cost
