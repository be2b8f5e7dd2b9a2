"""Takes over what the store that is there already holds: whole shards by key, single bins by digest."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import (
    GENOME_CHUNKS_PER_TASK,
    BuildPlan,
    Task,
    pool_name,
)
from featurestore.build.reuse.known import Source, indexed, write_index
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import vector_shapes
from featurestore.errors import StoreError
from featurestore.schema import WHOLE_NAMES, Status
from featurestore.store.identify import meristem_attribute
from featurestore.store.manifest import Manifest, hash_file, read_manifest
from featurestore.store.reader import Store, open_store
from featurestore.store.shard import WrittenFile

READERS: Final = 8
"""Threads that read shards back."""


def _task_of(path: str) -> str | None:
    """The task that wrote a file of a store, or None for metadata and one-chunk arrays."""
    parts = path.split("/")
    at = len(parts) - 1
    while at > 0 and parts[at].isdigit():
        at -= 1
    if at < 3 or at == len(parts) - 1 or parts[at] != "c" or parts[at - 1] in WHOLE_NAMES:
        return None
    species, group, chunk = parts[0], "/".join(parts[1 : at - 1]), int(parts[at + 1])
    return f"{species}/{group}/{chunk // GENOME_CHUNKS_PER_TASK if group == 'genome' else chunk}"


def readable_manifest(store: Path) -> Manifest | None:
    """The manifest of the store, or None where there is none to trust."""
    try:
        return read_manifest(store)
    except StoreError:
        return None  # the build then computes everything: slower, never wrong


def take_over(
    work: WorkArea, plan: BuildPlan, store: Path, manifest: Manifest, done: Collection[Task]
) -> set[Task]:
    """Link into the work area every shard of the store whose key the plan asks for.

    A file whose bytes are not what the manifest says is left behind, and so computed again.

    Parameters
    ----------
    done : collection of Task
        Shards that are finished already.

    Returns
    -------
    set of Task
        Shards taken over.
    """
    by_task: dict[str, dict[str, WrittenFile]] = {}
    for path, file in manifest.files.items():
        if (name := _task_of(path)) is not None:
            by_task.setdefault(name, {})[path] = file
    wanted = [
        task
        for task in plan.tasks()
        if task not in done
        and task.path in by_task
        and manifest.keys.get(task.path) == plan.key(task)
    ]
    packages = {g: _packages(store / g) for g in {f"{t.species}/{t.group}" for t in wanted}}

    def take(task: Task) -> bool:
        files = by_task[task.path]
        if not all(_intact(store / p, f) for p, f in files.items()):
            return False
        for path in files:
            link(store / path, work.store / path)
        facts = {"taken_over": True, "packages": packages[f"{task.species}/{task.group}"]}
        work.write_marker(task, plan.key(task), files, facts)
        return True

    with ThreadPoolExecutor(READERS) as pool:  # reading and digesting lets other threads run
        return {task for task, taken in zip(wanted, pool.map(take, wanted), strict=True) if taken}


def _packages(group: Path) -> dict[str, str]:
    """Versions that computed a group, from whichever of its metadata can be read."""
    for file in (group / "zarr.json", *sorted(group.glob("*/zarr.json"))):
        if packages := meristem_attribute(file).get("packages"):
            return dict(packages)
    return {}


def _intact(path: Path, file: WrittenFile) -> bool:
    try:
        return path.stat().st_size == file.size and hash_file(path, file) == file
    except OSError:
        return False


def link(source: Path, target: Path) -> None:
    """Give a finished file a second place; its bytes are never written over, only replaced."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def index_known_bins(
    work: WorkArea, plan: BuildPlan, store_path: Path, pending: Collection[Task]
) -> dict[str, int]:
    """Index the vectors of the existing store for costly embedders whose shards are to be computed.

    Returns
    -------
    dict of embedder name to number of distinct inputs that need no model run
    """
    pools = pending_pools(plan, pending)
    if not pools:
        return {}
    try:
        store = open_store(store_path)
    except StoreError:
        return {}  # damaged metadata: everything is computed
    offered: dict[str, int] = {}
    for species in store.species:
        for name in embedded_groups(store, species):
            try:
                count = _index(work, store, species, name, pools)
            except StoreError:
                continue  # damaged: it offers nothing, and its shards are computed
            if count:
                embedder = name.rpartition("/")[2]
                offered[embedder] = offered.get(embedder, 0) + count
    return offered


def pending_pools(plan: BuildPlan, pending: Collection[Task]) -> set[str]:
    """Pools of the costly embedders that pending shards need."""
    groups = {(task.species, task.group) for task in pending}
    return {
        group.pool
        for species in plan.species
        for group in species.groups
        if group.embeds and group.identity["costly"] and (species.name, group.name) in groups
    }


def embedded_groups(store: Store, species: str) -> list[str]:
    """Groups of a species that hold vectors by input digest, those of variant sets too."""
    own = [n for n in store.embedders(species) if n != "onehot"]
    sets = [f"variants/{s}/{n}" for s in store.variant_sets(species) for n in own]
    return [n for n in [*own, *sets] if store.has(species, f"{n}/input_digest")]


def _index(work: WorkArea, store: Store, species: str, name: str, pools: Collection[str]) -> int:
    attributes = store.meta(species, name)["attributes"]["meristem"]["embedder"]
    identity = {k: v for k, v in attributes.items() if k != "name"}
    pool = pool_name(attributes["name"], identity)
    if pool not in pools or identity["context"] == "region":
        return 0  # vectors of a region are means over model inputs, not of one
    digest = store.stored(species, f"{name}/input_digest")
    source = Source(
        str(store.path), store.digest,
        {n: f"{species}/{name}/{n}" for n in identity["outputs"]},
        {n: list(shape) for n, shape in vector_shapes(identity).items()},
        math.prod(digest.shape[1:-1]),
    )  # fmt: skip
    if (there := indexed(work, pool, source)) is not None:
        return there
    usable = store.array(species, f"{name}/status") == Status.OK
    digests = digest.read()
    return write_index(work, pool, source, digests, _by_bin(usable, digests))


def _by_bin(usable: NDArray[np.bool_], digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Status of regions (gene, region) or rows (row,), spread over the bins of ``digests``."""
    whole = usable.reshape(*usable.shape, *(1,) * (digests.ndim - 1 - usable.ndim))
    return np.broadcast_to(whole, digests.shape[:-1])
