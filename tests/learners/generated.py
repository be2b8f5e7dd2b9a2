"""Rows of features that are drawn when they are read, so that what a learner holds is its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.batch import Block, FeatureBatch

SHARD = 256


class GeneratedSource:
    """A source of float16 whose shards are drawn anew each time."""

    kind, dims, valid = "tabular", ("channel",), None
    dtype: np.dtype[Any] = np.dtype(np.float16)
    coords: Mapping[str, NDArray[Any]] = {}

    def __init__(self, rows: int, columns: int) -> None:
        self.rows, self.shape = rows, (columns,)
        self.shard_start = np.arange(0, rows, SHARD, dtype=np.int64)

    def __len__(self) -> int:
        return self.rows

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for."""
        out = np.empty((len(rows), *self.shape), np.float16)
        shard = rows // SHARD
        for one in np.unique(shard).tolist():
            here = shard == one
            drawn = np.random.default_rng(one).random((SHARD, *self.shape), np.float32)
            out[here] = drawn[rows[here] % SHARD]
        return out


def batch_of(source: GeneratedSource, rows: NDArray[np.int64]) -> FeatureBatch:
    """Some rows, the target is the first column with noise."""
    ids = np.full(len(rows), "g")
    noise = np.random.default_rng(0).normal(0, 0.3, len(rows))
    first = np.concatenate([source.read(part)[:, 0] for part in np.array_split(rows, 20)])
    return FeatureBatch({"x": Block(source, rows)}, ids, ids, ids, targets=(first + noise)[:, None])
