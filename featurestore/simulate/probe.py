"""The workload of a data set, and the rates of this machine at it: what ``fs simulate DATASET`` measures."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np

from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.planning.prepare import make_plan, read_species
from featurestore.build.planning.request import resolve
from featurestore.build.reuse.existing import readable_manifest
from featurestore.build.reuse.shared import find_shared
from featurestore.build.sealing.metadata import consolidate, write_metadata
from featurestore.build.windows.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.build.workers.execute import on_gpu
from featurestore.build.workers.jobs import cores
from featurestore.embedders.registry import make_embedder
from featurestore.inputs.dataset import load_config
from featurestore.inputs.model import SpeciesData
from featurestore.sequence.iupac import LETTERS
from featurestore.simulate.measure import (
    FIRST,
    GENES,
    Loaded,
    ModelFigures,
    compressed_chunks,
    device_seconds,
    load_in_worker,
    load_model,
    median_of,
    model_rate,
    parallel_speed,
    resident,
    seconds_of,
    start_seconds,
    try_cluster,
    try_disk,
    try_model,
)
from featurestore.simulate.models import architecture, random_embedder
from featurestore.simulate.rates import MEASURED, Machine, ModelRate, Rates
from featurestore.simulate.workload import SpeciesFacts, Windows, Workload
from featurestore.store.manifest import hash_file

MOST_SEARCHED: Final = 2_000_000
"""Windows that are searched for repeats; beyond, those of :data:`~.simulate_measure.GENES` genes tell."""


@dataclass
class _Found:
    """Figures as they come in."""

    machine: dict[str, float] = field(default_factory=dict)
    models: dict[str, ModelRate] = field(default_factory=dict)
    distinct: dict[str, float] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    coordinates: dict[str, int] = field(default_factory=dict)
    genome_bytes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    prepare: list[float] = field(default_factory=list)
    finish: list[float] = field(default_factory=list)


def probe(
    dataset: Path, store: Path | None, embedders: Sequence[str], species: Sequence[str], *,
    device: str | None = None, with_cluster: bool = True,
) -> tuple[Workload, Rates]:  # fmt: skip
    """Read and plan a data set as a build does, and measure every rate on the way.

    Raises
    ------
    DataSetError
        Mistakes of the data set, as for a build.
    """
    target = (store or dataset.with_name("store.zarr")).resolve()
    started = time.perf_counter()
    request = resolve(load_config(dataset, files=False), target, embedders, species)
    found = _Found(
        machine={
            "base_bytes": resident(), "embedders_s": time.perf_counter() - started,
            "parallel": parallel_speed(cores()), "start_s": start_seconds(), "device_s": device_seconds(),
        }
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=_writable(target), prefix=".simulate.") as folder:
        work = WorkArea(Path(folder) / "work")
        work.root.mkdir()
        started = time.perf_counter()
        data = read_species(work, request, target)
        plan = make_plan(work, request, data)
        plan.save(work.plan)
        reading = time.perf_counter() - started
        facts = {d.name: facts_of(work, d) for d in data}
        pending = _pending(plan, target)
        _models(work, plan, pending, found, device, with_cluster=with_cluster)
        _repeats(work, plan, pending, found)
        _groups(work, data, found)
        _metadata(work, plan, data, Path(folder) / "metadata", found)
        disk = Path(folder) / "disk"
        disk.mkdir()
        found.machine |= try_disk(disk, cores())
    if with_cluster:
        found.machine |= try_cluster()
    found.machine |= reading_rates(reading, facts)
    rates = Rates().with_machine(found.machine, MEASURED)
    for name, rate in found.models.items():
        rates = rates.with_model(name, rate)
    workload = Workload(
        plan, facts, pending, found.distinct, found.shared, found.coordinates,
        rates.machine.genome_ratio, found.genome_bytes,
    )  # fmt: skip
    return workload, rates


def _writable(target: Path) -> Path:
    """The nearest folder of the store's that exists: what is written there is written to its disk."""
    return next(p for p in target.parents if p.is_dir())


def _pending(plan: BuildPlan, store: Path) -> tuple[Task, ...]:
    """Shards that a store does not hold yet."""
    manifest = readable_manifest(store) if store.exists() else None
    keys = manifest.keys if manifest else {}
    return tuple(t for t in plan.tasks() if keys.get(t.path) != plan.key(t))


def facts_of(work: WorkArea, data: SpeciesData) -> SpeciesFacts:
    """What a simulation has to know of a species that was read."""
    windows = None
    bases = 0
    if data.kind != "positions" and data.gene:
        source = WindowSource(work.inputs(data.name))
        windows = Windows.of(source)
        bases = source.genes * len(source.regions) * source.positions
    if data.genome is not None:
        bases = len(data.genome.code)
    columns = 6 + (data.locus != data.gene) + (data.fold is not None)
    table = data.expression
    described = 0
    if table is not None:
        names = ("tissue", "genotype", "line", "control")
        described = 2 + sum(getattr(table, n) is not None for n in names)
    return SpeciesFacts(windows, bases, columns, bool(data.skipped), described)


def reading_rates(seconds: float, facts: Mapping[str, SpeciesFacts]) -> dict[str, float]:
    """Bases and genes per second that add up to what reading took.

    One measurement does not tell the two apart: their ratio is that of the assumptions.
    """
    usual = Machine()
    bases = sum(f.bases for f in facts.values())
    genes = sum(f.windows.genes for f in facts.values() if f.windows)
    expected = bases / usual.read_bases_per_s + genes / usual.read_genes_per_s
    speed = max(expected, 1e-6) / max(seconds, 1e-6)
    return {
        "read_bases_per_s": usual.read_bases_per_s * speed,
        "read_genes_per_s": usual.read_genes_per_s * speed,
    }


def _models(
    work: WorkArea, plan: BuildPlan, pending: Sequence[Task], found: _Found, device: str | None, *,
    with_cluster: bool,
) -> None:  # fmt: skip
    """Try every embedder once, on windows of the first species that has it."""
    for species in plan.species:
        for group in species.groups:
            if group.kind != "embedder":
                continue
            embedder = make_embedder(group.embedder_name, group.embedder)
            channels = getattr(embedder, "channels", None)
            named = channels is not None and not isinstance(channels, int)
            found.coordinates[group.embedder_name] = 2 + named + len(embedder.spec.constants)
            wanted = any(t.group == group.name and t.species == species.name for t in pending)
            if not wanted or group.embedder_name in found.models:
                continue
            source = WindowSource(work.inputs(species.name))
            loaded = load_model(embedder, device, found.machine["device_s"])
            gpu = embedder.spec.costly and on_gpu(device)
            slots = 1 if gpu else cores()
            figures = try_model(embedder, source, slots, 1)
            alone = 1.0 if gpu else slots * found.machine["parallel"]
            figures = replace(figures, windows_per_s=figures.windows_per_s / alone)
            if with_cluster and embedder.spec.costly:
                in_worker = load_in_worker(group.embedder_name, group.embedder, device)
                loaded = replace(loaded, worker_load_s=in_worker)
            _note(group, loaded, figures, _device_name(gpu), found)


def _note(
    group: GroupPlan, loaded: Loaded, figures: ModelFigures, device: str, found: _Found
) -> None:
    prepare = 1 / max(figures.prepare_s, 1e-9)
    found.models[group.embedder_name] = ModelRate(
        figures.windows_per_s, loaded.load_s, loaded.memory_bytes, device, prepare,
        worker_load_s=loaded.worker_load_s, origin=MEASURED,
    )  # fmt: skip
    found.distinct[group.pool] = figures.distinct
    found.finish.append(1e-6 / figures.byte_s)
    found.prepare.append(prepare)
    found.machine["prepare_windows_per_s"] = min(found.prepare)
    found.machine["finish_mb_per_s"] = median_of(found.finish, 1.0)


def _device_name(gpu: bool) -> str:
    if not gpu:
        return "cpu"
    import torch

    return f"cuda ({torch.cuda.get_device_name()})"


def _repeats(work: WorkArea, plan: BuildPlan, pending: Sequence[Task], found: _Found) -> None:
    """Inputs that several shards need, searched for as the build does."""
    seconds, windows = 0.0, 0
    for species in plan.species:
        for group in species.groups:
            fresh = group.embeds and group.pool not in found.shared
            if not fresh or not group.identity["costly"] or group.kind != "embedder":
                continue
            source = WindowSource(work.inputs(species.name))
            count = source.genes * len(source.regions) * source.bins * len(plan.species)
            if count > MOST_SEARCHED:
                continue
            started = time.perf_counter()
            found.shared[group.pool] = len(find_shared(work, plan, group.pool, pending))
            seconds, windows = seconds + time.perf_counter() - started, windows + count
    if windows:
        found.machine["repeats_windows_per_s"] = windows / seconds
    elif found.prepare:
        found.machine["repeats_windows_per_s"] = min(found.prepare)


def _groups(work: WorkArea, data: Sequence[SpeciesData], found: _Found) -> None:
    """Groups without a model: bases of the regions, bases of the genome."""
    sequence, genome, ratios = [], [], []
    for one in data:
        if one.kind != "positions" and one.gene:
            source = WindowSource(work.inputs(one.name))
            genes = min(source.genes, GENES)
            bases = genes * len(source.regions) * source.positions
            cut = seconds_of(lambda s=source, n=genes: s.region_codes(0, n))  # type: ignore[misc]
            sequence.append(bases / cut)
        if one.genome is not None and len(one.genome.code):
            sizes, rate, whole = compressed_chunks(one.genome.code)
            genome.append(rate)
            ratios.append(sum(sizes) / (len(sizes) * 1e6))
            if whole:
                found.genome_bytes[one.name] = tuple(sizes)
    for name, figures in (
        ("sequence_bases_per_s", sequence), ("genome_bases_per_s", genome), ("genome_ratio", ratios),
    ):  # fmt: skip
        if figures:
            found.machine[name] = median_of(figures, 1.0)


def _metadata(
    work: WorkArea, plan: BuildPlan, data: Sequence[SpeciesData], folder: Path, found: _Found
) -> None:
    """Write all metadata once, for its time; what is told of the genes' fate is not in it."""
    folder.mkdir()
    started = time.perf_counter()
    write_metadata(folder, work, plan, list(data), {d.name: [] for d in data})
    consolidate(folder)
    files = [p for p in folder.rglob("*") if p.is_file()]
    for path in files:
        hash_file(path)
    found.machine["metadata_s"] = (time.perf_counter() - started) / len(files)


def measure_model(name: str, *, device: str | None, dtype: str) -> ModelRate:
    """The rate of a model on this machine, on random windows.

    Parameters
    ----------
    name : str
        ``plantcaduceus-l20`` … ``plantcaduceus-l32``, built with its real sizes and random weights;
        or the type of an embedder that needs no settings.
    """
    device_s = device_seconds()
    with tempfile.TemporaryDirectory() as folder:
        if architecture(name) is not None:
            embedder, note = random_embedder(name, Path(folder), dtype), "weights are random"
        else:
            embedder, note = make_embedder(name), ""
        loaded = load_model(embedder, device, device_s)
    gpu = embedder.spec.costly and on_gpu(device)
    width = embedder.spec.input_bp or 250
    count = 16 * embedder.spec.batch if gpu else FIRST * 8
    codes = np.random.default_rng(0).integers(0, LETTERS.index("N"), (count, width), np.uint8)
    slots = 1 if gpu else cores()
    return ModelRate(
        model_rate(embedder, codes, slots, 1) / slots, loaded.load_s, loaded.memory_bytes,
        _device_name(gpu), note=", ".join(filter(None, [note, embedder.spec.dtype])),
        origin=MEASURED,
    )  # fmt: skip
