"""Mini-batches of a feature batch as tensors on a device, for training and validation.

Small features are read once and held on the device. Larger ones are read run by run, each in the
order of the files, ahead of their use: memory is that of a few runs, however many genes there are.
The order of rows is the same in both cases: blocks of genes that lie together on disk are put in
random order, and mixed within a run.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.loader.batches import Batch, Tensors
from featurestore.loader.order import block_permutation
from featurestore.loader.prefetch import in_turn, prefetched
from learners.batch import FeatureBatch, MiniBatch
from learners.neural.distributed import Ranks
from learners.targets import TargetScale, observed

CACHE_BYTES: Final = 1 << 30
"""Features up to this size are held in memory; on CUDA up to half of the free device memory."""

RUN_BYTES: Final = 128 << 20
"""Features of a run of rows that are mixed with each other."""

BLOCK_ROWS: Final = 16
"""Rows next to each other on disk that are read together."""

MAX_RUN: Final = 16384

Values = dict[str, Tensor]


class Rows:
    """Mini-batches of a feature batch.

    Parameters
    ----------
    batch : FeatureBatch
        With targets.
    scale : TargetScale
        By which targets are standardised.
    device : str
    ranks : Ranks
        Each process is given its share of every mini-batch.
    seed : int
        Of the order.
    """

    def __init__(
        self, batch: FeatureBatch, scale: TargetScale, device: str, ranks: Ranks, seed: int = 0
    ) -> None:
        self._batch, self.device, self.ranks, self._seed = batch, placed(device), ranks, seed
        known = observed(batch)
        targets = np.where(known, scale.apply(batch.require_targets()), 0.0)
        self._targets = torch.from_numpy(targets.astype(np.float32)).to(self.device)
        self._known = torch.from_numpy(known.astype(np.float32)).to(self.device)
        self._row_bytes = max(1, sum(
            math.prod(block.shape[1:]) * block.source.dtype.itemsize
            for block in batch.blocks.values()
        ))  # fmt: skip
        self._blocks, self._place = _blocks(batch)
        self._held: Values | None = None
        if len(batch) and self._row_bytes * len(batch) <= _room(self.device):
            self._held = _held(batch, self.device)

    def __len__(self) -> int:
        return len(self._batch)

    def batches(self, size: int, epoch: int | None) -> Iterator[tuple[Values, Tensor, Tensor]]:
        """Features, standardised targets, 1 where a target is observed: this process's share.

        Parameters
        ----------
        size : int
            Of a mini-batch, over all processes.
        epoch : int or None
            Which order; None is that of the files.
        """
        for index, values in self._values(self.order(size, epoch), size):
            rows = torch.from_numpy(index).to(self.device)
            yield values, self._targets[rows], self._known[rows]

    def left(self, size: int, number: int) -> int:
        """Rows of one batch, over all processes."""
        return min(size, len(self._batch) - number * size)

    def order(self, size: int, epoch: int | None) -> NDArray[np.int64]:
        """Positions of all rows in the order of an epoch."""
        if epoch is None:
            return np.argsort(self._place, kind="stable").astype(np.int64)
        return block_permutation(self._blocks, self._run_rows(size), self._seed, epoch)

    def _run_rows(self, size: int) -> int:
        """Rows of a run: whole mini-batches."""
        return max(1, min(RUN_BYTES // self._row_bytes, MAX_RUN) // size) * size

    def _values(
        self, order: NDArray[np.int64], size: int
    ) -> Iterator[tuple[NDArray[np.int64], Values]]:
        held = self._held
        if held is None:
            parts = self._streamed(order, size)
            if self.device.startswith("cuda"):
                yield from _through_pinned(parts, self.device)
            else:
                for index, arrays in parts:
                    yield index, {name: tensor_of(a) for name, a in arrays.items()}
            return
        for start in range(0, len(order), size):
            index = order[start : start + size][self.ranks.rank :: self.ranks.world_size]
            rows = torch.from_numpy(index).to(self.device)
            yield index, {name: _number(values[rows]) for name, values in held.items()}

    def _streamed(
        self, order: NDArray[np.int64], size: int
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.generic]]]]:
        run = self._run_rows(size)
        tasks = (
            partial(self._read, order[start : start + run], size)
            for start in range(0, len(order), run)
        )
        where = np.zeros(len(self._batch), np.int64)
        with closing(prefetched(tasks, depth=1)) as runs:
            start = 0
            for rows, values in runs:
                where[rows] = np.arange(len(rows))
                end = min(start + run, len(order))
                for first in range(start, end, size):
                    index = order[first : min(first + size, end)]
                    index = index[self.ranks.rank :: self.ranks.world_size]
                    yield index, {name: held[where[index]] for name, held in values.items()}
                start = end
                del values  # the next run is read while this one is used; a third has no room

    def _read(
        self, span: NDArray[np.int64], size: int
    ) -> tuple[NDArray[np.int64], dict[str, NDArray[np.generic]]]:
        """The rows of a run that this process has, in the order of the files."""
        mine = np.arange(len(span)) % size % self.ranks.world_size == self.ranks.rank
        rows = span[mine]
        rows = rows[np.argsort(self._place[rows], kind="stable")]
        if not len(rows):
            return rows, {}
        return rows, next(self._batch.take(rows).iter(len(rows))).values


def placed(device: str) -> str:
    """The device by number: threads other than this one have another current device."""
    return f"cuda:{torch.cuda.current_device()}" if device == "cuda" else device


def _blocks(batch: FeatureBatch) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of the block on disk of each row, 0 … blocks − 1, and the row's place on disk."""
    if not batch.blocks:
        place = np.arange(len(batch), dtype=np.int64)
        return place // BLOCK_ROWS, place
    first = next(iter(batch.blocks.values()))
    shards = first.source.shard_start
    start = shards[np.maximum(np.searchsorted(shards, first.rows, side="right") - 1, 0)]
    block = start + (first.rows - start) // BLOCK_ROWS * BLOCK_ROWS
    return np.unique(block, return_inverse=True)[1].reshape(-1).astype(np.int64), first.rows


def _room(device: str) -> int:
    """Bytes of features that may be held."""
    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0]) // 2
    return CACHE_BYTES


def _held(batch: FeatureBatch, device: str) -> Values:
    """All features on the device in their stored dtype, read a shard at a time."""
    held: Values = {}
    for part in batch.shards():
        rows = torch.from_numpy(part.index).to(device)
        for name, values in part.values.items():
            read = torch.from_numpy(np.ascontiguousarray(values))
            if name not in held:
                held[name] = torch.empty((len(batch), *read.shape[1:]), dtype=read.dtype, device=device)  # fmt: skip
            held[name][rows] = read.to(device)
    return held


def _through_pinned(
    parts: Iterator[tuple[NDArray[np.int64], dict[str, NDArray[np.generic]]]], device: str
) -> Iterator[tuple[NDArray[np.int64], Values]]:
    """Copied to a CUDA device beside the computation, from page-locked memory, in stored dtype."""
    made = Tensors(torch.float32, device, False)
    none = np.empty(0, np.int64)

    def copies() -> Iterator[tuple[NDArray[np.int64], object]]:
        for index, arrays in parts:
            pinned = {
                name: torch.from_numpy(np.ascontiguousarray(a)).pin_memory()
                for name, a in arrays.items()
            }
            yield index, made.prepare(Batch(pinned, none, none, none, None))

    with closing(prefetched(in_turn(copies()), depth=3)) as ahead:
        for index, ready in ahead:
            yield index, made.hand_over(ready).features  # type: ignore[arg-type] # what prepare gave


def tensor_of(values: NDArray[np.generic]) -> Tensor:
    """A tensor: codes stay bytes, numbers become float32."""
    return _number(torch.from_numpy(np.ascontiguousarray(values)))


def _number(values: Tensor) -> Tensor:
    return values.float() if values.is_floating_point() else values


def tensors_of(part: MiniBatch, device: str) -> Values:
    """Features of a mini-batch on a device."""
    return {name: tensor_of(values).to(device) for name, values in part.values.items()}
