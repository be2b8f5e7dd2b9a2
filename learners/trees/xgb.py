"""XGBoost, fed shard by shard.

Chen & Guestrin, KDD 2016. A ``QuantileDMatrix`` built from an iterator holds only the binned
features (about 4.6 bytes a value with its working memory), never a float matrix beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, concat
from learners.compute import Clock, threads_of
from learners.disk import load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.targets import TargetGroup, target_groups
from learners.trees.rounds import SEARCH_SHARE, average_curves, scaled_rounds

_Curve = tuple[list[float], list[float]]


class XGBoost:
    """Boosted trees, one booster per target.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together.

    Parameters
    ----------
    learning_rate, max_depth, min_child_weight, subsample, colsample_bytree, reg_lambda, max_bin
        As XGBoost names them. Embeddings have many columns that say much the same, so each
        tree sees a fifth of them.
    rounds : int
        Most rounds; ``Budget.rounds`` lowers it.
    patience : int
        Rounds without a better validation error after which to stop.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="xgboost",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="XGBoost, streamed, early stopping on validation, refit on both",
        reference="Chen & Guestrin, KDD 2016, doi:10.1145/2939672.2939785",
        multi_output=True,
        requires=("xgboost",),
        defaults={
            "learning_rate": 0.05,
            "max_depth": 4,
            "min_child_weight": 10.0,
            "subsample": 0.7,
            "colsample_bytree": 0.2,
            "reg_lambda": 1.0,
            "max_bin": 128,
            "rounds": 2000,
            "patience": 50,
        },
    )

    def __init__(
        self,
        *,
        learning_rate: float = 0.05,
        max_depth: int = 4,
        min_child_weight: float = 10.0,
        subsample: float = 0.7,
        colsample_bytree: float = 0.2,
        reg_lambda: float = 1.0,
        max_bin: int = 128,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        self._settings: dict[str, Any] = {
            "learning_rate": learning_rate,
            "max_depth": max_depth,
            "min_child_weight": min_child_weight,
            "subsample": subsample,
            "colsample_bytree": colsample_bytree,
            "reg_lambda": reg_lambda,
            "max_bin": max_bin,
        }
        self._rounds, self._patience = rounds, patience
        self._layout: dict[str, Any] = {}
        self._boosters: list[Any] = []
        self.rounds: list[int] = []
        """Rounds of each target's booster, after the fit."""
        self.learning_curve: list[dict[str, float]] = []

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit one booster per target; deterministic for a seed and a number of threads."""
        require_features(train, self.info.name)
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        parameters = self._settings | {
            "tree_method": "hist",
            "objective": "reg:squarederror",
            "seed": seed,
            "nthread": threads_of(budget),
            "device": _device(budget),
            "verbosity": 0,
        }
        targets = train.require_targets().shape[1]
        self._boosters, self.rounds = [None] * targets, [0] * targets
        curves: list[_Curve] = []
        for group in target_groups(train, valid):
            best, found = self._search(group, parameters, budget)
            curves += found
            self._refit(group, parameters, best)
        self.learning_curve = average_curves(curves)

    def _search(
        self, group: TargetGroup, parameters: dict[str, Any], budget: Budget
    ) -> tuple[list[int], list[_Curve]]:
        """Best number of rounds of each target of the group, with its learning curve."""
        import xgboost

        seen = quantile_matrix(group.train, parameters)
        held_out = quantile_matrix(group.valid, parameters, reference=seen)
        limit = self._rounds if budget.rounds is None else min(self._rounds, budget.rounds)
        best, curves = [], []
        for column in range(len(group.columns)):
            set_target(seen, group.train, column)
            set_target(held_out, group.valid, column)
            history: dict[str, dict[str, list[float]]] = {}
            xgboost.train(
                parameters,
                seen,
                limit,
                evals=[(seen, "train"), (held_out, "valid")],
                early_stopping_rounds=self._patience,
                evals_result=history,
                verbose_eval=False,
                callbacks=[_stop_at(Clock(budget, SEARCH_SHARE))],
            )
            valid_errors = history["valid"]["rmse"]
            # Its own best_iteration is not set where the clock stops it.
            best.append(1 + int(np.argmin(valid_errors)))
            curves.append((history["train"]["rmse"], valid_errors))
        return best, curves

    def _refit(self, group: TargetGroup, parameters: dict[str, Any], best: list[int]) -> None:
        import xgboost

        both = concat(group.train, group.valid)
        matrix = quantile_matrix(both, parameters)
        for column, target in enumerate(group.columns):
            set_target(matrix, both, column)
            rounds = scaled_rounds(best[column], len(group.train), len(both))
            self._boosters[target] = xgboost.train(parameters, matrix, rounds)
            self.rounds[target] = rounds

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t), one shard at a time."""
        import xgboost

        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self._boosters)))
        for part in batch.shards():
            matrix = xgboost.DMatrix(batch.matrix(part, np.float32))
            for target, booster in enumerate(self._boosters):
                out[part.index, target] = booster.predict(matrix)
        return out

    def save(self, path: Path) -> None:
        """Write each booster as UBJSON."""
        parameters = self._settings | {"rounds": self._rounds, "patience": self._patience}
        config = {"learner": self.info.name, "parameters": parameters, "layout": self._layout}
        save_state(path, config | {"rounds": self.rounds})
        for target, booster in enumerate(self._boosters):
            booster.save_model(path / f"target_{target}.ubj")

    @classmethod
    def load(cls, path: Path) -> XGBoost:
        """Read what :meth:`save` wrote."""
        import xgboost

        config = load_config(path, cls.info.name)
        learner = cls(**config["parameters"])
        learner._layout, learner.rounds = config["layout"], config["rounds"]
        learner._boosters = [
            xgboost.Booster(model_file=path / f"target_{target}.ubj")
            for target in range(len(learner.rounds))
        ]
        return learner


def quantile_matrix(batch: FeatureBatch, parameters: dict[str, Any], reference: Any = None) -> Any:
    """A ``QuantileDMatrix`` read from the batch shard by shard, rows in the order of shards.

    ``reference`` lends its bin edges: without it validation rows would be binned on their own.
    """
    import xgboost

    class Shards(xgboost.DataIter):  # type: ignore[misc]
        def __init__(self) -> None:
            self._parts = batch.shards()
            super().__init__(release_data=True)

        def next(self, input_data: Callable[..., Any]) -> bool:
            part = next(self._parts, None)
            if part is None:
                return False
            input_data(data=batch.matrix(part, np.float32))
            return True

        def reset(self) -> None:
            self._parts = batch.shards()

    return xgboost.QuantileDMatrix(
        Shards(), max_bin=parameters["max_bin"], ref=reference, nthread=parameters["nthread"]
    )


def set_target(matrix: Any, batch: FeatureBatch, column: int) -> None:
    """Label a matrix of :func:`quantile_matrix`, whose rows stand in the order of shards."""
    matrix.set_label(batch.require_targets()[batch.shard_order(), column])


def _device(budget: Budget) -> str:
    """The device, or an error that says which wheel has CUDA."""
    if budget.device.startswith("cuda"):
        import xgboost

        if not xgboost.build_info().get("USE_CUDA"):
            raise InputError(
                "this XGBoost has no CUDA; pip uninstall xgboost-cpu && pip install xgboost"
            )
    return budget.device


def _stop_at(clock: Clock) -> Any:
    import xgboost

    class StopAt(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            return clock.spent()

    return StopAt()
