"""Boosted trees on the raw table of neighbours: what the hybrid's features and networks must beat."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Final, Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, Kind, LearnerInfo
from learners.batch import ArraySource, Block, FeatureBatch
from learners.compute import limited_threads
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.imputation.imputer import known_arrays, known_from, read_from
from learners.imputation.settings import HybridSettings
from learners.imputation.space import Space
from learners.imputation.table import (
    Profiles,
    References,
    known_of,
    merged,
    profiles_of,
    references_of,
)
from learners.layout import check_layout
from learners.trees.boosted import StreamedTrees

_INPUTS: Final[frozenset[Kind]] = frozenset({"profile"})
_ROWS: Final = 60_000


class RawTrees:
    """Trees of a library, told of the k nearest genes in order: profile, distance, strands.

    The profiles of neighbours enter tissue by tissue, filled by the Gaussian conditional. Targets
    are the principal scores of the profile, a booster each: the same as for the hybrid. Of a gene
    seen in part nothing but its neighbours is looked at.

    Parameters
    ----------
    neighbours : int
    patterns : int
        Principal axes of the tissues.
    """

    info: ClassVar[LearnerInfo]

    def __init__(self, *, neighbours: int = 8, patterns: int = 6) -> None:
        self.parameters = {"neighbours": neighbours, "patterns": patterns}
        self.learning_curve: list[dict[str, float]] = []
        self.space: Space
        self.references: References
        self.trees: StreamedTrees
        self._layout: dict[str, Any] = {}

    def make(self) -> StreamedTrees:
        """The learner of the library."""
        raise NotImplementedError

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Rounds stop on genes that are not learned from; trees are then fitted on both."""
        self._layout = read_from(train, self.info.name)
        check_layout(self._layout, valid)
        with limited_threads(budget):
            references = references_of(train)
            known, wanted = _apart(*(known_of(_some(batch)) for batch in (train, valid)))
            settings = HybridSettings(patterns=self.parameters["patterns"])
            self.space = Space.of(known, settings)
            self.references = References(references)
            self.trees = self.make()
            self.trees.fit(self._batch(known), self._batch(wanted), seed=seed, budget=budget)
            self.learning_curve = self.trees.learning_curve
            self.references = References(merged(references, references_of(valid)))

    def _batch(self, known: Profiles) -> FeatureBatch:
        space = self.space
        targets = space.scores(space.gaussian.completed(known) - space.gaussian.mean)
        return self._table(known).with_targets(targets.astype(np.float64))

    def _table(self, rows: Profiles) -> FeatureBatch:
        near = self.references.nearest(rows, self.parameters["neighbours"])
        there, genes = near.there, self.references.genes
        off = (self.space.gaussian.completed(genes) - self.space.gaussian.mean).astype(np.float32)
        profile = np.zeros((*there.shape, rows.tissues), np.float32)
        profile[there] = off[near.index[there]]
        distance = np.where(there, np.nan_to_num(near.distance), 0.0)
        table = [profile.reshape(len(rows), -1), distance, np.log10(np.where(there, near.far, 1e8) + 1), near.orientation]  # fmt: skip
        values = np.concatenate([one.astype(np.float32) for one in table], axis=1)
        index = np.arange(len(rows), dtype=np.int64)
        block = Block(ArraySource(values, kind="tabular"), index)
        return FeatureBatch({"table": block}, gene=rows.gene, species=rows.gene, family=rows.gene)

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Every entry of every row, shape (n, T), in log2(1 + x)."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self.space.gaussian.mean)))
        for index in _pieces(len(batch)):
            scores = self.trees.predict(self._table(profiles_of(batch.take(index))))
            out[index] = self.space.gaussian.mean + scores @ self.space.axes.T
        return out

    def save(self, path: Path) -> None:
        """Write references as safetensors, trees in their library's format."""
        gaussian = self.space.gaussian
        own = {"mean": gaussian.mean, "covariance": gaussian.covariance, "axes": self.space.axes}
        config = {
            "learner": self.info.name, "parameters": self.parameters, "layout": self._layout,
        }  # fmt: skip
        save_state(path, config, own | known_arrays(self.references.genes))
        (path / "trees").mkdir(exist_ok=True)
        self.trees.save(path / "trees")

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        from learners.imputation.gaussian import Gaussian

        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        learner = cls(**config["parameters"])
        learner._layout = config["layout"]
        learner.space = Space(Gaussian(arrays["mean"], arrays["covariance"]), arrays["axes"])
        learner.references = References(known_from(arrays))
        learner.trees = type(learner.make()).load(path / "trees")
        return learner


class XGBoostNeighbours(RawTrees):
    """XGBoost on the raw table of neighbours."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="xgboost_neighbours",
        inputs=_INPUTS,
        summary="XGBoost on the profiles, distances and strands of the nearest genes",
        reference="Chen & Guestrin, KDD 2016, doi:10.1145/2939672.2939785",
        multi_output=True,
        requires=("xgboost",),
        defaults={"neighbours": 8, "patterns": 6},
    )

    def make(self) -> StreamedTrees:
        """The project's XGBoost, with a learning rate for a baseline's patience."""
        from learners.trees.xgb import XGBoost

        return XGBoost(learning_rate=0.1, min_child_weight=40.0, reg_lambda=10.0, patience=20)


class LightGBMNeighbours(RawTrees):
    """LightGBM on the raw table of neighbours."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="lightgbm_neighbours",
        inputs=_INPUTS,
        summary="LightGBM on the profiles, distances and strands of the nearest genes",
        reference="Ke et al., NeurIPS 2017",
        multi_output=True,
        requires=("lightgbm",),
        defaults={"neighbours": 8, "patterns": 6},
    )

    def make(self) -> StreamedTrees:
        """The project's LightGBM, with a learning rate for a baseline's patience."""
        from learners.trees.lgbm import LightGBM

        return LightGBM(learning_rate=0.1, patience=20)


def _apart(known: Profiles, wanted: Profiles) -> tuple[Profiles, Profiles]:
    """Rows to learn from and to stop on, no gene in both.

    Where entries validate, the same genes stand on both sides: a tenth of them, by name, then
    validate with all that is known of them.
    """
    if not np.isin(wanted.gene, known.gene).any():
        return known, wanted
    both = merged(known, wanted)
    held = np.array([crc32(name.encode()) % 10 == 0 for name in both.gene.tolist()], np.bool_)
    if not held.any() or held.all():
        return known, wanted
    return both.take(np.flatnonzero(~held)), both.take(np.flatnonzero(held))


def _some(batch: FeatureBatch) -> FeatureBatch:
    if len(batch) <= _ROWS:
        return batch
    return batch.take(np.linspace(0, len(batch) - 1, _ROWS).astype(np.int64))


def _pieces(rows: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, rows, 4096):
        yield np.arange(start, min(start + 4096, rows), dtype=np.int64)
