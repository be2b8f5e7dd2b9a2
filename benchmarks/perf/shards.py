"""Writing and reading one shard, against a raw write and a memory map of the same bytes."""

from __future__ import annotations

import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zarr

from featurestore.schema import spec_of
from featurestore.store.shard import read_rows, write_rows
from featurestore.store.templates import chunk_path, create_array

GENES, ROW = 512, (40, 384)


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Ratios for a shard of 512 genes × 40 bins × 384 channels in float16 (15.7 MB).

    A ratio of 1 is as fast as the reference; write includes checksums and fsync and so does its
    reference; reads are of files in the page cache, checksums verified.
    """
    values = np.random.default_rng(0).standard_normal((GENES, *ROW)).astype(np.float16)
    raw = values.tobytes()
    order = np.random.default_rng(1).permutation(GENES)[:64].astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        create_array(
            root,
            "a",
            spec_of("<embedder>/<output>"),
            values.shape,
            dtype="float16",
            chunk_rows=GENES,
        )
        path = chunk_path(root, "a", (0, 0, 0))
        plain = root / "plain.bin"

        def write_raw() -> None:
            with plain.open("wb", buffering=0) as file:
                file.write(raw)
                os.fsync(file.fileno())

        def read(rows: np.ndarray) -> None:
            out = np.empty((len(rows), *ROW), "<f2")
            read_rows(path, rows, GENES, GENES, out, np.arange(len(rows)))

        def mapped(rows: np.ndarray) -> None:
            np.ascontiguousarray(np.memmap(plain, "<f2", "r", shape=values.shape)[rows])

        def by_zarr(rows: np.ndarray) -> None:
            np.asarray(zarr.open_array(root, path="a", mode="r").oindex[rows])

        every = np.arange(GENES, dtype=np.int64)
        write_rows(path, values, GENES)
        write_raw()
        figures = {
            "write a shard, of raw write + fsync": _ratio(
                write_raw, lambda: write_rows(path, values, GENES), repeats
            ),
            "read a shard verified, of a memory map": _ratio(
                lambda: mapped(every), lambda: read(every), repeats
            ),
            "gather 64 genes verified, of a memory map": _ratio(
                lambda: mapped(order), lambda: read(order), repeats
            ),
            "gather 64 genes, of zarr-python": _ratio(
                lambda: by_zarr(order), lambda: read(order), 3
            ),
        }
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        write_rows(path, values, GENES)
        extra = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        figures["extra memory of writing a shard, of its bytes"] = extra / len(raw)
    return figures


def _ratio(reference: Callable[[], object], ours: Callable[[], object], repeats: int) -> float:
    """Median of reference time ÷ our time, measured in turn."""
    return statistics.median(seconds(reference) / seconds(ours) for _ in range(repeats))
