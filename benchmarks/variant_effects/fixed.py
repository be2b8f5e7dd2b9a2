"""Fixed effects: what is left of a column when every gene, every line, or both have a level of their own.

Not a mixed model. A random intercept per gene was measured to bias the slope (0.384 for a true
0.300), because it lets differences between genes into a slope that is to be within genes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph
from scipy.sparse.linalg import lsmr

from benchmarks.variant_effects.slope import Slope, slope_of_freed

Floats = NDArray[np.float64]


def demean(columns: Floats, groups: Sequence[Any]) -> Floats:
    """Columns freed of one or two sets of levels, shape (n, q).

    Parameters
    ----------
    columns : (n, q)
    groups : one or two arrays of labels, shape (n,)
    """
    codes = [np.unique(np.asarray(group), return_inverse=True)[1] for group in groups]
    if len(codes) == 1:
        count = np.bincount(codes[0])
        mean = np.column_stack([np.bincount(codes[0], c) / count for c in columns.T])
        return np.asarray(columns - mean.reshape(-1, columns.shape[1])[codes[0]], np.float64)
    levels = _levels(codes)
    out = np.empty_like(columns)
    for j, column in enumerate(columns.T):
        fitted = lsmr(levels, column, atol=1e-14, btol=1e-14, conlim=0, maxiter=10_000)[0]
        out[:, j] = column - levels @ fitted
    return out


def absorbed(groups: Sequence[Any]) -> int:
    """Columns that the levels take up: their number, less one for each part that hangs together."""
    codes = [np.unique(np.asarray(group), return_inverse=True)[1] for group in groups]
    sizes = [int(code.max()) + 1 for code in codes]
    if len(codes) == 1:
        return sizes[0]
    first, second = codes
    edges = sparse.coo_matrix(
        (np.ones(len(first)), (first, second + sizes[0])), shape=(sum(sizes), sum(sizes))
    )
    parts, _ = csgraph.connected_components(edges, directed=False)
    return sum(sizes) - int(parts)


def _levels(codes: Sequence[NDArray[np.intp]]) -> Any:
    n = len(codes[0])
    parts = [sparse.csr_matrix((np.ones(n), (np.arange(n), code))) for code in codes]
    return sparse.hstack(parts, format="csr")


def slope_within(
    y: Floats, x: Floats, others: Floats, groups: Sequence[Any], clusters: Mapping[str, Any]
) -> Slope:
    """Slope of ``y`` on ``x`` with a level for each label of ``groups``, and clustered errors.

    Parameters
    ----------
    y, x : (n,)
    others : (n, q)
        Further columns; what the levels explain of them drops out.
    groups : one or two arrays of labels, shape (n,)
    clusters : as in :func:`benchmarks.variant_effects.slope.slope`
    """
    freed = demean(np.column_stack([y, x, others]), groups)
    y_left, x_left, rest = freed[:, 0], freed[:, 1], freed[:, 2:]
    norm = np.linalg.norm(others, axis=0)
    rest = rest[:, np.linalg.norm(rest, axis=0) > 1e-8 * np.maximum(norm, 1e-300)]
    left, singular, _ = np.linalg.svd(rest, full_matrices=False)
    basis = left[:, singular > 1e-10 * singular.max(initial=0.0)]
    count = absorbed(groups) + basis.shape[1]
    return slope_of_freed(
        y_left - basis @ (basis.T @ y_left),
        x_left - basis @ (basis.T @ x_left),
        count,
        clusters,
        scale=float(np.linalg.norm(x)),
    )
