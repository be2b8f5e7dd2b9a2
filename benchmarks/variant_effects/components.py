"""Principal components of expression over lines, and how many of them to take.

As EMPRES: ``prcomp(log10(1 + TPM), scale. = TRUE)`` on lines × genes without genes that are zero
in every line, and k by the least BIC of the model without the prediction.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MOST: Final = 20
"""Components that are tried, as in EMPRES."""


def components(values: Floats, most: int = MOST) -> Floats:
    """Scores of lines on the principal components of standardised genes, as R's ``prcomp`` gives them.

    Parameters
    ----------
    values : (line, gene)
        log(1 + amount). Genes that are zero in every line, constant, or missing in a line are
        left out.
    most
        Components wanted; there are at most one fewer than lines.

    Returns
    -------
    (line, k) array, k ≤ ``most``
        In order of falling variance; the sign of each is such that its largest score is positive.
    """
    lines = len(values)
    if lines < 2:
        return np.zeros((lines, 0))
    good = values[:, np.isfinite(values).all(axis=0)]
    good = good[:, np.ptp(good, axis=0) > 0]
    if not good.shape[1]:
        return np.zeros((lines, 0))
    standard = (good - good.mean(axis=0)) / good.std(axis=0, ddof=1)
    # Far fewer lines than genes: eigenvectors of the small product.
    variance, vectors = np.linalg.eigh(standard @ standard.T)
    order = np.argsort(-variance)[: min(most, lines - 1)]
    order = order[variance[order] > variance.max() * lines * np.finfo(float).eps]
    scores = vectors[:, order] * np.sqrt(variance[order])
    largest = scores[np.abs(scores).argmax(axis=0), np.arange(len(order))]
    return np.asarray(scores * np.sign(largest), np.float64)


def bic(residual_sum: float, n: int, columns: int) -> float:
    """Bayesian information criterion of a linear model, as R's ``BIC(lm)``.

    The error variance counts as a parameter: ``columns`` + 1.
    """
    likelihood = -0.5 * n * (np.log(2 * np.pi) + np.log(residual_sum / n) + 1)
    return float(-2 * likelihood + np.log(n) * (columns + 1))


def choose(y: Floats, scores: Floats) -> tuple[int, list[float]]:
    """Number of components of the least BIC of ``lm(y ~ PC1 + … + PCk)``, k = 0 … all.

    Parameters
    ----------
    y : (n,)
        Stacked observed differences.
    scores : (n, k)
        Scores of the line of each.

    Returns
    -------
    int, list of float
        k, and the BIC of each k from 0 on; (0, [inf]) where there are too few rows.
    """
    n = len(y)
    tried: list[float] = []
    for k in range(scores.shape[1] + 1):
        if n <= k + 2:
            break
        design = np.column_stack([np.ones(n), scores[:, :k]])
        residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        tried.append(bic(max(float(residual @ residual), 1e-300), n, k + 1))
    return (int(np.argmin(tried)), tried) if tried else (0, [float("inf")])
