"""Several targets for a learner of one: fitted anew for each, on the genes that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.plans import LearnerPlan
from learners.base import Budget
from learners.batch import FeatureBatch


def learner_for(plan: LearnerPlan, batch: FeatureBatch) -> Any:
    """A fresh learner; one per target where there are several and it predicts only one."""
    count = batch.require_targets().shape[1]
    return plan.make() if count == 1 or plan.info.multi_output else OnePerTarget(plan, count)


class OnePerTarget:
    """A learner of one target, fitted anew for each of several on the genes that have it."""

    def __init__(self, plan: LearnerPlan, count: int) -> None:
        self.parts = [plan.make() for _ in range(count)]

    @classmethod
    def of(cls, parts: Sequence[Any]) -> OnePerTarget:
        """Of learners that are fitted, one per target."""
        made = cls.__new__(cls)
        made.parts = list(parts)
        return made

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit each part; the seconds of the budget are shared out."""
        if budget.seconds is not None:
            budget = replace(budget, seconds=budget.seconds / len(self.parts))
        for column, part in enumerate(self.parts):
            here, there = _one_target(train, column), _one_target(valid, column)
            part.fit(here, there, seed=seed, budget=budget)

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predictions of the parts side by side, shape (n, t)."""
        return np.concatenate([part.predict(batch) for part in self.parts], axis=1)

    def save(self, path: Path) -> None:
        """One folder per target, by number."""
        for column, part in enumerate(self.parts):
            (path / str(column)).mkdir()
            part.save(path / str(column))


def _one_target(batch: FeatureBatch, column: int) -> FeatureBatch:
    one = batch.select_targets(np.array([column], np.int64))
    if one.mask is None:
        return one
    return one.take(np.flatnonzero(one.mask[:, 0]).astype(np.int64)).with_mask(None)
