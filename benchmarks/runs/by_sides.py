"""Folds as most tasks have them: the sides of the split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.splits.artefact import AlignedSplit, Sides
from benchmarks.tasks.base import Predict, Task, TaskData
from learners.batch import FeatureBatch


class BySides:
    """Learns from the genes of the training side, validates on those of validation.

    Parameters
    ----------
    task : Task
    data : TaskData
    aligned : AlignedSplit
    """

    notes: tuple[str, ...] = ()

    def __init__(self, task: Task, data: TaskData, aligned: AlignedSplit) -> None:
        self._task, self._data, self._aligned = task, data, aligned
        self.folds = aligned.folds

    def identity(self) -> dict[str, Any]:
        """Nothing: the split stands in the identity."""
        return {}

    def sides(self, fold: int) -> Sides:
        """Rows of the genes on each side that may be learned from and scored."""
        whole = self._aligned.sides(fold)
        train, valid, test = (
            rows[self._data.scored[rows]] for rows in (whole.train, whole.valid, whole.test)
        )
        return Sides(train, valid, test, whole.excluded)

    def told(self, fold: int) -> list[str]:
        """Genes that are kept out of training."""
        excluded = len(self.sides(fold).excluded)
        if not excluded:
            return []
        named = self._aligned.split.recipe.get("fold_names", {}).get(str(fold), str(fold))
        return [
            f"fold {named}: {excluded:,} genes kept out of training, their families are under test"
        ]

    def batches(self, fold: int) -> tuple[FeatureBatch, FeatureBatch]:
        """Rows of the two sides that are learned from."""
        sides, batch = self.sides(fold), self._data.batch
        return batch.take(sides.train), batch.take(sides.valid)

    def predict(self, fold: int, learner: Any, predict: Predict) -> pd.DataFrame:
        """As the task predicts its genes under test."""
        return self._task.predict(self._data, self.sides(fold).test, predict)

    def facts(self, fold: int) -> dict[str, Any]:
        """Nothing."""
        return {}

    def save(self, folder: Path) -> None:
        """Nothing but what every run has."""
