"""Columns to mean 0 and deviation 1, measured on training rows only, one shard at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.batch import FeatureBatch, MiniBatch


@dataclass(frozen=True)
class Standardiser:
    """Mean and inverse deviation of each column, shape (columns,), float64.

    A constant column has inverse deviation 0: it becomes 0 everywhere, also in rows in which
    it is not constant.
    """

    mean: NDArray[np.float64]
    inverse: NDArray[np.float64]

    @classmethod
    def fit(cls, batch: FeatureBatch) -> Standardiser:
        """Measure the rows of a batch in one pass.

        Sums are taken around the first row: a constant column then has variance 0 exactly,
        and a large mean does not swallow a small variance.
        """
        count, shift = 0, np.zeros(batch.columns)
        total, squares = np.zeros(batch.columns), np.zeros(batch.columns)
        for part in batch.shards():
            rows = batch.matrix(part, np.float64)
            if not count:
                shift = rows[0].copy()
            rows -= shift
            count += len(rows)
            total += rows.sum(axis=0)
            squares += np.einsum("ij,ij->j", rows, rows)
        return cls.of_moments(count, shift, total, squares)

    @classmethod
    def of_moments(
        cls,
        count: int,
        shift: NDArray[np.float64],
        total: NDArray[np.float64],
        squares: NDArray[np.float64],
    ) -> Standardiser:
        """From the count, sums and sums of squares of ``rows - shift``."""
        variance = squares / count - (total / count) ** 2
        # What rounding leaves of a variance that is zero.
        variance[variance <= 1e-13 * squares / count] = 0.0
        inverse = np.zeros_like(variance)
        np.divide(1.0, np.sqrt(variance), out=inverse, where=variance > 0)
        return cls(shift + total / count, inverse)

    def scaled(self, scale: NDArray[np.float64] | None) -> Standardiser:
        """Columns to these deviations in place of 1; None leaves them."""
        return self if scale is None else replace(self, inverse=self.inverse * scale)

    def matrix(self, batch: FeatureBatch, part: MiniBatch) -> NDArray[np.float64]:
        """Standardised features of some rows of a batch, shape (rows, columns)."""
        rows: NDArray[np.float64] = batch.matrix(part, np.float64)
        rows -= self.mean
        rows *= self.inverse
        return rows

    def array(self, batch: FeatureBatch, dtype: Any = np.float32) -> NDArray[Any]:
        """Standardised features of all rows, shape (n, columns)."""
        out = np.empty((len(batch), batch.columns), dtype)
        for part in batch.shards():
            out[part.index] = self.matrix(batch, part)
        return out
