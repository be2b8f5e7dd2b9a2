"""Takes over what the store that is there already holds: whole shards by key, single bins by digest."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np

from featurestore.build.group_plan import GENOME_CHUNKS_PER_TASK, BuildPlan, GroupPlan, Task
from featurestore.build.shared import pool_from_store
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import identity_digest
from featurestore.errors import StoreError
from featurestore.schema import WHOLE_NAMES, Status
from featurestore.store.identify import meristem_attribute
from featurestore.store.manifest import Manifest, hash_file, read_manifest
from featurestore.store.reader import Store, open_store
from featurestore.store.shard import WrittenFile


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


def take_over(work: WorkArea, plan: BuildPlan, store: Path, manifest: Manifest) -> int:
    """Link into the work area every shard of the store whose key the plan asks for.

    A file whose bytes are not what the manifest says is left behind, and so computed again.

    Returns
    -------
    int
        Number of shards taken over.
    """
    by_task: dict[str, dict[str, WrittenFile]] = {}
    for path, file in manifest.files.items():
        if (name := _task_of(path)) is not None:
            by_task.setdefault(name, {})[path] = file
    taken = 0
    for task in plan.tasks():
        _, group = plan.of(task)
        key = group.keys[task.shard]
        if manifest.keys.get(task.path) != key or work.read_marker(task, key) is not None:
            continue
        files = by_task.get(task.path, {})
        if files and all(_intact(store / p, f) for p, f in files.items()):
            for path in files:
                _link(store / path, work.store / path)
            packages = _packages(store / task.species / task.group)
            work.write_marker(task, key, files, {"taken_over": True, "packages": packages})
            taken += 1
    return taken


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


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def pool_known_bins(work: WorkArea, plan: BuildPlan, store_path: Path) -> dict[str, int]:
    """Offer the vectors of the existing store to costly embedders whose shards are to be computed.

    Returns
    -------
    dict of embedder name to number of distinct inputs that need no model run
    """
    offered: dict[str, int] = {}
    try:
        store = open_store(store_path)
    except StoreError:
        return {}  # damaged metadata: everything is computed
    pending = {
        group.pool
        for species in plan.species
        for group in species.groups
        if group.embeds
        and group.identity["costly"]
        and any(
            work.read_marker(Task(species.name, group.name, i), key) is None
            for i, key in enumerate(group.keys)
        )
    }
    for species in plan.species:
        for group in species.groups:
            if not group.embeds or group.pool not in pending or species.name not in store.species:
                continue
            if not store.has(species.name, f"{group.name}/input_digest"):
                continue
            count = _offer(work, store, species.name, group)
            offered[group.embedder_name] = offered.get(group.embedder_name, 0) + count
    return offered


def _offer(work: WorkArea, store: Store, species: str, group: GroupPlan) -> int:
    """Pool one group of the store; a damaged one offers nothing, and its shards are computed."""
    try:
        attrs = store.meta(species, group.name)["attributes"]["meristem"]["embedder"]
        found = {k: v for k, v in attrs.items() if k != "name"}
        if identity_digest(found) != identity_digest(group.identity):
            return 0
        if group.identity["context"] == "region":
            return 0  # its vectors are means over model inputs, not of one
        return _pool_group(work, store, species, group)
    except StoreError:
        return 0


def _pool_group(work: WorkArea, store: Store, species: str, group: GroupPlan) -> int:
    digest = store.array(species, f"{group.name}/input_digest")
    usable = store.array(species, f"{group.name}/status") == Status.OK
    if group.kind == "embedder":
        usable = np.broadcast_to(usable[:, :, None], digest.shape[:3])
    vectors = {n: store.array(species, f"{group.name}/{n}") for n in group.identity["outputs"]}
    return pool_from_store(work, group.pool, digest, usable, vectors)
