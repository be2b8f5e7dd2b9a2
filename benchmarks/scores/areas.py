"""Areas under curves with weights, many replicates at once."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


def auroc(label: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    """Probability that a positive has a higher score than a negative; ties count half.

    Parameters
    ----------
    label, score : float arrays, shape (n,)
        Labels are 1 or 0.
    weights : float array, shape (replicate, n)

    Returns
    -------
    float array, shape (replicate,)
        NaN where either class has no weight.
    """
    order, start = _ties(score)
    positive = np.add.reduceat((weights * label)[:, order], start, axis=1)
    negative = np.add.reduceat((weights * (1 - label))[:, order], start, axis=1)
    below = np.cumsum(negative, axis=1) - negative
    won = (positive * (below + negative / 2)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(won / (positive.sum(axis=1) * negative.sum(axis=1)))


def auprc(label: FloatArray, score: FloatArray, weights: FloatArray) -> FloatArray:
    """Average precision: Σ over thresholds of precision × the gain in recall, as scikit-learn has it."""
    order, start = _ties(-score)
    positive = np.add.reduceat((weights * label)[:, order], start, axis=1)
    total = np.add.reduceat(weights[:, order], start, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.cumsum(positive, axis=1) / np.cumsum(total, axis=1)
        gained = positive * np.nan_to_num(precision)
        return np.asarray(gained.sum(axis=1) / positive.sum(axis=1))


AREAS: Final = {"auroc": auroc, "auprc": auprc}


def _ties(score: FloatArray) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Rows in order of score, and where each run of one value begins."""
    order = np.argsort(score, kind="stable")
    return order, np.flatnonzero(np.concatenate([[True], np.diff(score[order]) != 0]))
