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
from featurestore.build.finalise import drop_spoilt, recover, seal, swap
from featurestore.build.funnel import gene_funnel
from featurestore.build.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.lock import build_lock
from featurestore.build.plan import plan_species
from featurestore.build.request import Request, is_up_to_date, resolve
from featurestore.build.shared import compute_shared, find_shared
from featurestore.build.tasks import loaded_embedder
from featurestore.build.window_source import lay_down
from featurestore.build.work_area import WorkArea
from featurestore.errors import IncompleteStoreError
from featurestore.inputs.dataset import load_config
from featurestore.inputs.load import load_dataset
from featurestore.inputs.model import SpeciesData
from featurestore.schema import STATUS_MEANINGS, Status
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
    funnel: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """Genes with a region that has no vector because its status is failed, by reason."""
        return [
            f"{species}: {lost['count']} genes, {lost['reason']}: NaN, or past the 65,504 that "
            f"float16 holds ({', '.join(lost['examples'])})"
            for species, steps in self.funnel.items()
            for step in steps
            for lost in step["lost"]
            if step["stage"] == "embedded" and STATUS_MEANINGS[Status.FAILED] in lost["reason"]
        ]


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
    store = store.resolve()  # a link to a store is that store: same lock, same work area
    config = load_config(dataset)
    work = WorkArea.beside(store)
    if not work.root.exists():
        request = resolve(config, store, embedders, species)
        if (there := is_up_to_date(request, store)) is not None:
            return _nothing_to_do(there, started)
    store.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(work.root):
        recover(store, work)
        # Only now: another build may have finished between a look and the lock.
        request = resolve(config, store, embedders, species)
        if (there := is_up_to_date(request, store)) is not None:
            work.remove()
            return _nothing_to_do(there, started)
        data = load_dataset(request.selected())
        result = _build_locked(request, work, store, data, workers, device, say, on_task)
        work.remove()
    result.seconds = time.perf_counter() - started
    record = {"digest": result.digest, "shards": result.shards, "seconds": result.seconds}
    _log(store, {"event": "built", **record})
    return result


def _nothing_to_do(there: Store, started: float) -> BuildResult:
    return BuildResult(
        there.path, there.digest, True, seconds=time.perf_counter() - started,
        funnel={s: there.funnel(s) for s in there.species},
    )  # fmt: skip


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
    if manifest and taken == 0 and resumed == 0:
        say(f"{store} was built from other inputs or windows: all of it is made anew")
    _prepare_shared(work, plan, device, say)
    computed = _run_pending(work, plan, store, workers, device, on_task)
    if spoilt := drop_spoilt(work, plan):
        # Damage between two runs of one build: mended here rather than asking for a third.
        say(f"{spoilt} finished shards are not what was written; they are computed again")
        computed += _run_pending(work, plan, store, workers, device, on_task)
    funnels = {s.name: gene_funnel(work, s, d) for s, d in zip(plan.species, data, strict=True)}
    sealed = seal(work, plan, data, funnels)
    swap(work, store, sealed.digest)
    return BuildResult(
        store, sealed.digest, shards=len(tasks), computed=computed, taken_over=taken, resumed=resumed,
        funnel=funnels, notes={d.name: list(d.notes) for d in data},
    )  # fmt: skip


def _run_pending(
    work: WorkArea, plan: BuildPlan, store: Path, workers: int | None, device: str | None,
    on_task: Callable[[Report, int, int], None],
) -> int:  # fmt: skip
    """Run every shard that is not done; returns how many that were."""
    tasks = plan.tasks()
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
    return len(pending)


def _is_done(work: WorkArea, plan: BuildPlan, task: Task) -> bool:
    _, group = plan.of(task)
    return work.read_marker(task, group.keys[task.shard]) is not None


def _log(store: Path, record: Mapping[str, Any]) -> None:
    """Append to the log beside the store: what depends on time and host has no place inside it."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **record})
    with store.with_name(store.name + ".log.jsonl").open("a") as file:
        file.write(line + "\n")
