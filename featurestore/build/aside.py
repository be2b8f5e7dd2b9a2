"""Keeps what an unfinished build of other inputs had finished: its vectors serve the build that follows.

    earlier/<n>/<species>/<group>/   shards of a costly embedder, with metadata of their own

The regions and bins of a gene are one axis there: shards are laid out the same either way.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.existing import link, pending_pools
from featurestore.build.group_plan import STORED_DTYPE, BuildPlan, GroupPlan, Task
from featurestore.build.known import Source, indexed, plain_array, write_index
from featurestore.build.pool import Pool
from featurestore.build.reuse import DIGEST_BYTES
from featurestore.build.variant_metadata import with_positions
from featurestore.build.work_area import Marker, WorkArea
from featurestore.embedders.base import vector_shapes
from featurestore.schema import Status, spec_of
from featurestore.store.shard import CRC_BYTES
from featurestore.store.templates import create_array

_TELLING: Final = frozenset({"input_digest", "status"})
"""Arrays that tell which inputs a shard holds vectors of."""


def set_aside(work: WorkArea, old: BuildPlan, new: BuildPlan) -> None:
    """Keep finished shards of costly embedders before a build of other inputs overwrites them.

    Nothing is copied: a shard gets a second place. Vectors of shards that were only begun move
    to the pool of their embedder.
    """
    stale = stale_shards(old, new)
    for task in stale:
        begun = Pool(work.partial(task, old.key(task)))
        if begun.folder.is_dir():
            Pool(work.shared(old.of(task)[1].pool)).take_in(begun)
    if stale:
        keep_finished(work, old, work.earlier)


def stale_shards(old: BuildPlan, new: BuildPlan) -> list[Task]:
    """Shards of costly embedders that a new plan wants otherwise, or no longer."""
    kept = {task: new.key(task) for task in new.tasks()}
    return [t for t in old.tasks() if _costly(old, t) and kept.get(t) != old.key(t)]


def keep_finished(
    work: WorkArea, plan: BuildPlan, into: Path, *, digests_only: bool = False
) -> None:
    """Give every finished shard of a costly embedder a second place below ``into``.

    Parameters
    ----------
    digests_only : bool
        Only what tells which inputs there are, not their vectors.
    """
    number = len(list(into.glob("[!.]*"))) if into.is_dir() else 0
    partial = into / f".{number}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    found = [
        t for t in plan.tasks() if _costly(plan, t) and _keep(work, plan, t, partial, digests_only)
    ]
    if found:
        _describe(partial, plan, found)
        (partial / "groups.json").write_text(json.dumps(_entries(plan, found)))
        partial.rename(into / str(number))


def _entries(plan: BuildPlan, tasks: list[Task]) -> list[dict[str, Any]]:
    """What :func:`index_set_aside` has to know of each group that was kept."""
    entries: dict[str, dict[str, Any]] = {}
    for task in tasks:
        group, path = plan.of(task)[1], f"{task.species}/{task.group}"
        shapes = {n: list(shape) for n, shape in vector_shapes(group.identity).items()}
        entry = entries.setdefault(
            path, {"pool": group.pool, "path": path, "shapes": shapes, "rows": []}
        )
        entry["rows"].append(list(group.span(task.shard)))
    return list(entries.values())


def _costly(plan: BuildPlan, task: Task) -> bool:
    group = plan.of(task)[1]
    return group.embeds and bool(group.identity["costly"]) and group.identity["context"] == "bin"


def _arrays(group: GroupPlan) -> dict[str, tuple[int, ...]]:
    """Arrays that are kept: the shape of an item of each."""
    shapes = vector_shapes(group.identity)
    return {**shapes, "input_digest": (DIGEST_BYTES,), "status": ()}


def _keep(work: WorkArea, plan: BuildPlan, task: Task, root: Path, digests_only: bool) -> bool:
    """Link the files of a finished shard; False where it is not done."""
    group = plan.of(task)[1]
    marker = work.read_marker(task, plan.key(task))
    if marker is None:
        return False
    for name, shape in _arrays(group).items():
        if digests_only and name not in _TELLING:
            continue
        base = f"{task.species}/{group.name}/{name}"
        file = _file_of(marker, base)
        if file is None:
            return False
        # One axis fewer: region and bin are one.
        axes = len(shape) + (0 if group.kind == "variant_embedder" else 1)
        link(work.store / file, root.joinpath(base, "c", str(task.shard), *["0"] * axes))
    return True


def _file_of(marker: Marker, base: str) -> str | None:
    return next((p for p in marker.files if p.startswith(f"{base}/c/")), None)


def _describe(root: Path, plan: BuildPlan, tasks: list[Task]) -> None:
    """Write metadata by which the kept shards are arrays again."""
    for species, name in dict.fromkeys((t.species, t.group) for t in tasks):
        shard = next(t.shard for t in tasks if (t.species, t.group) == (species, name))
        group = plan.of(Task(species, name, shard))[1]
        variant = group.kind == "variant_embedder"
        for array, item in _arrays(group).items():
            base = f"{species}/{name}/{array}"
            width: tuple[int, ...] = ()
            if not variant:
                of = "status" if array == "status" else "input_digest"
                width = (_width(root / species / name / of, shard, group),)
            known = array if array in _TELLING else "<output>"
            spec = spec_of(f"{'variants/<set>/' if variant else ''}<embedder>/{known}")
            create_array(
                root, base, with_positions(spec, item) if variant else spec,
                (group.rows, *width, *item), dtype=STORED_DTYPE if known == "<output>" else None,
                chunk_rows=group.shard_rows,
            )  # fmt: skip


def _width(array: Path, shard: int, group: GroupPlan) -> int:
    """Length of the second axis of a block array of one byte a cell, told by the size of a file."""
    file = next(p for p in (array / "c" / str(shard)).rglob("*") if p.is_file())
    cells = (file.stat().st_size - CRC_BYTES) // group.shard_rows
    return cells if array.name == "status" else cells // DIGEST_BYTES


def index_set_aside(
    work: WorkArea, plan: BuildPlan, pending: Collection[Task], *further: Path
) -> int:
    """Index what :func:`set_aside` kept, as far as pending shards may want it.

    Parameters
    ----------
    further : other folders that :func:`keep_finished` wrote into

    Returns
    -------
    int
        Distinct inputs that need no model run.
    """
    pools = pending_pools(plan, pending)
    found = 0
    roots = [p for folder in (work.earlier, *further) if folder.is_dir() for p in sorted(folder.glob("[!.]*"))]  # fmt: skip
    for root in roots if pools else ():
        for entry in json.loads((root / "groups.json").read_text()):
            if entry["pool"] in pools:
                found += _index(work, root, **entry)
    return found


def _index(
    work: WorkArea, root: Path, *, pool: str, path: str, shapes: dict[str, list[int]],
    rows: list[list[int]],
) -> int:  # fmt: skip
    digest, status = (plain_array(root, f"{path}/{n}") for n in ("input_digest", "status"))
    source = Source(
        str(root), "", {n: f"{path}/{n}" for n in shapes}, shapes, math.prod(digest.shape[1:-1])
    )
    if (there := indexed(work, pool, source)) is not None:
        return there
    digests = np.zeros((digest.shape[0], source.bins, DIGEST_BYTES), np.uint8)
    for first, last in rows:
        at = np.arange(first, last, dtype=np.int64)
        regions = status.take(at).reshape(len(at), -1) == Status.OK
        usable = np.repeat(regions, source.bins // regions.shape[1], axis=1)
        digests[first:last] = digest.take(at).reshape(len(at), source.bins, -1) * usable[..., None]
    held: NDArray[np.bool_] = np.asarray(digests.any(axis=-1))
    return write_index(work, pool, source, digests, held)
