"""The Gaussian conditional: each tissue from the others by their covariance over genes.

Mean and covariance are estimated by expectation–maximisation where entries are unknown (Little &
Rubin, Statistical Analysis with Missing Data, 2002, section 11.2), on known entries alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import LearnerInfo
from learners.imputation.imputer import Baseline, Settings, tissue_means
from learners.imputation.table import Profiles

_ROUNDS: Final = 20
_TOLERANCE: Final = 1e-3
_ROWS: Final = 30_000
"""Rows from which a covariance is estimated; more of them add nothing."""
_FLOOR: Final = 1e-3
"""Least variance of a tissue given the others: a tissue that repeats another is no reason to fail."""


@dataclass(frozen=True)
class Gaussian:
    """A multivariate normal distribution over tissues.

    Parameters
    ----------
    mean : float64 array, shape (T,)
    covariance : float64 array, shape (T, T)
    """

    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]

    @classmethod
    def of(cls, known: Profiles) -> Gaussian:
        """Estimate from the entries that are known."""
        if len(known) > _ROWS:
            known = known.take(np.linspace(0, len(known) - 1, _ROWS).astype(np.int64))
        mean, tissues = tissue_means(known), known.tissues
        if not len(known):
            return cls(mean, np.eye(tissues))
        centred = np.where(known.seen, known.value - mean, 0.0)
        both = known.seen.T.astype(np.float64) @ known.seen
        shrunk = centred.T @ centred / np.maximum(both + 10.0, 1.0)
        found = cls(mean, shrunk + 0.1 * np.eye(tissues))
        complete = bool(known.seen.all())
        for _ in range(1 if complete else _ROUNDS):
            better = found._better(known)
            change = np.abs(better.covariance - found.covariance).max()
            found = better
            if change < _TOLERANCE * np.abs(found.covariance).max():
                break
        return found

    def _better(self, known: Profiles) -> Gaussian:
        """One round of expectation–maximisation."""
        tissues = known.tissues
        total, squares = np.zeros(tissues), np.zeros((tissues, tissues))
        for index, precision in _pieces(known.seen, self.covariance):
            seen = known.seen[index]
            off = np.where(seen, known.value[index] - self.mean, 0.0)
            weight = np.einsum("nij,nj->ni", precision, off)
            filled = np.where(seen, off, weight @ self.covariance)
            total += filled.sum(axis=0)
            squares += filled.T @ filled
            if not seen.all():
                left = self.covariance - self.covariance @ precision @ self.covariance
                unseen = ~seen
                squares += (left * (unseen[:, :, None] & unseen[:, None, :])).sum(axis=0)
        shift = total / len(known)
        covariance = squares / len(known) - np.outer(shift, shift)
        return Gaussian(self.mean + shift, covariance + _FLOOR * np.eye(tissues))

    def given(self, rows: Profiles) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Every entry given the seen entries of *other* tissues of its row.

        For an entry that is seen this leaves its own value out, in closed form: with precision P
        of the seen tissues, y − (P (y − μ))ₜ / Pₜₜ.

        Returns
        -------
        mean, deviation : float64 arrays, shape (n, T)
        """
        mean = np.empty((len(rows), rows.tissues))
        deviation = np.empty_like(mean)
        spread = np.diag(self.covariance)
        for index, precision in _pieces(rows.seen, self.covariance):
            seen = rows.seen[index]
            off = np.where(seen, rows.value[index] - self.mean, 0.0)
            weight = np.einsum("nij,nj->ni", precision, off)
            own = np.einsum("nii->ni", precision)
            own = np.where(seen, own, 1.0)
            explained = ((self.covariance @ precision) * self.covariance).sum(axis=2)
            unseen = np.maximum(spread - explained, _FLOOR)
            mean[index] = np.where(
                seen, rows.value[index] - weight / own, self.mean + weight @ self.covariance
            )
            deviation[index] = np.sqrt(np.where(seen, 1.0 / own, unseen))
        return mean, deviation

    def completed(self, rows: Profiles) -> NDArray[np.float64]:
        """Seen entries as they are, others as expected, shape (n, T)."""
        if rows.seen.all():
            return rows.value.astype(np.float64)
        return np.where(rows.seen, rows.value, self.given(rows)[0])


def _pieces(
    seen: NDArray[np.bool_], covariance: NDArray[np.float64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Rows by what is seen of them, and the inverse covariance of that, 0 elsewhere, (n, T, T).

    Rows that show the same tissues share one inverse.
    """
    size = max(1, min(2048, 8_000_000 // max(1, seen.shape[1] ** 2)))
    packed = np.packbits(seen, axis=1)
    order = np.lexsort(packed.T)
    for start in range(0, len(seen), size):
        index = order[start : start + size]
        patterns, which = np.unique(packed[index], axis=0, return_inverse=True)
        there = np.unpackbits(patterns, axis=1, count=seen.shape[1]).astype(np.bool_)
        both = there[:, :, None] & there[:, None, :]
        alone = np.eye(seen.shape[1], dtype=np.bool_) & ~both
        inverse = np.linalg.inv(np.where(both, covariance, 0.0) + alone) * both
        yield index, inverse[which.reshape(-1)]


class GaussianConditional(Baseline):
    """Each hidden tissue as expected from the seen ones, by the covariance of tissues over genes."""

    missing = "nothing seen of their profile"
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="gaussian_conditional",
        inputs=frozenset({"profile"}),
        summary="Each tissue given the others, by the covariance of tissues over genes",
        reference="Little & Rubin, Statistical Analysis with Missing Data, 2002",
        multi_output=True,
    )

    def __init__(self) -> None:
        super().__init__()

    def grid(self) -> list[Settings]:
        """Nothing to tune."""
        return [{}]

    def keep(self, known: Profiles) -> None:
        """Estimate mean and covariance."""
        self._gaussian = Gaussian.of(known)

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Expectations."""
        mean, _ = self._gaussian.given(rows)
        for _ in tried:
            yield np.where(np.any(rows.seen, axis=1)[:, None], mean, np.nan)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Mean and covariance."""
        return {
            "mean": self.mean, "centre": self._gaussian.mean,
            "covariance": self._gaussian.covariance,
        }  # fmt: skip

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up mean and covariance."""
        self.mean = arrays["mean"]
        self._gaussian = Gaussian(arrays["centre"], arrays["covariance"])
