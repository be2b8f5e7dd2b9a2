"""One task = one shard, whole, once. Importable functions of plain arguments: Dask sends names, never arrays."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np

from featurestore.build.compute import EmbeddedRange, Keep, Lookup, embed_range
from featurestore.build.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.mapped import mapped
from featurestore.build.packages import package_versions
from featurestore.build.pool import Pool, either
from featurestore.build.shared import known_vectors
from featurestore.build.variant_tasks import (
    haplotype_source,
    write_variant_embedding,
    write_variant_sequence,
)
from featurestore.build.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import Embedder
from featurestore.embedders.registry import make_embedder
from featurestore.schema import BASES_CHUNK, Status
from featurestore.sequence.iupac import N
from featurestore.store.shard import WrittenFile, commit_file, crc32c, write_block, write_rows
from featurestore.store.templates import ZSTD_LEVEL, chunk_path

Written = dict[str, WrittenFile]


@lru_cache(maxsize=4)
def _plan(path: str, _stamp: int) -> BuildPlan:
    return BuildPlan.load(Path(path))


def load_plan(work: WorkArea) -> BuildPlan:
    """The plan of a work area, read once per process and version."""
    return _plan(str(work.plan), work.plan.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _source(folder: str, _stamp: int) -> WindowSource:
    return WindowSource(Path(folder))


def window_source(work: WorkArea, species: str) -> WindowSource:
    """The windows of a species, opened once per process and version."""
    folder = work.inputs(species)
    return _source(str(folder), (folder / "windows.json").stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _embedder(name: str, config: str, device: str | None) -> Embedder:
    embedder = make_embedder(name, json.loads(config))
    embedder.load(device)
    return embedder


def loaded_embedder(group: GroupPlan, device: str | None) -> Embedder:
    """The embedder of a group, loaded once per process."""
    return _embedder(group.embedder_name, json.dumps(dict(group.embedder), sort_keys=True), device)


def run_task(
    work_root: str, species: str, group: str, shard: int, device: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Compute and commit one shard, unless its marker says that it is done.

    ``threads`` is what a model may use while it embeds: tasks run side by side, and libraries
    that each take every core are slower than one thread each.

    Returns
    -------
    dict of plain facts for the log: task, seconds, computed and reused bins, failures
    """
    work, task = WorkArea(Path(work_root)), Task(species, group, shard)
    started = time.perf_counter()
    plan = load_plan(work)
    _, group_plan = plan.of(task)
    key = group_plan.keys[shard]
    if (marker := work.read_marker(task, key)) is not None:
        return {"task": task.path, "seconds": 0.0, "again": True, **marker.facts}
    if group_plan.embeds:
        loaded_embedder(group_plan, device)  # first: it may be what loads torch
    with limited_threads(threads):
        files, facts = _KINDS[group_plan.kind](work, task, group_plan, device)
    if group_plan.embeds:
        facts["packages"] = package_versions()
    work.write_marker(task, key, files, facts)
    Pool(work.partial(task, key)).remove()
    return {"task": task.path, "seconds": time.perf_counter() - started, "again": False, **facts}


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Hold torch, where it is loaded, to a number of threads on this thread of control."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _relative(work: WorkArea, files: dict[Path, WrittenFile]) -> Written:
    return {p.relative_to(work.store).as_posix(): f for p, f in files.items()}


def _genome(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None
) -> tuple[Written, dict[str, Any]]:
    code = mapped(work.inputs(task.species) / "code.npy")
    codec = numcodecs.Zstd(level=ZSTD_LEVEL)
    files = {}
    for chunk in range(*group.span(task.shard)):
        piece = np.full(BASES_CHUNK, N, np.uint8)
        own = code[chunk * BASES_CHUNK : (chunk + 1) * BASES_CHUNK]
        piece[: len(own)] = own
        packed = bytes(codec.encode(piece.tobytes()))
        path = chunk_path(work.store, f"{task.species}/genome/code", (chunk,))
        files[path] = commit_file(path, [packed, crc32c(packed)])
    return _relative(work, files), {}


def _sequence(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None
) -> tuple[Written, dict[str, Any]]:
    source = window_source(work, task.species)
    first, last = group.span(task.shard)
    codes, padded = source.region_codes(first, last)
    length = np.asarray(source.region_length[first:last])
    status = np.full(length.shape, Status.OK, np.uint8)
    status[(codes >= 4).all(axis=-1)] = Status.NO_SEQUENCE
    status[length == 0] = Status.ABSENT
    base, size = f"{task.species}/sequence", group.shard_rows

    def block(name: str, values: Any, fill: Any) -> tuple[Path, WrittenFile]:
        path = chunk_path(work.store, f"{base}/{name}", (task.shard, 0))
        return path, write_block(path, values, size, fill)

    rows = chunk_path(work.store, f"{base}/code", (task.shard, 0, 0))
    files = {rows: write_rows(rows, codes, size)}
    files |= dict([block("status", status, 0), block("padded", padded, 0)])
    if source.ragged:
        files |= dict([block("region_length", length.astype(np.int32), 0)])
    facts = {"padded_genes": int((padded > 0).any(axis=1).sum()), "status": _count(status)}
    return _relative(work, files), facts


def _expression(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None
) -> tuple[Written, dict[str, Any]]:
    value = mapped(work.inputs(task.species) / "expression.npy")
    first, last = group.span(task.shard)
    path = chunk_path(work.store, f"{task.species}/expression/value", (task.shard, 0))
    written = write_block(path, np.asarray(value[first:last]), group.shard_rows, np.float32(np.nan))
    return _relative(work, {path: written}), {}


def _earlier_work(
    work: WorkArea, task: Task, group: GroupPlan
) -> tuple[Lookup | None, Keep | None]:
    """What is known of the inputs of a shard, also from an attempt that was killed, and where to add to it."""
    if not group.identity["costly"]:
        return None, None
    partial = Pool(work.partial(task, group.keys[task.shard]))
    return either(known_vectors(work, group.pool), partial.lookup()), partial.put


def _embed(
    work: WorkArea, task: Task, group: GroupPlan, device: str | None
) -> tuple[Written, dict[str, Any]]:
    source = window_source(work, task.species)
    embedder = loaded_embedder(group, device)
    known, keep = _earlier_work(work, task, group)
    result = embed_range(embedder, source, *group.span(task.shard), known, keep)
    facts = {
        "computed": result.computed, "reused": result.reused, "status": _count(result.status),
        "failures": result.failures,
    }  # fmt: skip
    return _relative(work, _write_embedded(work, task, group, source, result)), facts


def _variant_sequence(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None
) -> tuple[Written, dict[str, Any]]:
    source = haplotype_source(work, window_source(work, task.species), task.species, group)
    files, facts = write_variant_sequence(work, task, group, source)
    return _relative(work, files), facts


def _variant_embed(
    work: WorkArea, task: Task, group: GroupPlan, device: str | None
) -> tuple[Written, dict[str, Any]]:
    source = haplotype_source(work, window_source(work, task.species), task.species, group)
    embedder = loaded_embedder(group, device)
    known, keep = _earlier_work(work, task, group)
    files, facts = write_variant_embedding(work, task, group, source, embedder, known, keep)
    return _relative(work, files), facts


def _write_embedded(
    work: WorkArea, task: Task, group: GroupPlan, source: WindowSource, result: EmbeddedRange
) -> dict[Path, WrittenFile]:
    base, size = f"{task.species}/{group.name}", group.shard_rows
    files = {}
    for name, values in result.outputs.items():
        path = chunk_path(work.store, f"{base}/{name}", (task.shard, *(0,) * (values.ndim - 1)))
        files[path] = write_rows(path, values, size)
    blocks: list[tuple[str, Any, Any]] = [
        ("status", result.status, 0),
        ("input_digest", result.digest, 0),
    ]
    if source.ragged:
        blocks.append(("bin_valid", result.valid, False))
    for name, values, fill in blocks:
        path = chunk_path(work.store, f"{base}/{name}", (task.shard, *(0,) * (values.ndim - 1)))
        files[path] = write_block(path, values, size, fill)
    return files


def _count(status: Any) -> dict[str, int]:
    return {s.name.lower(): int((status == s).sum()) for s in Status if (status == s).any()}


_KINDS: dict[
    str, Callable[[WorkArea, Task, GroupPlan, str | None], tuple[Written, dict[str, Any]]]
] = {
    "genome": _genome,
    "sequence": _sequence,
    "expression": _expression,
    "embedder": _embed,
    "variant_sequence": _variant_sequence,
    "variant_embedder": _variant_embed,
}
