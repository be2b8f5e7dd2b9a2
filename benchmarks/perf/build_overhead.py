"""What a build costs on top of a model as fast as 400 MB of vectors a second, on one worker.

The model is simulated: it sleeps as long as such a model would compute and hands out vectors of a
buffer; genome and genes are random. Everything else is the build itself: windows, digests,
shards, markers. Bare model time is the same calls with nothing between them, taken in turn.

What lies before the first call (windows of the first shard) and after the last (writing of the last
shard) is paid once a build; what lies between is paid per shard. Needs a machine with nothing else
to do, memory to write to in ``TMPDIR`` or a disk that keeps up with the rate.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec

RATE: Final = 400e6
"""Bytes of float16 vectors a second."""
CHANNELS: Final = 768
BATCH: Final = 1024
GENES: Final = 40_960
BIN: Final = 250
_BUFFER: Final = 64 * BATCH
_SECONDS_A_WINDOW: Final = CHANNELS * 2 / RATE


class SleepingModel:
    """Simulated: sleeps at a fixed rate and returns vectors that were drawn beforehand."""

    slept = 0.0
    first = last = 0.0

    def __init__(self) -> None:
        self.spec = EmbedderSpec(
            type="simulated", outputs={"embedding": CHANNELS}, input_bp=512, batch=BATCH,
            checkpoint="simulated",
        )  # fmt: skip
        rng = np.random.default_rng(0)
        self._vectors = rng.standard_normal((_BUFFER, CHANNELS), np.float32).astype(np.float16)
        self._at = 0

    pads_itself = True  # a short batch takes its share of the time

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Sleep as long as the model would compute."""
        began = time.perf_counter()
        type(self).first = type(self).first or began
        time.sleep(len(codes) * _SECONDS_A_WINDOW)
        # Another part of the buffer each time: fresh results are in no cache.
        self._at = (self._at + BATCH) % _BUFFER
        out = self._vectors[self._at : self._at + len(codes)]
        type(self).last = time.perf_counter()
        type(self).slept += type(self).last - began
        return {"embedding": out}


def simulated_species(genes: int) -> Any:
    """A random genome with genes far enough apart that hardly any two share a window."""
    from featurestore.inputs.model import Genome, Region, SpeciesData

    rng = np.random.default_rng(1)
    spacing, contigs = 12_000, 16
    each = genes // contigs
    length = (each + 4) * spacing
    code = rng.integers(0, 4, contigs * length, dtype=np.uint8)
    names = [f"g{i}" for i in range(genes)]
    contig = np.repeat(np.arange(contigs), each)
    tss = np.tile((np.arange(each) + 2) * spacing, contigs).astype(np.int64)
    strand = rng.choice(np.array([1, -1], np.int8), genes)
    return SpeciesData(
        name="simulated", kind="genome", gene=names, locus=names,
        contig=[f"c{c}" for c in contig], strand=strand, tss=tss, tts=tss + strand.astype(np.int64) * 1590,
        family=[""] * genes,
        regions=(Region("promoter", "tss", 4000, 1000), Region("terminator", "tts", 1000, 4000)),
        genome=Genome(
            [f"c{c}" for c in range(contigs)], np.arange(contigs, dtype=np.int64) * length,
            np.full(contigs, length, np.int64), code,
        ),
        expression=None, input_digest={"genome": "0" * 64},
    )  # fmt: skip


@contextmanager
def as_embedder(cls: type[Any]) -> Iterator[None]:
    """Let every embedder type be this class, in this process."""
    from featurestore.build.shards import tasks
    from featurestore.embedders import registry

    original = registry.embedder_class
    registry.embedder_class = lambda _: cls  # type: ignore[assignment] # for this one build
    tasks._embedder.cache_clear()
    try:
        yield
    finally:
        registry.embedder_class = original
        tasks._embedder.cache_clear()


def planned(folder: Path, genes: int) -> Any:
    """A work area with windows and plan of the simulated species; (work area, plan)."""
    from featurestore.build.planning.group_plan import BuildPlan
    from featurestore.build.planning.plan import plan_species
    from featurestore.build.windows.laid_down import lay_down_species
    from featurestore.build.work_area import WorkArea

    work = WorkArea(folder / "store.zarr.build")
    work.root.mkdir()
    data = lay_down_species(work.inputs("simulated"), simulated_species(genes), BIN)
    species = plan_species(data, work.inputs("simulated"), {"simulated": {}}, BIN)
    plan = BuildPlan("", BIN, (species,))
    plan.save(work.plan)
    return work, plan


def shards_pass(work: Any, plan: Any, *, inline: bool) -> dict[str, float]:
    """Make every shard of the embedder; wall time, time slept, and time between first and last call."""
    from featurestore.build.workers.execute import Threads, run_jobs
    from featurestore.build.workers.jobs import shard_job

    shutil.rmtree(work.store, ignore_errors=True)
    shutil.rmtree(work.root / "done", ignore_errors=True)
    jobs = [shard_job(plan, t) for t in plan.tasks() if t.group == "simulated"]
    SleepingModel.slept = SleepingModel.first = SleepingModel.last = 0.0
    backend = Threads(work, "cpu", jobs, at_once=1)
    backend.in_flight(1 if inline else 2)
    began = time.perf_counter()
    reports = run_jobs(backend, jobs)
    wall = time.perf_counter() - began
    backend.close(hurry=False)
    if bad := [r for r in reports if "error" in r]:
        raise RuntimeError(bad[0]["error"])
    return {
        "wall": wall, "slept": SleepingModel.slept,
        "from first to last call": SleepingModel.last - SleepingModel.first,
    }  # fmt: skip


def bare(model: SleepingModel, windows: int, shards: int) -> float:
    """Seconds of the same calls with nothing between them."""
    codes = np.zeros((BATCH, 512), np.uint8)
    began = time.perf_counter()
    for _ in range(shards):
        for start in range(0, windows // shards, BATCH):
            model.embed(codes[: min(BATCH, windows // shards - start)])
    return time.perf_counter() - began


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Wall time of the shards over bare model time, with writing beside the model and in turn with it."""
    found: dict[str, list[float]] = {}

    def note(name: str, value: float) -> None:
        found.setdefault(name, []).append(value)

    with tempfile.TemporaryDirectory() as name, as_embedder(SleepingModel):
        work, plan = planned(Path(name), GENES)
        group = plan.species[0].group("simulated")
        windows = GENES * 2 * 20
        model = SleepingModel()
        shards_pass(work, plan, inline=False)  # files and code warm
        for _ in range(repeats):
            alone = bare(model, windows, group.shards)
            for inline in (False, True):
                got = shards_pass(work, plan, inline=inline)
                how = "written in turn" if inline else "written beside the model"
                span = got["from first to last call"]
                note(f"{how}: wall / bare model - 1, %", 100 * (got["wall"] / alone - 1))
                note(f"{how}: first to last call / bare model - 1, %", 100 * (span / alone - 1))
                note(f"{how}: first to last call / time slept - 1, %", 100 * (span / got["slept"] - 1))  # fmt: skip
                note(f"{how}: before the first and after the last call, s", got["wall"] - span)
    facts = {
        "shards": float(group.shards),
        "MB of vectors": windows * CHANNELS * 2 / 1e6,
        "MB/s of the simulated model, bare": windows * CHANNELS * 2 / 1e6 / alone,
    }
    figures = facts | {name: statistics.median(values) for name, values in found.items()}
    return {f"build overhead (simulated model): {k}": v for k, v in figures.items()}
