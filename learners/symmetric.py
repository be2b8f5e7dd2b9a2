"""A large symmetric matrix and its Cholesky factor in the memory of one.

The matrix stands on and above the diagonal of a square array, the factor is made below it. LAPACK
touches one triangle only, so a matrix of 15,360 columns is solved at any number of penalties in
1.9 GB: an eigendecomposition of it would want three times as much, and take an hour.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError

_PANEL: Final = 1024
"""Columns that are updated at a time."""

_ABSENT: Final = 1e30
"""On the diagonal of a row that a solution leaves out: its own share is then zero."""


class SymmetricMatrix:
    """A symmetric matrix of float64, zero at first; only ``values[i, j]`` with ``i <= j`` is it.

    Parameters
    ----------
    size : int
        Rows, and columns.
    """

    def __init__(self, size: int) -> None:
        self.values: NDArray[np.float64] = np.zeros((size, size))

    def add_gram(self, rows: NDArray[np.float32]) -> None:
        """Add ``rows.T @ rows``, rows of shape (n, size): multiplied in float32, summed in float64."""
        size = len(self.values)
        for start in range(0, size, _PANEL):
            stop = min(start + _PANEL, size)
            self.values[start:stop, start:] += rows[:, start:stop].T @ rows[:, start:]

    def set_product(
        self, first: int, above: NDArray[np.float32], second: int, beside: NDArray[np.float32]
    ) -> None:
        """Set ``above @ beside.T`` at row ``first`` and column ``second``, not left of it."""
        down, right = first + len(above), second + len(beside)
        self.values[first:down, second:right] = above @ beside.T

    def subtract(self, left: NDArray[np.float64], right: NDArray[np.float64]) -> None:
        """Subtract ``left @ right``, shapes (size, k) and (k, size), a symmetric product."""
        size = len(self.values)
        for start in range(0, size, _PANEL):
            stop = min(start + _PANEL, size)
            self.values[start:stop, start:] -= left[start:stop] @ right[:, start:]

    def times(self, vector: NDArray[np.float64]) -> NDArray[np.float64]:
        """The product with a vector, shape (size,)."""
        from scipy.linalg.blas import dsymv

        product: NDArray[np.float64] = dsymv(1.0, self.values.T, vector, lower=1)
        return product

    def solve(
        self, right: NDArray[np.float64], penalty: float, absent: slice = slice(0, 0)
    ) -> NDArray[np.float64]:
        """Solve ``(matrix + penalty · I) x = right``, shape (size, k).

        Rows and columns ``absent`` are left out; ``right`` is zero there, and so is ``x``.

        Raises
        ------
        NotPositiveError
            If the penalty is too small for what rounding has left of the matrix.
        """
        from scipy.linalg.lapack import dpotrf, dpotrs

        diagonal = np.einsum("ii->i", self.values)
        kept = diagonal.copy()
        self._mirror()
        diagonal += penalty
        diagonal[absent] = _ABSENT
        # The lower triangle is, in the order of Fortran, the upper one of the transpose.
        factor, failed = dpotrf(self.values.T, lower=0, clean=0, overwrite_a=1)
        solution, _ = dpotrs(factor, right, lower=0) if not failed else (None, 0)
        diagonal[:] = kept
        if solution is None:
            raise NotPositiveError(
                f"penalty {penalty:g} is too small for columns this much alike, in single precision; "
                "choose a larger one"
            )
        solution[absent] = 0.0
        found: NDArray[np.float64] = solution
        return found

    def _mirror(self) -> None:
        size = len(self.values)
        for start in range(0, size, _PANEL):
            rows = slice(start, min(start + _PANEL, size))
            for first in range(start, size, _PANEL):
                columns = slice(first, min(first + _PANEL, size))
                tile = self.values[rows, columns]
                if first == start:
                    tile = np.triu(tile) + np.triu(tile, 1).T
                    self.values[rows, columns] = tile
                else:
                    self.values[columns, rows] = tile.T


class NotPositiveError(InputError):
    """A matrix is not positive definite, up to rounding."""
