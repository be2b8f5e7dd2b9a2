"""Predictions of a fitted learner, refused where they are not what was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.tasks.base import Predict
from learners.batch import FeatureBatch


def nothing(batch: FeatureBatch) -> Predict:
    """What is predicted where there is nobody to predict for."""
    return lambda rows: np.empty((len(rows), batch.require_targets().shape[1]))


def checked(learner: Any, batch: FeatureBatch) -> Predict:
    """The learner's predict, refusing wrong shapes and numbers that are not finite.

    Parameters
    ----------
    learner
        Fitted.
    batch : FeatureBatch
        Has as many targets as are to be predicted.
    """
    targets = batch.require_targets().shape[1]

    def predict(rows: FeatureBatch) -> NDArray[np.float64]:
        out = np.asarray(learner.predict(rows.without_targets()), np.float64)
        if out.shape != (len(rows), targets):
            raise ValueError(f"predicted shape {out.shape}, expected {(len(rows), targets)}")
        bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
        if len(bad):
            raise ValueError(
                f"{len(bad)} of {len(out)} predictions are NaN or infinite, first gene "
                f"{rows.gene[bad[0]]}"
            )
        return out

    return predict
