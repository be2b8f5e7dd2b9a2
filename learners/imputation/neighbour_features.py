"""What trees are told of a gene's surroundings: a table with one row per gene.

Neighbours' profiles enter as principal scores; each is told as it is for the nearest genes, and as
means over widths of the chromosome, with how much there was to average. The place on the chromosome
itself is not told: whoever knows the stretch can tell a training gene from what its neighbours' mean
leaves out, which holds for no other gene (validation errors fall by 0.2 % without it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from learners.imputation.neighbourhood import (
    CONVERGENT,
    DIVERGENT,
    SAME,
    UNKNOWN,
    Neighbours,
)
from learners.imputation.table import Profiles, References

WIDTHS: Final = (3e3, 1e4, 3e4, 1e5, 3e5, 1e6)
"""Of the kernels exp(−distance / width), in bp."""
STRANDED: Final = 3e4
"""The width at which genes of either orientation are averaged apart too."""
SIDED: Final = 1e5
"""The width at which genes upstream and downstream are averaged apart too."""
COUNTS: Final = (4, 12, 24)
"""Of nearest genes that are averaged with no weight."""
_PRIOR: Final = 0.3
"""Weight of the mean of all genes in a kernel mean: a far neighbour alone says little."""
_NOWHERE: Final = 1e8


@dataclass(frozen=True)
class Told:
    """Which of it is told; what is switched off is left out, not set to zero.

    Parameters
    ----------
    neighbours : int
        How many genes are looked at.
    distance, orientation : bool
    """

    neighbours: int = 24
    distance: bool = True
    orientation: bool = True


def neighbour_table(
    rows: Profiles,
    references: References,
    scores: NDArray[np.float32],
    profiles: NDArray[np.float32],
    told: Told,
) -> NDArray[np.float32]:
    """The table, shape (n, columns).

    Parameters
    ----------
    rows : Profiles
    references : References
    scores : float32 array, shape (references, R)
        Principal scores of their profiles, about zero on average.
    profiles : float32 array, shape (references, T)
        Deviations from tissue means.
    told : Told
    """
    near = references.nearest(rows, told.neighbours)
    there = near.there
    values = np.zeros((*there.shape, scores.shape[1]), np.float32)
    values[there] = scores[near.index[there]]
    columns = [values[:, :8, :4].reshape(len(rows), -1)]
    columns += _counted(values, there)
    columns += _alike(near, profiles)
    if told.distance:
        columns += _kernels(values, near, told)
        columns.append(np.log10(np.where(there, near.far, _NOWHERE)[:, :12] + 100.0))
    if told.orientation:
        columns.append(_direction(near)[:, :8])
        columns += _by_side(near, values[..., :4], told)
    return np.concatenate([c.astype(np.float32) for c in columns], axis=1)


def _direction(near: Neighbours) -> NDArray[np.int8]:
    """Side of each neighbour, twice as large for one on the other strand."""
    kind = np.where(near.orientation == SAME, 1, np.where(near.orientation == UNKNOWN, 0, 2))
    return (near.side * kind).astype(np.int8)


def _counted(
    values: NDArray[np.float32], there: NDArray[np.bool_]
) -> list[NDArray[np.float32]]:  # fmt: skip
    out = []
    for k in COUNTS:
        if k <= values.shape[1]:
            out += [values[:, :k].mean(axis=1), values[:, :k, :3].std(axis=1)]
    return out


def _alike(near: Neighbours, profiles: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """How much the nearest genes' whole profiles resemble one another, and their extremes.

    Neighbours that agree tell more of the gene between them than those that do not.
    """
    if near.index.shape[1] < 4 or not len(profiles):
        return []
    first = near.first(8)
    found = profiles[np.maximum(first.index, 0)]
    found[~first.there] = 0.0

    def apart(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(np.sqrt(((a - b) ** 2).mean(axis=-1)), np.float32)

    def spread(values: NDArray[np.float32]) -> NDArray[np.float32]:
        off = values - values.mean(axis=1, keepdims=True)
        return np.asarray(np.sqrt((off**2).mean(axis=(1, 2))), np.float32)

    row = np.arange(len(found))
    above, below = first.side < 0, first.side > 0
    between = apart(found[row, above.argmax(axis=1)], found[row, below.argmax(axis=1)])
    both = above.any(axis=1) & below.any(axis=1)
    shape = found - found.mean(axis=2, keepdims=True)
    shape /= np.sqrt((shape**2).sum(axis=2, keepdims=True)) + 1e-6
    single = [
        *(apart(found[:, a], found[:, b]) for a, b in ((0, 1), (0, 2), (1, 2), (2, 3))),
        spread(found[:, :4]), spread(found), np.where(both, between, -1.0),
        (shape[:, 0] * shape[:, 1]).sum(axis=1), (shape[:, :4].sum(axis=1) ** 2).sum(axis=1),
    ]  # fmt: skip
    return [np.stack(single, axis=1), found[:, :4].max(axis=2), found[:, :2].min(axis=2)]


def _by_side(
    near: Neighbours, values: NDArray[np.float32], told: Told
) -> list[NDArray[np.float32]]:
    """The nearest gene of each side and orientation: a promoter shared in two directions is one."""
    out: list[NDArray[np.float32]] = []
    row, far = np.arange(len(values)), near.far
    for side, kind in ((-1, DIVERGENT), (-1, SAME), (1, SAME), (1, CONVERGENT)):
        which = (near.side == side) & (near.orientation == kind)
        first, there = which.argmax(axis=1), which.any(axis=1)
        out.append(values[row, first] * there[:, None])
        if told.distance:
            out.append(np.log10(np.where(there, far[row, first], _NOWHERE) + 100.0)[:, None])
    return out


def _kernels(
    values: NDArray[np.float32], near: Neighbours, told: Told
) -> list[NDArray[np.float32]]:
    """Kernel means and their weights."""
    out: list[NDArray[np.float32]] = []
    far = np.where(near.there, near.far, np.inf)
    same = near.orientation == SAME
    for width in WIDTHS:
        weight = np.exp(-far / width).astype(np.float32)
        split = told.orientation and width == STRANDED
        for part in (weight, weight * same, weight * ~same) if split else (weight,):
            out += _mean(part, values)
    weight = np.exp(-far / SIDED).astype(np.float32)
    for side in (-1, 1) if told.orientation else ():
        out += _mean(weight * (near.side == side), values[..., :3])[:1]
    return out


def _mean(weight: NDArray[np.float32], values: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    total = weight.sum(axis=1, keepdims=True)
    mean = np.einsum("nk,nkr->nr", weight, values) / (total + _PRIOR)
    return [mean, np.log(total + 1e-3)]


def neighbour_tokens(
    rows: Profiles, references: References, scores: NDArray[np.float32], told: Told, count: int
) -> NDArray[np.float32]:
    """Neighbours one by one, for the transformer, shape (n, count, R + 8).

    Scores, in the units given; logarithm of the distance, side and the gap or overlap;
    same strand, convergent, divergent; last whether there is such a neighbour. What is switched
    off is zero.
    """
    near = references.nearest(rows, min(count, told.neighbours))
    there = near.there
    out = np.zeros((*there.shape, scores.shape[1] + 8), np.float32)
    first = scores.shape[1]
    out[there, :first] = scores[near.index[there]]
    if told.distance:
        far = np.where(there, near.far, _NOWHERE)
        out[..., first] = np.log10(far + 100.0) - 4.5
        out[..., first + 1] = np.log10(np.maximum(np.nan_to_num(near.gap), 0.0) + 100.0) - 4.0
        out[..., first + 2] = np.nan_to_num(near.gap) < 0
    if told.orientation:
        out[..., first + 3] = near.side
        for code in (1, 2, 3):
            out[..., first + 3 + code] = near.orientation == code
    out[..., -1] = there
    return out * there[..., None]
