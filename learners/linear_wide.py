"""Ridge regression on so many columns and rows that an eigendecomposition would take hours.

The same regression as in :mod:`learners.linear`. One symmetric matrix is held, of columns or of
rows, whichever are fewer, and nothing else that grows. Its products are taken in float32 and
summed in float64. Penalties are compared from coarse to fine, a Cholesky factor for each: 11 of a
grid of 33, where the error has one minimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.batch import FeatureBatch, MiniBatch, concat
from learners.standardise import Standardiser
from learners.symmetric import NotPositiveError, SymmetricMatrix

WIDE: Final = 4096
"""Columns and rows above which this is the quicker way."""

CELLS: Final = 1 << 25
"""Values of features in memory at a time: 128 MB in float32."""

Weights = Callable[[float], NDArray[np.float64]]
Scores = Callable[[NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True)
class Solution:
    """Weights on standardised columns, shape (columns, t), with the chosen penalties (t,)."""

    standardiser: Standardiser
    weight: NDArray[np.float64]
    intercept: NDArray[np.float64]
    penalty: NDArray[np.float64]


def wide_primal(
    train: FeatureBatch,
    valid: FeatureBatch,
    grid: NDArray[np.float64],
    scales: NDArray[np.float64] | None = None,
) -> Solution:
    """Fit by the normal equations: memory is that of columns × columns, however many rows."""
    standardiser = Standardiser.fit(train).scaled(scales)
    columns, mean = train.columns, train.require_targets().mean(axis=0)
    matrix, right = SymmetricMatrix(columns), np.zeros((columns, len(mean)))
    total, label_total = np.zeros(columns), np.zeros(len(mean))

    def add(batch: FeatureBatch) -> None:
        labels = batch.require_targets() - mean
        for part, rows in _standardised(batch, standardiser):
            here = labels[part.index]
            matrix.add_gram(rows)
            right[:] += rows.T @ here.astype(np.float32)
            total[:] += rows.sum(axis=0, dtype=np.float64)
            label_total[:] += here.sum(axis=0)

    add(train)
    best = np.zeros(len(mean), np.int64)
    if len(grid) > 1:
        best = _search(
            grid, valid.require_targets() - mean,
            lambda penalty: matrix.solve(right, penalty),
            lambda weights: _predicted(valid, standardiser, weights),
        )  # fmt: skip
    add(valid)
    rows = len(train) + len(valid)
    matrix.subtract(total[:, None] / rows, total[None])
    right -= np.outer(total, label_total / rows)
    weight = _solve_each(matrix, right, grid[best])
    intercept = mean + label_total / rows - (total / rows) @ weight
    return Solution(standardiser, weight, intercept, grid[best])


def wide_dual(
    train: FeatureBatch,
    valid: FeatureBatch,
    grid: NDArray[np.float64],
    scales: NDArray[np.float64] | None = None,
) -> Solution:
    """Fit by the kernel of rows: memory is that of rows × rows, which are fewer than the columns."""
    n = len(train)
    # Rows of one shard lie together, training rows first.
    both = concat(train.take(train.shard_order()), valid.take(valid.shard_order()))
    standardiser = Standardiser.fit(train).scaled(scales)
    kernel = _kernel(both, standardiser)
    labels, held_out = both.require_targets(), slice(n, len(both))
    best = np.zeros(labels.shape[1], np.int64)
    if len(grid) > 1:
        mean = labels[:n].mean(axis=0)
        right = np.zeros_like(labels)
        right[:n] = labels[:n] - mean
        best = _search(
            grid, labels[n:] - mean,
            lambda penalty: kernel.solve(right, penalty, held_out)[:n],
            lambda weights: kernel.values[:n, n:].T @ weights,
        )  # fmt: skip
    # Centre on the rows of both: H K H with H = I − 1/m.
    ones = np.ones(len(both))
    means = kernel.times(ones) / len(both)
    half = means - means.mean() / 2
    kernel.subtract(np.stack([half, ones], axis=1), np.stack([ones, half]))
    mean = labels.mean(axis=0)
    coefficient = _solve_each(kernel, labels - mean, grid[best])
    coefficient -= coefficient.mean(axis=0)
    weight, centre = np.zeros((both.columns, len(mean))), np.zeros(both.columns)
    for part, rows in _standardised(both, standardiser):
        weight += rows.T @ coefficient[part.index].astype(np.float32)
        centre += rows.sum(axis=0, dtype=np.float64)
    intercept = mean - (centre / len(both)) @ weight
    return Solution(standardiser, weight, intercept, grid[best])


def _kernel(both: FeatureBatch, standardiser: Standardiser) -> SymmetricMatrix:
    """Products of all pairs of rows, by blocks of rows: each is read once for each one before it."""
    kernel, step = SymmetricMatrix(len(both)), _rows_at_once(both)
    starts = range(0, len(both), step)

    def block(start: int) -> NDArray[np.float32]:
        index = np.arange(start, min(start + step, len(both)), dtype=np.int64)
        part, rows = next(_standardised(both.take(index), standardiser, len(index)))
        return rows[np.argsort(part.index)]

    for first in starts:
        above = block(first)
        for second in starts[first // step :]:
            beside = above if second == first else block(second)
            kernel.set_product(first, above, second, beside)
    return kernel


def _rows_at_once(batch: FeatureBatch) -> int:
    return max(64, min(4096, CELLS // batch.columns))


def _standardised(
    batch: FeatureBatch, standardiser: Standardiser, rows: int | None = None
) -> Iterator[tuple[MiniBatch, NDArray[np.float32]]]:
    """Standardised features in float32, some rows at a time, in the order of shards."""
    stored = [block.source.dtype for block in batch.blocks.values() if block.kind != "codes"]
    dtype = np.result_type(np.float32, *stored)
    # In two terms: one float32 would shift the columns with a large mean.
    mean = standardiser.mean.astype(dtype)
    rest = (standardiser.mean - mean).astype(dtype)
    inverse = standardiser.inverse.astype(dtype)
    for part in batch.runs(rows or _rows_at_once(batch)):
        values = batch.matrix(part, dtype)
        values -= mean
        values -= rest
        values *= inverse
        yield part, values.astype(np.float32, copy=False)


def _predicted(
    batch: FeatureBatch, standardiser: Standardiser, weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    out, single = np.empty((len(batch), weights.shape[1])), weights.astype(np.float32)
    for part, rows in _standardised(batch, standardiser):
        out[part.index] = rows @ single
    return out


def _search(
    grid: NDArray[np.float64], labels: NDArray[np.float64], weights: Weights, scores: Scores
) -> NDArray[np.int64]:
    """Place in the grid of the penalty with the least error on held-out rows, per target.

    Every eighth of 33 penalties first, then those between the best and its neighbours. A penalty
    too small to be solved with counts as the worst.
    """
    targets = labels.shape[1]
    loss = np.full((len(grid), targets), np.nan)
    step = max(1, (len(grid) - 1) // 4)
    wanted = {*range(0, len(grid), step), len(grid) - 1}
    while True:
        fresh = sorted(i for i in wanted if np.isnan(loss[i, 0]))
        found: dict[int, NDArray[Any]] = {}
        for i in fresh:
            try:
                found[i] = weights(float(grid[i]))
            except NotPositiveError:
                loss[i] = np.inf
        if found:
            predicted = scores(np.concatenate(list(found.values()), axis=1))
            errors = (predicted.reshape(len(labels), -1, targets) - labels[:, None]) ** 2
            loss[list(found)] = errors.mean(axis=0)
        best = np.asarray(np.nanargmin(loss, axis=0), np.int64)
        if step == 1:
            return best
        step = (step + 1) // 2
        near = {int(i) + side for i in best for side in (-step, step)}
        wanted = {i for i in near if 0 <= i < len(grid)}


def _solve_each(
    matrix: SymmetricMatrix, right: NDArray[np.float64], penalties: NDArray[np.float64]
) -> NDArray[np.float64]:
    out = np.empty_like(right)
    for penalty in np.unique(penalties):
        here = penalties == penalty
        out[:, here] = matrix.solve(right[:, here], float(penalty))
    return out
