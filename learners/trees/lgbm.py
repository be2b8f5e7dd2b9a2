"""LightGBM, fed shard by shard.

Ke et al., NeurIPS 2017. A ``Sequence`` must give float64 (LightGBM issues 5045, 5057), and
bin edges are found on a sample of rows that LightGBM copies as float64: its default of
200,000 rows would cost 1.2 GB at 768 columns, so fewer are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, concat
from learners.compute import Clock, threads_of
from learners.disk import load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.targets import TargetGroup, target_groups
from learners.trees.rounds import SEARCH_SHARE, average_curves, scaled_rounds

_Curve = tuple[list[float], list[float]]

SAMPLED_ROWS: Final = 20_000
"""Rows on which bin edges are found; same validation error as all rows, a third of the memory."""


class LightGBM:
    """Leaf-wise boosted trees, one booster per target.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together.

    Parameters
    ----------
    learning_rate, num_leaves, min_data_in_leaf, bagging_fraction, feature_fraction, lambda_l2,
    max_bin
        As LightGBM names them.
    rounds : int
        Most rounds; ``Budget.rounds`` lowers it.
    patience : int
        Rounds without a better validation error after which to stop.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="lightgbm",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="LightGBM, streamed, early stopping on validation, refit on both",
        reference="Ke et al., NeurIPS 2017",
        multi_output=True,
        requires=("lightgbm",),
        defaults={
            "learning_rate": 0.05,
            "num_leaves": 15,
            "min_data_in_leaf": 20,
            "bagging_fraction": 0.7,
            "feature_fraction": 0.2,
            "lambda_l2": 1.0,
            "max_bin": 127,
            "rounds": 2000,
            "patience": 50,
        },
    )

    def __init__(
        self,
        *,
        learning_rate: float = 0.05,
        num_leaves: int = 15,
        min_data_in_leaf: int = 20,
        bagging_fraction: float = 0.7,
        feature_fraction: float = 0.2,
        lambda_l2: float = 1.0,
        max_bin: int = 127,
        rounds: int = 2000,
        patience: int = 50,
    ) -> None:
        self._settings: dict[str, Any] = {
            "learning_rate": learning_rate,
            "num_leaves": num_leaves,
            "min_data_in_leaf": min_data_in_leaf,
            "bagging_fraction": bagging_fraction,
            "feature_fraction": feature_fraction,
            "lambda_l2": lambda_l2,
            "max_bin": max_bin,
        }
        self._rounds, self._patience = rounds, patience
        self._layout: dict[str, Any] = {}
        self._boosters: list[Any] = []
        self.rounds: list[int] = []
        """Rounds of each target's booster, after the fit."""
        self.learning_curve: list[dict[str, float]] = []

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit one booster per target; deterministic for a seed and a number of threads.

        The wheel has no CUDA: on a CUDA budget this fits on the CPU.
        """
        require_features(train, self.info.name)
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        parameters = self._settings | {
            "objective": "regression",
            "metric": "rmse",
            "bagging_freq": 1,
            "seed": seed,
            "num_threads": threads_of(budget),
            "deterministic": True,
            # Left on auto, the layout is chosen by a race, which is not deterministic;
            # row-wise was measured to be half as fast on embeddings.
            "force_col_wise": True,
            "bin_construct_sample_cnt": SAMPLED_ROWS,
            "feature_pre_filter": False,
            "verbosity": -1,
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
        import lightgbm

        seen = streamed_dataset(group.train, parameters)
        held_out = streamed_dataset(group.valid, parameters, reference=seen)
        limit = self._rounds if budget.rounds is None else min(self._rounds, budget.rounds)
        best, curves = [], []
        for column in range(len(group.columns)):
            set_target(seen, group.train, column)
            set_target(held_out, group.valid, column)
            history: dict[str, dict[str, list[float]]] = {}
            lightgbm.train(
                parameters,
                seen,
                limit,
                valid_sets=[seen, held_out],
                valid_names=["train", "valid"],
                callbacks=[
                    lightgbm.early_stopping(self._patience, verbose=False),
                    lightgbm.record_evaluation(history),
                    _stop_at(Clock(budget, SEARCH_SHARE)),
                ],
            )
            valid_errors = history["valid"]["rmse"]
            # Its own best_iteration is not set where the clock stops it.
            best.append(1 + int(np.argmin(valid_errors)))
            curves.append((history["train"]["rmse"], valid_errors))
        return best, curves

    def _refit(self, group: TargetGroup, parameters: dict[str, Any], best: list[int]) -> None:
        import lightgbm

        both = concat(group.train, group.valid)
        data = streamed_dataset(both, parameters)
        for column, target in enumerate(group.columns):
            set_target(data, both, column)
            rounds = scaled_rounds(best[column], len(group.train), len(both))
            self._boosters[target] = lightgbm.train(parameters, data, rounds)
            self.rounds[target] = rounds

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t), one shard at a time."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self._boosters)))
        for part in batch.shards():
            rows = batch.matrix(part, np.float64)
            for target, booster in enumerate(self._boosters):
                out[part.index, target] = booster.predict(rows)
        return out

    def save(self, path: Path) -> None:
        """Write each booster as LightGBM's text."""
        parameters = self._settings | {"rounds": self._rounds, "patience": self._patience}
        config = {"learner": self.info.name, "parameters": parameters, "layout": self._layout}
        save_state(path, config | {"rounds": self.rounds})
        for target, booster in enumerate(self._boosters):
            (path / f"target_{target}.txt").write_text(booster.model_to_string(), "utf-8")

    @classmethod
    def load(cls, path: Path) -> LightGBM:
        """Read what :meth:`save` wrote."""
        import lightgbm

        config = load_config(path, cls.info.name)
        learner = cls(**config["parameters"])
        learner._layout, learner.rounds = config["layout"], config["rounds"]
        learner._boosters = [
            lightgbm.Booster(model_str=(path / f"target_{target}.txt").read_text("utf-8"))
            for target in range(len(learner.rounds))
        ]
        return learner


def streamed_dataset(batch: FeatureBatch, parameters: dict[str, Any], reference: Any = None) -> Any:
    """A constructed ``Dataset`` read from the batch shard by shard, rows in the order of shards."""
    import lightgbm

    # Rows of one shard lie together, so that a slice reads few shards.
    ordered = batch.without_targets().take(batch.shard_order())

    class Rows(lightgbm.Sequence):  # type: ignore[misc]
        batch_size = 2048

        def __init__(self) -> None:
            self._start, self._held = 0, np.empty((0, ordered.columns))

        def __len__(self) -> int:
            return len(ordered)

        def __getitem__(self, index: Any) -> NDArray[np.float64]:
            if isinstance(index, slice):
                rows = np.arange(*index.indices(len(ordered)), dtype=np.int64)
            elif isinstance(index, list):
                rows = np.array(index, np.int64)
            else:
                return self._one(int(index))
            found: NDArray[np.float64] = ordered.take(rows).array(np.float64)
            return found

        def _one(self, row: int) -> NDArray[np.float64]:
            # The sampler asks for single rows, ascending: read a block at a time.
            if not self._start <= row < self._start + len(self._held):
                self._start = row
                self._held = self[row : row + self.batch_size]
            one: NDArray[np.float64] = self._held[row - self._start]
            return one

    data = lightgbm.Dataset(
        Rows(), label=np.zeros(len(ordered)), reference=reference, params=dict(parameters)
    )
    return data.construct()


def set_target(data: Any, batch: FeatureBatch, column: int) -> None:
    """Label a data set of :func:`streamed_dataset`, whose rows stand in the order of shards."""
    data.set_label(batch.require_targets()[batch.shard_order(), column])


def _stop_at(clock: Clock) -> Callable[[Any], None]:
    import lightgbm

    def stop(state: Any) -> None:
        if clock.spent():
            errors = [e for e in state.evaluation_result_list if e[0] == "valid"]
            raise lightgbm.callback.EarlyStopException(state.iteration, errors)

    stop.order = 40  # type: ignore[attr-defined]  # after the recording of errors
    return stop
