"""Several targets for a learner of one: fitted anew for each, on the genes that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget
from learners.batch import FeatureBatch


class PerTarget:
    """One learner for each of several targets.

    Parameters
    ----------
    parts : sequence of Learner
        Unfitted, one per target.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self.parts = list(parts)

    def __len__(self) -> int:
        return len(self.parts)

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit each part; the seconds of the budget are shared out."""
        if budget.seconds is not None:
            budget = replace(budget, seconds=budget.seconds / len(self.parts))
        for column, part in enumerate(self.parts):
            here, there = one_target(train, column), one_target(valid, column)
            part.fit(here, there, seed=seed, budget=budget)

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predictions of the parts side by side, shape (n, t)."""
        return np.concatenate([part.predict(batch) for part in self.parts], axis=1)

    def save(self, path: Path) -> None:
        """One folder per target, by number."""
        for column, part in enumerate(self.parts):
            (path / str(column)).mkdir()
            part.save(path / str(column))

    @classmethod
    def load(cls, learner: Any, path: Path, count: int) -> Self:
        """Read what :meth:`save` wrote of ``count`` parts of a learner's class."""
        return cls([learner.load(path / str(column)) for column in range(count)])


def one_target(batch: FeatureBatch, column: int) -> FeatureBatch:
    """The rows in which one target is observed, with that target alone."""
    one = batch.select_targets(np.array([column], np.int64))
    if one.mask is None:
        return one
    return one.take(np.flatnonzero(one.mask[:, 0]).astype(np.int64)).with_mask(None)
