"""Nearest neighbours on standardised features."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, concat
from learners.compute import limited_threads
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.standardise import Standardiser
from learners.targets import observed

NEIGHBOURS: Final = (1, 3, 5, 10, 20, 40, 80)
"""Numbers of neighbours that the fit tries on validation."""


class NearestNeighbours:
    """The mean of the k most similar genes.

    Columns are standardised and, where there are more than ``components``, projected on
    principal components, both from training rows only. k is chosen on the validation rows by
    the squared error over all targets; then validation rows join the neighbours.

    Parameters
    ----------
    neighbours : int or None
        k; None tunes it among :data:`NEIGHBOURS`.
    components : int
        Principal components; 0 uses all columns as they are.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="knn",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="Mean of the k nearest genes in standardised principal components",
        reference="Cover & Hart, IEEE Trans. Inf. Theory 13:21, 1967; scikit-learn",
        multi_output=True,
        requires=("sklearn",),
        defaults={"neighbours": None, "components": 64},
    )

    def __init__(self, *, neighbours: int | None = None, components: int = 64) -> None:
        self._fixed = neighbours
        self._components = components
        self._layout: dict[str, Any] = {}
        self._standardiser = Standardiser(np.zeros(0), np.zeros(0))
        self._axes: NDArray[np.float64] | None = None
        self._points = self._labels = np.zeros((0, 0))
        self._tree: Any = None
        self.neighbours = 0
        """k in use after the fit."""

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Choose k and keep the points."""
        require_features(train, self.info.name)
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        with limited_threads(budget):
            self._standardiser = Standardiser.fit(train)
            self._axes = self._principal_axes(train, seed)
            self._keep(self._project(train), _labels(train))
            here = _labels(valid)
            known = ~np.isnan(here)
            tried: tuple[int, ...] = NEIGHBOURS if self._fixed is None else (self._fixed,)
            tried = tuple(k for k in tried if k <= len(train)) or (len(train),)
            order = self._order(self._project(valid), max(tried))
            losses = [((self._average(order[:, :k]) - here)[known] ** 2).mean() for k in tried]
            self.neighbours = tried[int(np.argmin(losses))]
            both = concat(train, valid)
            self._keep(self._project(both), _labels(both))

    def _principal_axes(self, train: FeatureBatch, seed: int) -> NDArray[np.float64] | None:
        """Axes, shape (columns, components), or None where no projection is needed."""
        count = min(self._components, len(train) - 1)
        if not 0 < count < train.columns:
            return None
        from sklearn.decomposition import PCA

        pca = PCA(count, svd_solver="auto", random_state=seed)
        pca.fit(self._standardiser.array(train))
        return np.ascontiguousarray(pca.components_.T, np.float64)

    def _project(self, batch: FeatureBatch) -> NDArray[np.float64]:
        width = batch.columns if self._axes is None else self._axes.shape[1]
        out = np.empty((len(batch), width))
        for part in batch.shards():
            rows = self._standardiser.matrix(batch, part)
            out[part.index] = rows if self._axes is None else rows @ self._axes
        return out

    def _keep(self, points: NDArray[np.float64], labels: NDArray[np.float64]) -> None:
        from sklearn.neighbors import NearestNeighbors

        self._points, self._labels = points, labels
        self._tree = NearestNeighbors(algorithm="auto").fit(points)

    def _order(self, points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """The nearest kept points of each row, nearest first, shape (n, count)."""
        order: NDArray[np.int64] = self._tree.kneighbors(
            points, min(count, len(self._points)), return_distance=False
        )
        return order

    def _average(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """Mean of the observed labels of neighbours; of all where none of them is observed."""
        labels = self._labels[order]
        known = ~np.isnan(labels)
        count = known.sum(axis=1)
        total = np.where(known, labels, 0.0).sum(axis=1)
        everywhere = np.broadcast_to(np.nanmean(self._labels, axis=0), total.shape)
        mean: NDArray[np.float64] = np.divide(total, count, out=everywhere.copy(), where=count > 0)
        return mean

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t)."""
        check_layout(self._layout, batch)
        return self._average(self._order(self._project(batch), self.neighbours))

    def save(self, path: Path) -> None:
        """Write points and labels as safetensors."""
        config = {
            "learner": self.info.name,
            "parameters": {"neighbours": self._fixed, "components": self._components},
            "neighbours": self.neighbours,
            "layout": self._layout,
        }
        arrays = {
            "mean": self._standardiser.mean,
            "inverse": self._standardiser.inverse,
            "points": self._points,
            "labels": self._labels,
        }
        save_state(path, config, arrays | ({} if self._axes is None else {"axes": self._axes}))

    @classmethod
    @checked_load
    def load(cls, path: Path) -> NearestNeighbours:
        """Read what :meth:`save` wrote."""
        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        learner = cls(**config["parameters"])
        learner._layout, learner.neighbours = config["layout"], config["neighbours"]
        learner._standardiser = Standardiser(arrays["mean"], arrays["inverse"])
        learner._axes = arrays.get("axes")
        learner._keep(arrays["points"], arrays["labels"])
        return learner


def _labels(batch: FeatureBatch) -> NDArray[np.float64]:
    """Targets with NaN where they are masked, shape (n, t)."""
    return np.where(observed(batch), batch.require_targets(), np.nan)
