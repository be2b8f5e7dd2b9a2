"""Runs of some folds: a costly learner need not be fitted on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.splits.artefact import Sides
from benchmarks.tasks.base import Folding, Predict
from featurestore.errors import InputError
from learners.batch import FeatureBatch


class SomeFolds:
    """Some of the folds of another folding, and else the same.

    Parameters
    ----------
    whole : Folding
    folds : sequence of int
        Ascending.
    """

    def __init__(self, whole: Folding, folds: Sequence[int]) -> None:
        self._whole, self.folds = whole, list(folds)

    @property
    def whole(self) -> Folding:
        """The folding with all folds."""
        return self._whole

    @property
    def notes(self) -> Sequence[str]:
        """Those of the whole, and which folds these are."""
        told = ", ".join(map(str, self.folds))
        count = len(self._whole.folds)
        return (*self._whole.notes, f"only fold {told} of {count} (--only-fold): not a whole run")

    def identity(self) -> dict[str, Any]:
        """That of the whole, and the folds."""
        return {**self._whole.identity(), "only_folds": list(self.folds)}

    def sides(self, fold: int) -> Sides:
        """As the whole."""
        return self._whole.sides(fold)

    def told(self, fold: int) -> list[str]:
        """As the whole."""
        return self._whole.told(fold)

    def batches(self, fold: int) -> tuple[FeatureBatch, FeatureBatch]:
        """As the whole."""
        return self._whole.batches(fold)

    def predict(self, fold: int, learner: Any, predict: Predict) -> pd.DataFrame:
        """As the whole."""
        return self._whole.predict(fold, learner, predict)

    def facts(self, fold: int) -> dict[str, Any]:
        """As the whole."""
        return self._whole.facts(fold)

    def save(self, folder: Path) -> None:
        """As the whole."""
        self._whole.save(folder)


def only_folds(folding: Folding, asked: Sequence[int]) -> Folding:
    """The folding with the folds that are asked for; as it is where none are named.

    Raises
    ------
    InputError
        For a fold that there is not.
    """
    if not asked:
        return folding
    known = list(folding.folds)
    strange = sorted(set(asked) - set(known))
    if strange:
        raise InputError(
            f"--only-fold {strange[0]}: folds of this split are {', '.join(map(str, known))}"
        )
    return SomeFolds(folding, sorted(set(asked)))


def whole_folding(folding: Folding) -> Folding:
    """The folding that some folds are of; itself where it is whole."""
    return folding.whole if isinstance(folding, SomeFolds) else folding
