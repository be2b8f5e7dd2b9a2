"""Controls: what a score would be without any sequence, or without any signal."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, concat
from learners.disk import checked_load, load_config, save_state
from learners.linear import Ridge
from learners.targets import observed


class _GroupMeans(ABC):
    """Mean of observed targets by a chain of groups, from the finest to all rows."""

    info: ClassVar[LearnerInfo]

    def __init__(self) -> None:
        self._levels: list[dict[Hashable, list[float]]] = []

    @abstractmethod
    def _keys(self, batch: FeatureBatch) -> list[list[Hashable]]:
        """Keys of every row at each level, finest first; the last level is all rows."""

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Take the means over training and validation rows; nothing is tuned."""
        both = concat(train, valid)
        mask = observed(both)
        self._levels = [_means(keys, both.require_targets(), mask) for keys in self._keys(both)]

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t): the mean of the finest group that has one, target by target."""
        targets = len(next(iter(self._levels[-1].values())))
        out = np.full((len(batch), targets), np.nan)
        unknown = [np.nan] * targets
        for means, keys in zip(self._levels, self._keys(batch), strict=True):
            found = np.array([means.get(key, unknown) for key in keys]).reshape(out.shape)
            out = np.where(np.isnan(out), found, out)
        return out

    def save(self, path: Path) -> None:
        """Write the means as JSON."""
        levels = [
            [{"group": key, "mean": [None if np.isnan(x) else x for x in mean]}
             for key, mean in level.items()]
            for level in self._levels
        ]  # fmt: skip
        save_state(path, {"learner": self.info.name, "levels": levels})

    @classmethod
    @checked_load
    def load(cls, path: Path) -> _GroupMeans:
        """Read what :meth:`save` wrote."""
        learner = cls()
        learner._levels = [
            {
                _key(entry["group"]): [np.nan if x is None else float(x) for x in entry["mean"]]
                for entry in level
            }
            for level in load_config(path, cls.info.name)["levels"]
        ]
        return learner


def _key(stored: Any) -> Hashable:
    return tuple(stored) if isinstance(stored, list) else stored


def _means(
    keys: Iterable[Hashable], targets: NDArray[np.float64], mask: NDArray[np.bool_]
) -> dict[Hashable, list[float]]:
    rows: dict[Hashable, list[int]] = {}
    for row, key in enumerate(keys):
        rows.setdefault(key, []).append(row)
    values = np.where(mask, targets, 0.0)
    means: dict[Hashable, list[float]] = {}
    for key, members in rows.items():
        count = mask[members].sum(axis=0)
        total = values[members].sum(axis=0)
        means[key] = [float(s / n) if n else np.nan for s, n in zip(total, count, strict=True)]
    return means


class SpeciesMean(_GroupMeans):
    """The mean of a species' training genes; of all training genes for an unseen species."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="species_mean",
        inputs=frozenset({"none"}),
        summary="Mean of the species: what R² within species is measured against",
        multi_output=True,
        control=True,
    )

    def _keys(self, batch: FeatureBatch) -> list[list[Hashable]]:
        species: list[Hashable] = [str(s) for s in batch.species]
        return [species, ["all"] * len(batch)]


class FamilyMean(_GroupMeans):
    """What homology alone gives: the mean of a gene's family.

    Within the species where the family has training genes there, else over all species, else
    the species' mean, else the mean of all. Plain means, not shrunk. On a split by family no
    family is seen, so this is then the species mean.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="family_mean",
        inputs=frozenset({"none"}),
        summary="Mean of the gene family: what homology alone gives",
        multi_output=True,
        control=True,
    )

    def _keys(self, batch: FeatureBatch) -> list[list[Hashable]]:
        species, family = [str(s) for s in batch.species], [str(f) for f in batch.family]
        within: list[Hashable] = list(zip(species, family, strict=True))
        return [within, list(family), list(species), ["all"] * len(batch)]


class ShuffledLabels(Ridge):
    """The tuned ridge on permuted labels: its score is about zero unless something leaks.

    Labels are permuted over all training rows and, apart from them, over all validation rows,
    together with their masks.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="shuffled_labels",
        inputs=Ridge.info.inputs,
        summary="The tuned ridge on permuted training labels: about zero, or something leaks",
        multi_output=True,
        control=True,
        requires=Ridge.info.requires,
        defaults=Ridge.info.defaults,
    )

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Permute the labels by the seed, then fit as :class:`~learners.linear.Ridge`."""
        rng = np.random.default_rng(seed)
        super().fit(_permuted(train, rng), _permuted(valid, rng), seed=seed, budget=budget)


def _permuted(batch: FeatureBatch, rng: np.random.Generator) -> FeatureBatch:
    order = rng.permutation(len(batch))
    mask = None if batch.mask is None else batch.mask[order]
    return batch.with_targets(batch.require_targets()[order]).with_mask(mask)
