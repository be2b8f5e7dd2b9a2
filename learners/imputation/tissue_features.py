"""What trees are told of one tissue of a gene seen in part: the other tissues, in several words."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learners.imputation.gaussian import Gaussian
from learners.imputation.table import Profiles


@dataclass(frozen=True)
class TissueTable:
    """Rows seen in part, from which the table of each tissue is drawn.

    The value of the tissue itself is never told: where it is seen, everything is said as if it
    were not, so that a seen entry is an example of a hidden one.

    Parameters
    ----------
    rows : Profiles
    given, deviation : float64 arrays, shape (n, T)
        From :meth:`learners.imputation.gaussian.Gaussian.given`.
    correlated : int64 array, shape (T, T)
        Tissues by their correlation with each, the tissue itself first.
    """

    rows: Profiles
    given: NDArray[np.float64]
    deviation: NDArray[np.float64]
    correlated: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Profiles, gaussian: Gaussian) -> TissueTable:
        """Work out what all tissues need."""
        spread = np.sqrt(np.diag(gaussian.covariance))
        correlation = gaussian.covariance / np.outer(spread, spread)
        np.fill_diagonal(correlation, np.inf)
        order = np.argsort(-correlation, axis=1, kind="stable")
        return cls(rows, *gaussian.given(rows), order)

    def columns(self, tissue: int, index: NDArray[np.int64]) -> NDArray[np.float32]:
        """The table of one tissue for some rows, shape (len(index), 7 + T − 1)."""
        # Other tissues, the most correlated first, NaN where they are not seen.
        others = self.correlated[tissue, 1:]
        seen = self.rows.seen[index][:, others]
        values = np.where(seen, self.rows.value[index][:, others], np.float32(np.nan))
        told = [self.given[index, tissue], self.deviation[index, tissue]]
        if len(others):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of rows that show nothing else
                told += [
                    np.nanmean(values, axis=1), np.nanstd(values, axis=1), np.nanmax(values, axis=1),
                    np.nanmin(values, axis=1), np.nanmedian(values, axis=1),
                ]  # fmt: skip
        return np.concatenate([np.stack(told, axis=1), values], axis=1).astype(np.float32)
