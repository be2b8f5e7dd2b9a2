"""Refuses a build that the disk has no room for, or that would store very much without being asked to."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, Task, vector_bytes
from featurestore.build.sealing.metadata import sharded_arrays
from featurestore.build.sealing.variant_metadata import Shaped
from featurestore.build.windows.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import is_gene_centred, vector_shapes
from featurestore.errors import InputError, StorageError

LARGE: Final = 50_000_000_000
"""Bytes of vectors that one embedder of long windows stores without being asked to plainly."""


def gene_bytes(group: GroupPlan) -> int:
    """Bytes of vectors that an embedder of one window a gene stores of each."""
    return sum(map(vector_bytes, vector_shapes(group.identity).values()))


def needs_asking(windows: int, group: GroupPlan) -> bool:
    """Whether so many windows of an embedder of one a gene take more than :data:`LARGE`."""
    return windows * gene_bytes(group) > LARGE


def existing_parent(path: Path) -> Path:
    """The nearest folder of a path that is there."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def check_room(work: WorkArea, plan: BuildPlan, pending: Sequence[Task], *, large: bool) -> None:
    """Refuse pending shards that would not fit, or that nobody plainly asked for.

    Only vectors of real models count: these hardly compress on any file system, and would be lost
    work. Whatever else fills the disk is told when it does.

    Parameters
    ----------
    large : bool
        Whether much was asked for.

    Raises
    ------
    StorageError
        If the disk has less room than the vectors take.
    InputError
        If one embedder of long windows would store more than :data:`LARGE`.
    """
    rows: dict[tuple[str, str], int] = {}
    for task in pending:
        _, group = plan.of(task)
        if group.embeds and group.identity["costly"]:
            first, last = group.span(task.shard)
            key = task.species, task.group
            rows[key] = rows.get(key, 0) + last - first
    if not large:
        _ask(plan, rows)
    need = 0
    for (species, name), count in rows.items():
        found, group = plan.of(Task(species, name, 0))
        source = WindowSource(work.inputs(species))
        need += count * _row_bytes(sharded_arrays(group, source, found.samples))
    free = shutil.disk_usage(existing_parent(work.root)).free
    if need > free:
        raise StorageError(
            f"{work.root}: vectors of {need:,} bytes are to be written, and {free:,} bytes are free. Nothing was "
            "computed: make room, then run the same command again, or store less ('fs plan' tells what takes how much)."
        )


def _row_bytes(arrays: Iterable[Shaped]) -> int:
    return sum(
        math.prod(shape[1:]) * np.dtype(dtype or spec.dtype).itemsize
        for _, spec, shape, dtype in arrays
    )


def _ask(plan: BuildPlan, rows: Mapping[tuple[str, str], int]) -> None:
    windows: dict[str, int] = {}
    of: dict[str, GroupPlan] = {}
    for (species, name), count in rows.items():
        _, group = plan.of(Task(species, name, 0))
        if is_gene_centred(group.identity):
            windows[group.pool] = windows.get(group.pool, 0) + count
            of[group.pool] = group
    for pool, count in windows.items():
        if needs_asking(count, of[pool]):
            raise InputError(_much(of[pool], count))


def _much(group: GroupPlan, windows: int) -> str:
    each = gene_bytes(group)
    name = group.embedder_name
    less = ""
    if group.identity["type"] == "enformer":
        width = next(iter(group.identity["outputs"].values())) * np.dtype(np.float16).itemsize
        less = (
            f', or keep less of each gene: [embedders.{name}] keep = "tss" stores {width:,} bytes'
        )
    return (
        f"[embedders.{name}]: {each:,} bytes a gene are {each * windows / 1e9:,.1f} GB for {windows:,} windows, more than "
        f"{LARGE / 1e9:.0f} GB. If that is meant, say --large{less}"
    )
