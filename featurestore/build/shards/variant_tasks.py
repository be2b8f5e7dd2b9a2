"""Shards of the variant sets: bases of changed regions, vectors of changed bins."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import GroupPlan, Task
from featurestore.build.planning.variant_plan import set_folder
from featurestore.build.shards.compute import STORED, Keep, Lookup, ModelInputs, embed_distinct
from featurestore.build.shards.compute_genes import CutInputs, gene_shape
from featurestore.build.shards.shard_writer import ShardWriter
from featurestore.build.windows.haplotype_source import (
    PLACE,
    REGIONS,
    ChangedInputs,
    HaplotypeSource,
    rows_name,
)
from featurestore.build.windows.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import Embedder, is_gene_centred
from featurestore.schema import Status
from featurestore.sequence.iupac import N


@lru_cache(maxsize=64)
def _haplotypes(source: WindowSource, folder: Path, _stamp: int) -> HaplotypeSource:
    return HaplotypeSource(source, folder)


def haplotype_source(
    work: WorkArea, source: WindowSource, species: str, group: GroupPlan
) -> HaplotypeSource:
    """The haplotypes that a group belongs to, opened once per process and version."""
    folder = set_folder(work.inputs(species), group.variant_set)
    return _haplotypes(source, folder, (folder / "haplotypes.json").stat().st_mtime_ns)


def variant_sequence(
    work: WorkArea, task: Task, group: GroupPlan, source: HaplotypeSource
) -> tuple[ShardWriter, dict[str, Any]]:
    """One shard of ``variants/<set>/sequence``."""
    first, last = group.span(task.shard)
    place = ChangedInputs.load(source.folder, REGIONS).place[first:last]
    codes = np.stack([source.region_code(h, r) for h, _, r, _ in place.tolist()])
    writer = ShardWriter(work, task, group.shard_rows)
    writer.packed("code", codes, N)
    _places(writer, place, PLACE[:3])
    return writer, {"rows": last - first}


def variant_embedding(
    work: WorkArea, task: Task, group: GroupPlan, source: HaplotypeSource, embedder: Embedder,
    known: Lookup | None, keep: Keep | None = None,
) -> tuple[ShardWriter, dict[str, Any]]:  # fmt: skip
    """One shard of ``variants/<set>/<embedder>``."""
    first, last = group.span(task.shard)
    rows = ChangedInputs.load(source.folder, rows_name(group.identity))
    place, countable = np.asarray(rows.place[first:last]), np.asarray(rows.countable[first:last])
    digest = np.asarray(rows.digest[first:last])
    at, whole = np.flatnonzero(countable), is_gene_centred(group.identity)

    def cut(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        places = place[rows].tolist()
        return np.stack(
            [source.one_input(h, r, b, embedder.spec.input_bp) for h, _, r, b in places]
        )

    def codes(chosen: NDArray[np.int64]) -> ModelInputs:
        return CutInputs(cut, at[chosen]) if whole else cut(at[chosen])

    shapes = embedder.spec.shapes()
    filled = {name: np.zeros((len(place), *shape), STORED) for name, shape in shapes.items()}
    computed, reused, bad = embed_distinct(embedder, codes, digest[at], filled, at, known, keep)
    status = np.where(countable, Status.OK, Status.NO_SEQUENCE).astype(np.uint8)
    failures = _failed(bad, at, status, first)
    writer = ShardWriter(work, task, group.shard_rows)
    for name, full in filled.items():
        full[status == Status.FAILED] = np.nan
        if whole:
            full = full.reshape(len(full), *gene_shape(embedder, full.shape[1:]))
        writer.packed(name, full, np.float16(np.nan))
    _places(writer, place, PLACE)
    writer.block("status", status)
    writer.block("input_digest", digest)
    return writer, {"computed": computed, "reused": reused, "failures": failures}


def _failed(
    bad: Mapping[str, NDArray[np.bool_]],
    at: NDArray[np.int64],
    status: NDArray[np.uint8],
    first: int,
) -> list[str]:
    """Mark rows with a vector that float16 cannot hold, and say which."""
    told = []
    for name, which in bad.items():
        for row in at[which].tolist():
            status[row] = Status.FAILED
            told.append(
                f"row {first + row}: {name} is not finite in float16 (overflow past 65,504 or NaN)"
            )
    return told


def _places(writer: ShardWriter, place: NDArray[np.int32], names: tuple[str, ...]) -> None:
    for column, name in enumerate(names):
        writer.block(name, np.ascontiguousarray(place[:, column]))
