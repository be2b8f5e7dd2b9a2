"""Scikit-learn's histogram gradient boosting.

Scikit-learn stores fitted models by pickle only. The trees are therefore taken out of the
fitted model as plain arrays, which predict the same numbers and go to disk as safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import concat
from learners.compute import Clock, limited_threads
from learners.disk import checked_load, load_arrays, save_state
from learners.targets import TargetGroup
from learners.trees.boosted import BoostedTrees, Curve, Fitted
from learners.trees.rounds import SEARCH_SHARE, scaled_rounds

_FIRST: Final = 50
"""Rounds of the first call. Each call bins the features anew, so calls grow by half."""


@dataclass(frozen=True)
class PlainTrees:
    """Regression trees as arrays over all nodes of all trees.

    A leaf points at itself on both sides, so walking on from it changes nothing.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    value: NDArray[np.float64]
    root: NDArray[np.int64]
    """First node of each tree."""
    depth: int
    baseline: float

    @classmethod
    def of(cls, model: Any) -> PlainTrees:
        """Take the trees out of a fitted ``HistGradientBoostingRegressor`` of one output."""
        trees = [stage[0].nodes for stage in model._predictors]
        root = np.cumsum([0] + [len(nodes) for nodes in trees[:-1]]).astype(np.int64)
        nodes = np.concatenate(trees)
        offset = np.repeat(root, [len(tree) for tree in trees])
        own, leaf = np.arange(len(nodes)), nodes["is_leaf"].astype(bool)
        return cls(
            feature=np.where(leaf, 0, nodes["feature_idx"]).astype(np.int64),
            threshold=np.where(leaf, np.inf, nodes["num_threshold"]).astype(np.float64),
            left=np.where(leaf, own, nodes["left"] + offset).astype(np.int64),
            right=np.where(leaf, own, nodes["right"] + offset).astype(np.int64),
            value=np.where(leaf, nodes["value"], 0.0).astype(np.float64),
            root=root,
            depth=int(nodes["depth"].max()),
            baseline=float(np.ravel(model._baseline_prediction)[0]),
        )

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over trees, shape (n,)."""
        total = np.full(len(rows), self.baseline)
        for tree in range(len(self.root)):
            total += self.leaf_values(tree, rows)
        return total

    def leaf_values(self, tree: int, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """What one tree adds, shape (n,)."""
        every, node = np.arange(len(rows)), np.full(len(rows), self.root[tree])
        for _ in range(self.depth):
            goes_left = rows[every, self.feature[node]] <= self.threshold[node]
            node = np.where(goes_left, self.left[node], self.right[node])
        added: NDArray[np.float64] = self.value[node]
        return added

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What :meth:`of_arrays` takes."""
        return {
            "feature": self.feature,
            "threshold": self.threshold,
            "left": self.left,
            "right": self.right,
            "value": self.value,
            "root": self.root,
            "depth": np.array([self.depth]),
            "baseline": np.array([self.baseline]),
        }

    @classmethod
    def of_arrays(cls, arrays: dict[str, NDArray[Any]]) -> PlainTrees:
        """Trees from what :meth:`arrays` gave."""
        depth, baseline = int(arrays["depth"][0]), float(arrays["baseline"][0])
        return cls(**(arrays | {"depth": depth, "baseline": baseline}))  # type: ignore[arg-type]


class HistGradientBoosting(BoostedTrees):
    """Histogram gradient boosting, one model per target; features in memory as float64.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together. Scikit-learn's trees take
    about ten times as long on wide features as XGBoost's, so steps are larger here and bins
    fewer.

    Parameters
    ----------
    learning_rate, max_leaf_nodes, min_samples_leaf, l2_regularization, max_features, max_bins
        As scikit-learn names them.
    rounds : int
        Most rounds; ``Budget.rounds`` lowers it.
    patience : int
        Rounds without a better validation error after which to stop.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="hist_gradient_boosting",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="Scikit-learn's histogram boosting, early stopping on validation, refit on both",
        reference="Pedregosa et al., JMLR 12:2825, 2011; after LightGBM",
        multi_output=True,
        requires=("sklearn",),
        defaults={
            "learning_rate": 0.1,
            "max_leaf_nodes": 15,
            "min_samples_leaf": 20,
            "l2_regularization": 1.0,
            "max_features": 0.1,
            "max_bins": 63,
            "rounds": 1000,
            "patience": 30,
        },
    )

    def __init__(
        self,
        *,
        learning_rate: float = 0.1,
        max_leaf_nodes: int = 15,
        min_samples_leaf: int = 20,
        l2_regularization: float = 1.0,
        max_features: float = 0.1,
        max_bins: int = 63,
        rounds: int = 1000,
        patience: int = 30,
    ) -> None:
        settings = {
            "learning_rate": learning_rate,
            "max_leaf_nodes": max_leaf_nodes,
            "min_samples_leaf": min_samples_leaf,
            "l2_regularization": l2_regularization,
            "max_features": max_features,
            "max_bins": max_bins,
        }
        super().__init__(settings, rounds, patience)

    def _parameters(self, seed: int, budget: Budget) -> dict[str, Any]:
        return self._settings | {
            "early_stopping": False,
            "warm_start": True,
            "random_state": seed,
        }

    def _fit_group(
        self, group: TargetGroup, parameters: dict[str, Any], budget: Budget
    ) -> list[Fitted]:
        both = concat(group.train, group.valid)
        # Read once: the search looks at its two sides of the same memory.
        rows, labels = both.array(np.float64), both.require_targets()
        fitted = []
        with limited_threads(budget):
            for column in range(len(group.columns)):
                best, curve = self._search(group, rows, column, parameters, budget)
                rounds = scaled_rounds(best, len(group.train), len(both))
                model = _model(parameters, rounds).fit(rows, labels[:, column])
                fitted.append(Fitted(PlainTrees.of(model), rounds, curve))
        return fitted

    def _search(
        self,
        group: TargetGroup,
        both: NDArray[np.float64],
        column: int,
        parameters: dict[str, Any],
        budget: Budget,
    ) -> tuple[int, Curve]:
        """Best number of rounds, with errors of each; ``both`` has training rows first."""
        n = len(group.train)
        sides = [both[:n], both[n:]]
        labels = [b.require_targets()[:, column] for b in (group.train, group.valid)]
        limit, clock = self._limit(budget), Clock(budget, SEARCH_SHARE)
        model = _model(parameters, 0)
        errors: Curve = ([], [])
        scores = [np.zeros(len(rows)) for rows in sides]
        done, best = 0, 0
        while done < limit and (done == 0 or not clock.spent()):
            model.set_params(max_iter=min(limit, max(_FIRST, done * 3 // 2)))
            trees = PlainTrees.of(model.fit(sides[0], labels[0]))
            if done == 0:
                scores = [np.full(len(rows), trees.baseline) for rows in sides]
            for tree in range(done, len(trees.root)):
                for side, rows in enumerate(sides):
                    scores[side] += trees.leaf_values(tree, rows)
                    error = float(np.sqrt(((scores[side] - labels[side]) ** 2).mean()))
                    errors[side].append(error)
                best = int(np.argmin(errors[1]))
                if tree - best >= self._patience:
                    return best + 1, errors
            done = len(trees.root)
        return best + 1, errors

    def save(self, path: Path) -> None:
        """Write settings as JSON and the trees as safetensors."""
        arrays = {
            f"{target}.{name}": array
            for target, trees in enumerate(self._models)
            for name, array in trees.arrays().items()
        }
        save_state(path, self._config(), arrays)

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        learner = cls._without_models(path)
        parts: list[dict[str, NDArray[Any]]] = [{} for _ in learner.rounds]
        for key, array in load_arrays(path).items():
            target, name = key.split(".")
            parts[int(target)][name] = array
        learner._models = [PlainTrees.of_arrays(part) for part in parts]
        return learner


def _model(parameters: dict[str, Any], rounds: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(**parameters, max_iter=rounds)
