"""``fs simulate`` against ``fs build``: predicted over real time of the same small build, by whole commands.

Two builds of simulated data. ``models`` computes ``onehot``, ``kmer`` and ``plantcaduceus-nano``. ``paced`` has ten shards of
two models that sleep at a set pace, as a process does that waits for its GPU: other work on the machine
changes these times little, so what is seen is whether the shards are played as they are run.
Predictions and builds take turns, and the median of each is taken: on a machine that others use, its
speed in the minute of the prediction is not its speed in the minute of the build. What the machine
itself wavered stands beside, as the slowest over the fastest.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.growth.data import write_simulated

GENES: Final = 100
"""Of each of the two species of the sample; 24 windows each."""
SPECIES: Final = 5
"""Of the paced build: 100 genes each, 4 windows a gene, and so an uneven number of shards."""
CREWS: Final = {"threads": (), "2 workers": ("--workers", "2")}
PACED: Final = '''
import time
import numpy as np
from featurestore.embedders.base import EmbedderSpec

class Paced:
    """Zeros, at a set pace, asleep."""

    def __init__(self, pace: float = 100.0, name: str = "") -> None:
        self.pace = pace
        self.spec = EmbedderSpec("paced", {"embedding": 64}, None, batch=16, parameters={"name": name})

    def load(self, device):
        time.sleep(1.0)

    def embed(self, codes):
        time.sleep(len(codes) / self.pace)
        return {"embedding": np.zeros((len(codes), 64), np.float32)}
'''


@dataclass(frozen=True)
class Case:
    """One build: its data set, its embedders, and what its processes find besides."""

    dataset: Path
    embedders: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)

    def fs(self, *words: str | Path) -> str:
        """Run one command."""
        which = [word for name in self.embedders for word in ("--embedder", name)]
        command = [sys.executable, "-m", "featurestore", *map(str, words), *which]
        environment = {**os.environ, **self.environment}
        return subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=environment
        ).stdout

    def predict(self) -> dict[str, Any]:
        """Outcomes by crew."""
        told = json.loads(self.fs("simulate", self.dataset, "--workers", "threads,2", "--json"))
        return {
            "threads" if o["threads_only"] else f"{o['workers']} workers": o
            for o in told["outcomes"]
        }

    def build(self, store: Path, crew: str) -> float:
        """Seconds."""
        started = time.perf_counter()
        self.fs("build", self.dataset, "--store", store, *CREWS[crew])
        return time.perf_counter() - started


def with_models(folder: Path) -> Case:
    """The sample, with a model that computes."""
    case = Case(folder / "dataset.toml", ())
    case.fs("init", folder, "--genes", str(GENES), "--lines", "0")
    return Case(case.dataset, ("onehot", "kmer", "plantcaduceus-nano"))


def paced(folder: Path) -> Case:
    """Two models that sleep, installed for these commands alone."""
    dataset = write_simulated(folder, 100 * SPECIES, SPECIES)
    text = dataset.read_text()
    for name in ("first", "second"):
        text += f'[embedders.{name}]\ntype = "paced"\nname = "{name}"\n'
    dataset.write_text(text)
    package = folder / "package"
    about = package / "paced-1.dist-info"
    about.mkdir(parents=True)
    (package / "paced.py").write_text(PACED)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: paced\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[meristem.embedders]\npaced = paced:Paced\n")
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    return Case(dataset, ("first", "second"), {"PYTHONPATH": path})


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Predicted over real seconds for each crew, predicted over real bytes and files."""
    figures: dict[str, float] = {}
    for name, make in (("models", with_models), ("paced", paced)):
        with tempfile.TemporaryDirectory() as folder:
            found = compared(make(Path(folder) / "data"), Path(folder) / "store.zarr", repeats)
        figures |= {f"{name}: {key}": value for key, value in found.items()}
    return figures


def compared(case: Case, store: Path, repeats: int) -> dict[str, float]:
    """One case: a prediction before and after each pair of builds."""
    predicted: dict[str, list[float]] = {crew: [] for crew in CREWS}
    real: dict[str, list[float]] = {crew: [] for crew in CREWS}
    sizes: dict[str, float] = {}
    for turn in range(repeats + 1):
        outcomes = case.predict()
        for crew in CREWS:
            predicted[crew].append(outcomes[crew]["seconds"])
        for crew in CREWS if turn < repeats else ():
            real[crew].append(case.build(store, crew))
            files = [p for p in store.rglob("*") if p.is_file()]
            size = sum(p.stat().st_size for p in files)
            sizes = {
                "files, predicted / real": outcomes[crew]["files"] / len(files),
                "bytes with metadata, predicted / real": outcomes[crew]["bytes"] / size,
            }
            shutil.rmtree(store)
    figures: dict[str, float] = {}
    for crew in CREWS:
        told, took = statistics.median(predicted[crew]), statistics.median(real[crew])
        figures |= {
            f"{crew}, seconds predicted": told,
            f"{crew}, seconds it took": took,
            f"{crew}, predicted / real": told / took,
            f"{crew}, slowest / fastest build": max(real[crew]) / min(real[crew]),
            f"{crew}, slowest / fastest prediction": max(predicted[crew]) / min(predicted[crew]),
        }
    return figures | sizes
