"""``fs build``: from a data set to a store; resumable, crash-safe, nothing computed twice."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from featurestore.build.execute import Report, run_tasks
from featurestore.build.existing import pool_known_bins, readable_manifest, take_over
from featurestore.build.finalise import recover, seal, swap
from featurestore.build.funnel import gene_funnel
from featurestore.build.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.lock import build_lock
from featurestore.build.plan import plan_species
from featurestore.build.shared import compute_shared, find_shared
from featurestore.build.tasks import loaded_embedder
from featurestore.build.window_source import lay_down
from featurestore.build.work_area import WorkArea
from featurestore.embedders.registry import make_embedder
from featurestore.errors import IncompleteStoreError, InputError, StoreError, unknown_name
from featurestore.inputs.dataset import DatasetConfig, load_config
from featurestore.inputs.load import dataset_digest, load_dataset
from featurestore.inputs.model import SpeciesData
from featurestore.store.reader import Store

Say = Callable[[str], None]


@dataclass
class BuildResult:
    """What a build did."""

    store: Path
    digest: str
    up_to_date: bool = False
    shards: int = 0
    computed: int = 0
    taken_over: int = 0
    resumed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)
    funnel: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What is to be built: species and embedders by name, resolved against data set and store."""

    config: DatasetConfig
    species: tuple[str, ...]
    embedders: Mapping[str, Mapping[str, Any]]
    digest: str

    def selected(self) -> DatasetConfig:
        """The data set, cut to the species that are to be in the store."""
        return self.config.model_copy(
            update={"species": {name: self.config.species[name] for name in self.species}}
        )


def _existing(store: Path) -> Store | None:
    try:
        return Store(store)
    except StoreError:
        return None  # none, or damaged: the build replaces what it cannot trust


def resolve(
    config: DatasetConfig, store: Path, embedders: Sequence[str], species: Sequence[str]
) -> Request:
    """Species and embedders of the store that is to come: what was asked for and what is there.

    Raises
    ------
    InputError
        For an unknown name, or if the store holds what the data set no longer names.
    """
    for name in species:
        if name not in config.species:
            raise unknown_name("species", name, config.species)
    there = _existing(store)
    asked = list(species) or list(config.species)
    chosen = {n: embedder_config(config, n) for n in (embedders or config.embedders)}
    if there is not None:
        if gone := [s for s in there.species if s not in config.species]:
            raise InputError(
                f"{store} holds species that {config.path} no longer names: {', '.join(gone)}. Put them back, or "
                "build into another store: nothing is dropped silently."
            )
        asked = [s for s in config.species if s in asked or s in there.species]
        for name in dict.fromkeys(e for s in there.species for e in there.embedders(s)):
            chosen.setdefault(name, _stored_config(config, there, name))
    return Request(config, tuple(asked), chosen, dataset_digest(config))


def embedder_config(config: DatasetConfig, name: str) -> dict[str, Any]:
    """Settings of an embedder by its name in the store."""
    return dict(config.embedder_options.get(name, {"type": name}))


def _stored_config(config: DatasetConfig, store: Store, name: str) -> dict[str, Any]:
    """Settings of an embedder that the store holds and nobody named: the data set's, else the store's own."""
    if name in config.embedder_options or name == "onehot":
        return embedder_config(config, name)
    species = next(s for s in store.species if name in store.embedders(s))
    try:
        attrs = store.embedder_attrs(species, name)
    except StoreError:
        return embedder_config(config, name)  # its metadata are damaged: as if built anew
    return {"type": attrs["type"], **attrs["parameters"]}


def is_up_to_date(request: Request, store: Path) -> Store | None:
    """The store, if it already holds exactly what is asked for, every file in its place."""
    try:
        return _unchanged(request, store)
    except StoreError:
        return None  # damaged metadata: the build mends them


def _unchanged(request: Request, store: Path) -> Store | None:
    there = _existing(store)
    if (
        there is None
        or there.dataset_digest != request.digest
        or set(request.species) != set(there.species)
    ):
        return None
    for name, settings in request.embedders.items():
        wanted = make_embedder(name, settings).spec.identity()
        for species in there.species:
            if not there.has(species, "sequence/code"):
                continue
            if name not in there.embedders(species):
                return None
            found = {k: v for k, v in there.embedder_attrs(species, name).items() if k != "name"}
            if name != "onehot" and found != wanted:
                return None
    for path, file in there.manifest.files.items():
        try:
            if (store / path).stat().st_size != file.size:
                return None
        except FileNotFoundError:
            return None
    return there


def lay_down_inputs(work: WorkArea, data: Sequence[SpeciesData], bin_bp: int) -> None:
    """Write windows, bases and expression where the tasks read them."""
    for species in data:
        folder = work.inputs(species.name)
        shutil.rmtree(folder, ignore_errors=True)
        lay_down(folder, species, bin_bp)
        if species.expression is not None:
            np.save(folder / "expression.npy", species.expression.value)


def make_plan(work: WorkArea, request: Request, data: Sequence[SpeciesData]) -> BuildPlan:
    """Plan all species and write the plan into the work area."""
    bin_bp = request.config.bin
    species = tuple(plan_species(d, work.inputs(d.name), request.embedders, bin_bp) for d in data)
    plan = BuildPlan(request.digest, bin_bp, species)
    plan.save(work.plan)
    return plan


def _pending_costly(work: WorkArea, plan: BuildPlan) -> list[GroupPlan]:
    """Costly embedders, each once, of which a shard is still to be computed."""
    found: dict[str, GroupPlan] = {}
    for task in plan.tasks():
        _, group = plan.of(task)
        if group.embeds and group.identity["costly"] and not _is_done(work, plan, task):
            found.setdefault(group.embedder_name, group)
    return list(found.values())


def _prepare_shared(work: WorkArea, plan: BuildPlan, device: str | None, say: Say) -> None:
    for group in _pending_costly(work, plan):
        embedder = loaded_embedder(group, device)
        places = find_shared(work, plan, group.embedder_name, embedder.spec.input_bp)
        computed = compute_shared(work, plan, group, embedder, places)
        if computed:
            say(
                f"{group.embedder_name}: {computed:,} inputs occur in several shards; each computed once"
            )


def build(
    dataset: Path,
    store: Path,
    *,
    embedders: Sequence[str] = (),
    species: Sequence[str] = (),
    workers: int | None = None,
    device: str | None = None,
    say: Say = lambda line: None,
    on_task: Callable[[Report, int, int], None] = lambda report, done, total: None,
) -> BuildResult:
    """Build or complete a store.

    Parameters
    ----------
    dataset : Path
        dataset.toml.
    store : Path
        Folder to make; beside it a work area ``<store>.build`` while the build runs.
    embedders, species : sequences of str
        Default: those of the data set. What the store holds already stays.
    workers : int, optional
        Local processes; default threads.
    say : called with lines for people
    on_task : called with each finished task's report, tasks done, tasks in all

    Raises
    ------
    InputError
        Mistakes of the data set, all in one report, before any work.
    StoreLockedError
        If another process builds this store.
    IncompleteStoreError
        If shards could not be made; the finished ones stay for the next run.
    """
    started = time.perf_counter()
    config = load_config(dataset)
    request = resolve(config, store, embedders, species)
    if (there := is_up_to_date(request, store)) is not None:
        return BuildResult(store, there.digest, True, seconds=time.perf_counter() - started)
    work = WorkArea.beside(store)
    store.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(work.root):
        recover(store)
        data = load_dataset(request.selected())
        result = _build_locked(request, work, store, data, workers, device, say, on_task)
        shutil.rmtree(work.root)
    result.seconds = time.perf_counter() - started
    _log(
        store,
        {
            "event": "built",
            "digest": result.digest,
            "shards": result.shards,
            "seconds": result.seconds,
        },
    )
    return result


def _build_locked(
    request: Request, work: WorkArea, store: Path, data: Sequence[SpeciesData], workers: int | None,
    device: str | None, say: Say, on_task: Callable[[Report, int, int], None],
) -> BuildResult:  # fmt: skip
    lay_down_inputs(work, data, request.config.bin)
    plan = make_plan(work, request, data)
    tasks = plan.tasks()
    resumed = sum(_is_done(work, plan, t) for t in tasks)
    manifest = readable_manifest(store) if store.exists() else None
    taken = take_over(work, plan, store, manifest) if manifest else 0
    if manifest:
        for name, count in pool_known_bins(work, plan, store).items():
            say(f"{name}: {count:,} distinct inputs of the present store need no model run")
    _prepare_shared(work, plan, device, say)
    pending = [t for t in tasks if not _is_done(work, plan, t)]
    counter = {"done": 0}

    def done(report: Report) -> None:
        counter["done"] += 1
        _log(store, {"event": "shard", **report})
        on_task(report, counter["done"], len(pending))

    reports = run_tasks(work, pending, workers=workers, device=device, on_done=done)
    if errors := [f"{r['task']}: {r['error']}" for r in reports if "error" in r]:
        raise IncompleteStoreError(
            f"{len(errors)} of {len(tasks)} shards failed; the others are done and stay. First: {errors[0]}. "
            "Mend the cause and run 'fs build' again."
        )
    funnels = {s.name: gene_funnel(work, s, d) for s, d in zip(plan.species, data, strict=True)}
    sealed = seal(work, plan, data, funnels)
    swap(work.store, store)
    return BuildResult(
        store, sealed.digest, shards=len(tasks), computed=len(pending), taken_over=taken, resumed=resumed,
        failures=[f"{r['task']}: {f}" for r in reports for f in r.get("failures", [])],
        funnel=funnels, notes={d.name: list(d.notes) for d in data},
    )  # fmt: skip


def _is_done(work: WorkArea, plan: BuildPlan, task: Task) -> bool:
    _, group = plan.of(task)
    return work.read_marker(task, group.keys[task.shard]) is not None


def _log(store: Path, record: Mapping[str, Any]) -> None:
    """Append to the log beside the store: what depends on time and host has no place inside it."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **record})
    with store.with_name(store.name + ".log.jsonl").open("a") as file:
        file.write(line + "\n")
