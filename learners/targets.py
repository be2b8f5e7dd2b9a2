"""Targets of a fit: which are observed where, and their scale."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.batch import FeatureBatch


@dataclass(frozen=True)
class TargetGroup:
    """Targets that are observed in the same rows, with those rows.

    Parameters
    ----------
    columns : int64 array
        Which targets of the original batches.
    train, valid : FeatureBatch
        The rows in which they are observed, with these targets only and no mask.
    """

    columns: NDArray[np.int64]
    train: FeatureBatch
    valid: FeatureBatch


def observed(batch: FeatureBatch) -> NDArray[np.bool_]:
    """True where a target may be learned from, shape (n, t).

    Raises
    ------
    ValueError
        If the batch carries no targets.
    InputError
        If a target that the mask calls observed is NaN or infinite.
    """
    targets = batch.require_targets()
    mask = np.ones(targets.shape, np.bool_) if batch.mask is None else batch.mask
    bad = mask & ~np.isfinite(targets)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise InputError(
            f"{int(bad.sum())} targets are NaN or infinite, first gene {str(batch.gene[row])!r}, target "
            f"{column}: {targets[row, column]}; mask missing targets or leave the genes out"
        )
    return mask


def target_groups(train: FeatureBatch, valid: FeatureBatch) -> Iterator[TargetGroup]:
    """Targets grouped by the rows in which they are observed, in order of first target.

    Without masks this is one group, the batches as they are.

    Raises
    ------
    InputError
        If a target has no observed training or no observed validation row.
    """
    masks = {"training": observed(train), "validation": observed(valid)}
    for side, mask in masks.items():
        empty = np.flatnonzero(~mask.any(axis=0))
        if len(empty):
            raise InputError(
                f"target {int(empty[0])} has no observed {side} row ({len(mask)} rows); "
                "use fewer folds or leave the target out"
            )
    stacked = np.concatenate(list(masks.values()))
    groups: dict[bytes, list[int]] = {}
    for column in range(stacked.shape[1]):
        groups.setdefault(np.packbits(stacked[:, column]).tobytes(), []).append(column)
    for members in groups.values():
        columns = np.array(members, np.int64)
        yield TargetGroup(
            columns,
            _observed_rows(train, masks["training"][:, members[0]], columns),
            _observed_rows(valid, masks["validation"][:, members[0]], columns),
        )


def _observed_rows(
    batch: FeatureBatch, rows: NDArray[np.bool_], columns: NDArray[np.int64]
) -> FeatureBatch:
    whole = len(columns) == batch.require_targets().shape[1]
    some = batch if whole else batch.select_targets(columns)
    kept = some if rows.all() else some.take(np.flatnonzero(rows).astype(np.int64))
    return kept.with_mask(None)


@dataclass(frozen=True)
class TargetScale:
    """Mean and standard deviation of each target over observed training rows, shape (t,)."""

    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]

    @classmethod
    def of(cls, batch: FeatureBatch) -> TargetScale:
        """Measure; a constant target gets deviation 1."""
        mask = observed(batch)
        values = np.where(mask, batch.require_targets(), 0.0)
        count = np.maximum(mask.sum(axis=0), 1)
        mean = values.sum(axis=0) / count
        centred = np.where(mask, values - mean, 0.0)
        deviation = np.sqrt((centred**2).sum(axis=0) / count)
        return cls(mean, np.where(deviation > 0, deviation, 1.0))

    def apply(self, targets: NDArray[np.float64]) -> NDArray[np.float64]:
        """Standardise."""
        return (targets - self.mean) / self.deviation

    def undo(self, scores: NDArray[Any]) -> NDArray[np.float64]:
        """Back to the unit of the target, float64."""
        return scores.astype(np.float64) * self.deviation + self.mean
