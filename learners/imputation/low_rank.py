"""Completion by a matrix of low rank: soft-impute, on the randomised SVD of scikit-learn.

Mazumder, Hastie & Tibshirani, JMLR 11:2287, 2010. The package that has it, fancyimpute, was last
released in 2021 and fails with the scikit-learn of today; the loop around the SVD is ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import LearnerInfo
from learners.imputation.imputer import Baseline, Settings
from learners.imputation.table import Profiles

_ROUNDS: Final = 50
_TOLERANCE: Final = 1e-4
_ROWS: Final = 30_000


class LowRank(Baseline):
    """Profiles as sums of a few tissue patterns, the singular values shrunk.

    Soft-impute finds the patterns on known entries; a gene's share of each follows from its seen
    entries by ridge regression, which is the step of soft-impute for one row (Hastie et al., JMLR
    16:3367, 2015).

    Parameters
    ----------
    rank : int or None
    penalty : float or None
        In units of the largest singular value. None tunes it.
    """

    RANKS: Final = (4, 8, 16)
    PENALTIES: Final = (0.1, 0.05, 0.02, 0.01, 0.005)
    missing = "nothing seen of their profile"
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="low_rank",
        inputs=frozenset({"profile"}),
        summary="Low-rank completion (soft-impute on scikit-learn's randomised SVD)",
        reference="Mazumder, Hastie & Tibshirani, JMLR 11:2287, 2010",
        multi_output=True,
        requires=("sklearn",),
        defaults={"rank": None, "penalty": None},
    )

    def __init__(self, *, rank: int | None = None, penalty: float | None = None) -> None:
        super().__init__(rank=rank, penalty=penalty)

    def grid(self) -> list[Settings]:
        """Ranks with penalties, the largest first: each starts where the one before ended."""
        given = self.parameters
        return [
            {"rank": int(rank), "penalty": float(penalty)}
            for rank in (self.RANKS if given["rank"] is None else (given["rank"],))
            for penalty in (self.PENALTIES if given["penalty"] is None else (given["penalty"],))
        ]

    def keep(self, known: Profiles) -> None:
        """Lay out what is known; patterns are found when a setting is asked for."""
        if len(known) > _ROWS:
            known = known.take(np.linspace(0, len(known) - 1, _ROWS).astype(np.int64))
        self._seen = known.seen
        self._centred = np.where(known.seen, known.value - self.mean, 0.0)
        self._now = self._centred.copy()
        self._patterns: dict[tuple[int, float], tuple[NDArray[np.float64], float]] = {}

    def _pattern(self, one: Settings) -> tuple[NDArray[np.float64], float]:
        """Tissue patterns, (T, rank), and the penalty in the unit of the values."""
        key = (one["rank"], one["penalty"])
        if key not in self._patterns:
            self._patterns[key] = self._soft_impute(*key)
        return self._patterns[key]

    def _soft_impute(self, rank: int, penalty: float) -> tuple[NDArray[np.float64], float]:
        largest = max(float(np.linalg.norm(self._centred, 2)), 1e-12)
        complete, before = bool(self._seen.all()), None
        right, size = self._svd(rank)
        for _ in range(1 if complete else _ROUNDS):
            shrunk = np.maximum(size - penalty * largest, 0.0)
            left = self._now @ right.T / np.maximum(size, 1e-12)
            fitted = (left * shrunk) @ right
            if before is not None and np.linalg.norm(fitted - before) <= _TOLERANCE * max(
                float(np.linalg.norm(before)), 1e-12
            ):
                break
            before = fitted
            if not complete:
                self._now = np.where(self._seen, self._centred, fitted)
                right, size = self._svd(rank)
        shrunk = np.maximum(size - penalty * largest, 0.0)
        return right.T * np.sqrt(shrunk), penalty * largest

    def _svd(self, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        from sklearn.utils.extmath import randomized_svd

        _, size, right = randomized_svd(
            self._now, min(rank, *self._now.shape), n_iter=2, random_state=0
        )
        return right, size

    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """Ridge regression of each row's seen entries on the patterns."""
        off = np.where(rows.seen, rows.value - self.mean, 0.0)
        for one in tried:
            pattern, penalty = self._pattern(one)
            found = np.empty_like(off)
            for start in range(0, len(rows), 2048):
                part = slice(start, start + 2048)
                within = np.einsum("nt,ta,tb->nab", rows.seen[part].astype(float), pattern, pattern, optimize=True)  # fmt: skip
                within += max(penalty, 1e-9) * np.eye(pattern.shape[1])
                share = np.linalg.solve(within, (off[part] @ pattern)[..., None])[..., 0]
                found[part] = share @ pattern.T
            yield np.where(np.any(rows.seen, axis=1)[:, None], found + self.mean, np.nan)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The patterns."""
        pattern, penalty = self._pattern(self.settings)
        return {"mean": self.mean, "pattern": pattern, "penalty": np.array([penalty])}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up the patterns."""
        self.mean = arrays["mean"]
        key = (self.settings["rank"], self.settings["penalty"])
        self._patterns = {key: (arrays["pattern"], float(arrays["penalty"][0]))}
