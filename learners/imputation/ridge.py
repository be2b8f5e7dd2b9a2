"""Ridge regression of a profile on the profiles of the nearest genes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import LearnerInfo
from learners.imputation.gaussian import Gaussian
from learners.imputation.imputer import Settings, WithReferences
from learners.imputation.table import Profiles

AXES: Final = 64
"""Of more tissues than these, neighbours are told by so many principal axes."""


class RidgeNeighbours(WithReferences):
    """Linear in the profiles of the k nearest genes, nearest first.

    What is unknown of a neighbour is filled by the Gaussian conditional. Each target tissue is
    learned from the genes in which it is known.

    Parameters
    ----------
    neighbours : int or None
    penalty : float or None
        Added to the diagonal of the columns' covariance, in units of its mean. None tunes it.
    """

    NEIGHBOURS: Final = (1, 3, 6, 12)
    PENALTIES: Final = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0)
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="ridge_neighbours",
        inputs=frozenset({"profile"}),
        summary="Ridge regression on the profiles of the nearest genes",
        reference="Hoerl & Kennard, Technometrics 12:55, 1970",
        multi_output=True,
        defaults={"neighbours": None, "penalty": None},
    )

    def __init__(self, *, neighbours: int | None = None, penalty: float | None = None) -> None:
        super().__init__(neighbours=neighbours, penalty=penalty)

    def grid(self) -> list[Settings]:
        """Neighbours with penalties."""
        given = self.parameters
        return [
            {"neighbours": int(k), "penalty": float(penalty)}
            for k in (self.NEIGHBOURS if given["neighbours"] is None else (given["neighbours"],))
            for penalty in (self.PENALTIES if given["penalty"] is None else (given["penalty"],))
        ]

    def keep(self, known: Profiles) -> None:
        """Sort the references, and fill what is unknown of them."""
        super().keep(known)
        gaussian = Gaussian.of(known)
        self._scores = gaussian.completed(self.references.genes) - self.mean
        if known.tissues > AXES:
            self._scores = self._scores @ np.linalg.eigh(gaussian.covariance)[1][:, -AXES:]
        self._weights: dict[tuple[int, float], NDArray[np.float64]] = {}

    def _columns(self, rows: Profiles, k: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Neighbours' profiles side by side; whether there is any neighbour."""
        near = self.references.nearest(rows, k)
        if not len(self._scores):
            return np.zeros((len(rows), k * self._scores.shape[1])), np.any(near.there, axis=1)
        values = self._scores[np.maximum(near.index, 0)] * near.there[..., None]
        return values.reshape(len(rows), -1), np.any(near.there, axis=1)

    def _weight(self, one: Settings) -> NDArray[np.float64]:
        """Coefficients, (columns, T)."""
        k = one["neighbours"]
        if (k, one["penalty"]) not in self._weights:
            known = self.require_known()
            columns, there = self._columns(known, k)
            for penalty in {p["penalty"] for p in self.grid()} | {one["penalty"]}:
                self._weights[k, penalty] = np.zeros((columns.shape[1], known.tissues))
            for tissues in _alike(known.seen):
                rows = known.seen[:, tissues[0]] & there
                self._solve(k, columns[rows], known.value[rows][:, tissues] - self.mean[tissues], tissues)  # fmt: skip
        return self._weights[k, one["penalty"]]

    def _solve(
        self, k: int, columns: NDArray[Any], off: NDArray[Any], tissues: NDArray[np.int64]
    ) -> None:
        """Every penalty from one decomposition."""
        if not len(columns):
            return
        size, axes = np.linalg.eigh(columns.T @ columns / len(columns))
        along = axes.T @ (columns.T @ off) / len(columns)
        unit = max(float(size.mean()), 1e-12)
        for (neighbours, penalty), weight in self._weights.items():
            if neighbours == k:
                shrunk = np.maximum(size, 0.0)[:, None] + max(penalty, 1e-9) * unit
                weight[:, tissues] = axes @ (along / shrunk)

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Sums over neighbours."""
        held: tuple[int, Any] | None = None
        for one in tried:
            weight = self._weight(one)
            if held is None or held[0] != one["neighbours"]:
                held = (one["neighbours"], self._columns(rows, one["neighbours"]))
            columns, there = held[1]
            yield np.where(there[:, None], self.mean + columns @ weight, np.nan)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """References, their scores and the coefficients in use."""
        return super().arrays() | {"scores": self._scores, "weight": self._weight(self.settings)}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what :meth:`arrays` gave."""
        super().restore(arrays)
        self._scores = arrays["scores"]
        self._weights = {(self.settings["neighbours"], self.settings["penalty"]): arrays["weight"]}


def _alike(seen: NDArray[np.bool_]) -> Iterator[NDArray[np.int64]]:
    """Tissues that are known in the same rows."""
    groups: dict[bytes, list[int]] = {}
    for tissue in range(seen.shape[1]):
        groups.setdefault(np.packbits(seen[:, tissue]).tobytes(), []).append(tissue)
    for members in groups.values():
        yield np.array(members, np.int64)
