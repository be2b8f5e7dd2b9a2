"""Keeps what an unfinished build of other inputs had finished: its vectors serve the build that follows.

    earlier/<n>/<species>/<group>/   shards of a costly embedder, with metadata of their own

Shards are numbered anew there, without gaps, and the regions and bins of a gene are one axis: the
bytes of a shard are the same either way.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from featurestore.build.planning.group_plan import STORED_DTYPE, BuildPlan, GroupPlan, Task
from featurestore.build.reuse.existing import link, pending_pools
from featurestore.build.reuse.known import Source, indexed, plain_array, write_index
from featurestore.build.reuse.pool import Pool
from featurestore.build.sealing.variant_metadata import with_positions
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.work_area import Marker, WorkArea
from featurestore.embedders.base import vector_shapes
from featurestore.schema import Status, spec_of
from featurestore.store.shard import CRC_BYTES
from featurestore.store.templates import chunk_path, create_array

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
    kept: dict[tuple[str, str], list[_Kept]] = {}
    for task in plan.tasks():
        if _costly(plan, task) and (found := _finished(work, plan, task, digests_only)):
            kept.setdefault((task.species, task.group), []).append(found)
    entries = [_lay_out(partial, plan, listed, work.store) for listed in kept.values()]
    if entries:
        (partial / "groups.json").write_text(json.dumps(entries))
        partial.rename(into / str(number))


@dataclass(frozen=True)
class _Kept:
    """A finished shard, and the file of each of its arrays below the store that is being built."""

    task: Task
    files: dict[str, str]


def _costly(plan: BuildPlan, task: Task) -> bool:
    group = plan.of(task)[1]
    return group.embeds and bool(group.identity["costly"]) and group.identity["context"] != "region"


def _arrays(group: GroupPlan) -> dict[str, tuple[int, ...]]:
    """Arrays that are kept: the shape of an item of each."""
    shapes = vector_shapes(group.identity)
    return {**shapes, "input_digest": (DIGEST_BYTES,), "status": ()}


def _finished(work: WorkArea, plan: BuildPlan, task: Task, digests_only: bool) -> _Kept | None:
    """The files of a shard, or None where it is not done."""
    marker = work.read_marker(task, plan.key(task))
    if marker is None:
        return None
    wanted = _TELLING if digests_only else _arrays(plan.of(task)[1])
    files = {n: _file_of(marker, f"{task.species}/{task.group}/{n}") for n in wanted}
    found = {name: file for name, file in files.items() if file is not None}
    return _Kept(task, found) if len(found) == len(wanted) else None


def _file_of(marker: Marker, base: str) -> str | None:
    return next((p for p in marker.files if p.startswith(f"{base}/c/")), None)


def _lay_out(root: Path, plan: BuildPlan, kept: list[_Kept], built: Path) -> dict[str, Any]:
    """Link the kept shards of a group, with metadata by which they are arrays again.

    Returns
    -------
    dict
        What :func:`index_set_aside` has to know of them.
    """
    first, last = kept[0], kept[-1]
    group, path = plan.of(first.task)[1], f"{first.task.species}/{first.task.group}"
    begin, end = group.span(last.task.shard)  # only the last shard of a group may be short
    rows = (len(kept) - 1) * group.shard_rows + end - begin
    variant = group.kind == "variant_embedder"
    for array, item in _arrays(group).items():
        width: tuple[int, ...] = ()
        if not variant:
            of = "status" if array == "status" else "input_digest"
            cells = (built / first.files[of]).stat().st_size - CRC_BYTES
            width = (cells // group.shard_rows // (1 if of == "status" else DIGEST_BYTES),)
        known = array if array in _TELLING else "<output>"
        spec = spec_of(f"{'variants/<set>/' if variant else ''}<embedder>/{known}")
        create_array(
            root, f"{path}/{array}", with_positions(spec, item) if variant else spec,
            (rows, *width, *item), dtype=STORED_DTYPE if known == "<output>" else None,
            chunk_rows=group.shard_rows,
        )  # fmt: skip
        for number, one in enumerate(kept if array in first.files else ()):
            place = (number, *(0,) * (len(width) + len(item)))
            link(built / one.files[array], chunk_path(root, f"{path}/{array}", place))
    shapes = {n: list(shape) for n, shape in vector_shapes(group.identity).items()}
    return {"pool": group.pool, "path": path, "shapes": shapes}


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
    work: WorkArea, root: Path, *, pool: str, path: str, shapes: dict[str, list[int]]
) -> int:
    digest, status = (plain_array(root, f"{path}/{n}") for n in ("input_digest", "status"))
    source = Source(
        str(root), "", {n: f"{path}/{n}" for n in shapes}, shapes, math.prod(digest.shape[1:-1])
    )
    if (there := indexed(work, pool, source)) is not None:
        return there
    digests = digest.read().reshape(-1, source.bins, DIGEST_BYTES)
    regions = status.read().reshape(len(digests), -1) == Status.OK
    usable = np.repeat(regions, source.bins // regions.shape[1], axis=1)
    return write_index(work, pool, source, digests, usable)
