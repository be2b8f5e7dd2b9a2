"""One task = one shard, whole, once. Importable functions of plain arguments: Dask sends names, never arrays."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numcodecs
import numpy as np

from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.planning.packages import package_versions
from featurestore.build.reuse.pool import Pool, either
from featurestore.build.reuse.shared import known_vectors
from featurestore.build.shards.compute import Keep, Lookup, embed_range
from featurestore.build.shards.compute_genes import embed_genes
from featurestore.build.shards.given import GivenRows, given_range
from featurestore.build.shards.scratch import Lend, lending
from featurestore.build.shards.shard_writer import ShardWriter, commit_turn
from featurestore.build.shards.slots import StoppedError
from featurestore.build.shards.variant_tasks import (
    haplotype_source,
    variant_embedding,
    variant_sequence,
)
from featurestore.build.windows.mapped import mapped
from featurestore.build.windows.window_source import WindowSource, source_for
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import Embedder, is_gene_centred
from featurestore.embedders.registry import make_embedder
from featurestore.schema import BASES_CHUNK, Status
from featurestore.sequence.iupac import N
from featurestore.store.shard import crc32c
from featurestore.store.templates import ZSTD_LEVEL

Stamp = tuple[int, int, int]
Kind = Callable[[WorkArea, Task, GroupPlan, str | None, Lend], tuple[ShardWriter, dict[str, Any]]]


@lru_cache(maxsize=4)
def _plan(path: str, _stamp: Stamp) -> BuildPlan:
    return BuildPlan.load(Path(path))


def _stamp(work: WorkArea) -> Stamp:
    """Which plan lies there: no two that were written have the same."""
    found = work.plan.stat()
    return found.st_ino, found.st_mtime_ns, found.st_size


def load_plan(work: WorkArea) -> BuildPlan:
    """The plan of a work area, read once per process and version."""
    return _plan(str(work.plan), _stamp(work))


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


_loading = threading.Lock()


def loaded_embedder(group: GroupPlan, device: str | None) -> Embedder:
    """The embedder of a group, loaded once per process."""
    config = json.dumps(dict(group.embedder), sort_keys=True)
    with _loading:  # two tasks that ask at once would load two
        return _embedder(group.embedder_name, config, device)


def run_task(
    work_root: str, species: str, group: str, shard: int, device: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Compute and commit one shard, unless its marker says that it is done.

    Any number of attempts at one shard may run at once: the first to commit wins, the others
    throw theirs away.

    ``threads`` is what a model may use while it embeds: tasks run side by side, and libraries
    that each take every core are slower than one thread each.

    Returns
    -------
    dict of plain facts for the log: task, seconds, computed and reused bins, failures

    Raises
    ------
    StoppedError
        If the build is being stopped, or another has planned anew meanwhile.
    StorageError
        If there is no room to write.
    """
    work, task = WorkArea(Path(work_root)), Task(species, group, shard)
    started = time.perf_counter()
    stamp = _stamp(work)
    plan = _plan(str(work.plan), stamp)
    _, group_plan = plan.of(task)
    key = group_plan.keys[shard]
    if (marker := work.read_marker(task, key)) is not None:
        return {"task": task.path, "seconds": 0.0, "again": True, **marker.facts}
    if group_plan.embeds:
        loaded_embedder(group_plan, device)  # first: it may be what loads torch
    with lending() as lend:
        with limited_threads(threads) if group_plan.embeds else nullcontext():
            writer, facts = _KINDS[group_plan.kind](work, task, group_plan, device, lend)
        if group_plan.embeds:
            facts["packages"] = _packages()
        with commit_turn(work, task):
            if (marker := work.read_marker(task, key)) is not None:
                return {"task": task.path, "seconds": 0.0, "again": True, **marker.facts}
            if _stamp(work) != stamp:
                raise StoppedError(f"{task.path}: another build has planned this store anew")
            work.write_marker(task, key, writer.write(), facts)
    Pool(work.partial(task, key)).remove()
    if group_plan.kind in {"sequence", "embedder"}:
        window_source(work, species).let_go()
    return {"task": task.path, "seconds": time.perf_counter() - started, "again": False, **facts}


@lru_cache(maxsize=1)
def _packages() -> dict[str, str]:
    return package_versions()


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Hold torch, where it is loaded, to a number of threads on this thread of control."""
    torch = sys.modules.get("torch")
    if torch is None or not hasattr(
        torch, "set_num_threads"
    ):  # absent, or being imported by another task now
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _genome(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None, _lend: Lend
) -> tuple[ShardWriter, dict[str, Any]]:
    code = mapped(work.inputs(task.species) / "code.npy")
    codec = numcodecs.Zstd(level=ZSTD_LEVEL)
    writer = ShardWriter(work, task, group.shard_rows)
    for chunk in range(*group.span(task.shard)):
        piece = np.full(BASES_CHUNK, N, np.uint8)
        own = code[chunk * BASES_CHUNK : (chunk + 1) * BASES_CHUNK]
        piece[: len(own)] = own
        packed = bytes(codec.encode(piece.tobytes()))
        writer.chunk("code", chunk, [packed, crc32c(packed)])
    return writer, {}


def _sequence(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None, _lend: Lend
) -> tuple[ShardWriter, dict[str, Any]]:
    source = window_source(work, task.species)
    first, last = group.span(task.shard)
    codes, padded = source.region_codes(first, last)
    length = np.asarray(source.region_length[first:last])
    status = np.full(length.shape, Status.OK, np.uint8)
    status[codes.min(axis=-1, initial=N) >= N] = Status.NO_SEQUENCE
    status[length == 0] = Status.ABSENT
    writer = ShardWriter(work, task, group.shard_rows)
    writer.rows("code", codes)
    writer.block("status", status)
    writer.block("padded", padded)
    if source.ragged:
        writer.block("region_length", length.astype(np.int32))
    return writer, {
        "padded_genes": int((padded > 0).any(axis=1).sum()), "status": _count(status),
    }  # fmt: skip


def _expression(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None, _lend: Lend
) -> tuple[ShardWriter, dict[str, Any]]:
    value = mapped(work.inputs(task.species) / "expression.npy")
    first, last = group.span(task.shard)
    writer = ShardWriter(work, task, group.shard_rows)
    writer.block("value", np.asarray(value[first:last]), np.float32(np.nan))
    return writer, {}


def _earlier_work(
    work: WorkArea, task: Task, group: GroupPlan
) -> tuple[Lookup | None, Keep | None]:
    """What is known of the inputs of a shard, also from an attempt that was killed, and where to add to it."""
    if not group.identity["costly"]:
        return None, None
    partial = Pool(work.partial(task, group.keys[task.shard]))
    return either(known_vectors(work, group.pool), partial.lookup()), partial.put


def _embed(
    work: WorkArea, task: Task, group: GroupPlan, device: str | None, lend: Lend
) -> tuple[ShardWriter, dict[str, Any]]:
    source = source_for(window_source(work, task.species), group.identity)
    embedder = loaded_embedder(group, device)
    if is_gene_centred(group.identity):
        return _embed_genes(work, task, group, source, embedder, lend)
    if isinstance(embedder, GivenRows):
        inputs = work.inputs(task.species)
        result = given_range(embedder, source, inputs, task.species, *group.span(task.shard))
    else:
        known, keep = _earlier_work(work, task, group)
        result = embed_range(embedder, source, *group.span(task.shard), known, keep, lend)
    writer = ShardWriter(work, task, group.shard_rows)
    for name, values in result.outputs.items():
        writer.rows(name, values)
    writer.block("status", result.status)
    writer.block("input_digest", result.digest)
    if source.ragged:
        writer.block("bin_valid", result.valid, False)
    return writer, {
        "computed": result.computed, "reused": result.reused, "status": _count(result.status),
        "failures": result.failures,
    }  # fmt: skip


def _embed_genes(
    work: WorkArea, task: Task, group: GroupPlan, source: WindowSource, embedder: Embedder,
    lend: Lend,
) -> tuple[ShardWriter, dict[str, Any]]:  # fmt: skip
    first, last = group.span(task.shard)
    result = embed_genes(embedder, source, first, last, *_earlier_work(work, task, group), lend)
    padded = source.off_contig(first, last)
    writer = ShardWriter(work, task, group.shard_rows)
    for name, values in result.outputs.items():
        writer.rows(name, values)
    writer.block("status", result.status)
    writer.block("padded", padded)
    writer.block("input_digest", result.digest)
    return writer, {
        "computed": result.computed, "reused": result.reused, "status": _count(result.status),
        "padded_genes": int((padded > 0).sum()), "failures": result.failures,
    }  # fmt: skip


def _variant_sequence(
    work: WorkArea, task: Task, group: GroupPlan, _device: str | None, _lend: Lend
) -> tuple[ShardWriter, dict[str, Any]]:
    source = haplotype_source(work, window_source(work, task.species), task.species, group)
    return variant_sequence(work, task, group, source)


def _variant_embed(
    work: WorkArea, task: Task, group: GroupPlan, device: str | None, lend: Lend
) -> tuple[ShardWriter, dict[str, Any]]:
    windows = source_for(window_source(work, task.species), group.identity)
    source = haplotype_source(work, windows, task.species, group)
    embedder = loaded_embedder(group, device)
    known, keep = _earlier_work(work, task, group)
    return variant_embedding(work, task, group, source, embedder, known, keep)


def _count(status: Any) -> dict[str, int]:
    return {s.name.lower(): int((status == s).sum()) for s in Status if (status == s).any()}


_KINDS: dict[str, Kind] = {
    "genome": _genome,
    "sequence": _sequence,
    "expression": _expression,
    "embedder": _embed,
    "variant_sequence": _variant_sequence,
    "variant_embedder": _variant_embed,
}
