"""One prediction of several: a non-negative sum, fitted on rows that none of them learned from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FLAT: Final = 0.01
"""Predictions of which standard deviation, in that of the labels, count as constant."""


def weigh(
    predicted: NDArray[np.float64], labels: NDArray[np.float64], mask: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Non-negative least squares of the labels on predictions, with an intercept, per target.

    Breiman, Machine Learning 24:49, 1996: such weights cannot play members that agree off
    against each other. A member whose predictions vary by less than a hundredth of the labels
    has learned nothing and gets no weight: the regression would multiply its rounding errors.

    Parameters
    ----------
    predicted : float64 array, shape (members, n, t)
    labels : float64 array, shape (n, t)
    mask : bool array, shape (n, t)
        Which labels are observed. Of a target that nowhere is, all members weigh the same.

    Returns
    -------
    weight : float64 array, shape (members, t)
    intercept : float64 array, shape (t,)
    """
    from scipy.optimize import nnls

    members, _, targets = predicted.shape
    weight, intercept = np.zeros((members, targets)), np.zeros(targets)
    for target in range(targets):
        rows = mask[:, target]
        if not rows.any():
            weight[:, target] = 1 / members
            continue
        x, y = predicted[:, rows, target].T, labels[rows, target]
        told = x.std(axis=0) > FLAT * y.std()
        if told.any():  # SciPy's nnls, given no columns, ends the process
            centred = x[:, told] - x[:, told].mean(axis=0)
            weight[told, target] = nnls(centred, y - y.mean())[0]
        intercept[target] = y.mean() - x.mean(axis=0) @ weight[:, target]
    return weight, intercept
