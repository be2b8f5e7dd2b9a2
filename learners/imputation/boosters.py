"""XGBoost on tables in memory: several targets of the same rows, stopped early, refitted, on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget
from learners.compute import threads_of
from learners.trees.rounds import scaled_rounds

_UNSTOPPED = 100
"""Rounds where there is no validation row to stop on."""


@dataclass(frozen=True)
class Growth:
    """How trees are grown; names as XGBoost has them.

    Parameters
    ----------
    members : int
        Boosters of a target, from other seeds, whose mean counts. The first alone is searched for how many
        rounds are best, and tells what is said of rows held out: a little worse than the mean will be.
    rounds, patience : int
        Most rounds, and rounds without a better validation error after which to stop.
    """

    learning_rate: float = 0.02
    max_depth: int = 6
    min_child_weight: float = 40.0
    subsample: float = 0.7
    colsample_bytree: float = 0.15
    reg_lambda: float = 10.0
    max_bin: int = 64
    members: int = 2
    rounds: int = 800
    patience: int = 50

    def parameters(self, seed: int, budget: Budget) -> dict[str, Any]:
        """What XGBoost is told."""
        named = (
            "learning_rate", "max_depth", "min_child_weight", "subsample", "colsample_bytree",
            "reg_lambda", "max_bin",
        )  # fmt: skip
        return {name: getattr(self, name) for name in named} | {
            "tree_method": "hist", "objective": "reg:squarederror", "seed": seed,
            "nthread": threads_of(budget), "verbosity": 0, "base_score": 0.0,
        }  # fmt: skip


class Boosters:
    """The boosters of some targets; what they predict is the mean over the members of each.

    Parameters
    ----------
    growth : Growth
    seed : int
    budget : Budget
        ``rounds`` lowers those of ``growth``.
    """

    def __init__(self, growth: Growth, seed: int, budget: Budget) -> None:
        self.growth, self.seed, self.budget = growth, seed, budget
        self.limit = growth.rounds if budget.rounds is None else min(growth.rounds, budget.rounds)
        self.rounds: list[int] = []
        self._before = 0
        self.models: list[list[Any]] = []
        """Of each target."""

    def search(
        self, table: NDArray[Any], targets: NDArray[Any], held: NDArray[Any], wanted: NDArray[Any]
    ) -> NDArray[np.float64]:
        """Find the rounds of each target; what the boosters so far say of the rows held out.

        Parameters
        ----------
        table, held : float arrays, (n, columns) and (m, columns)
        targets, wanted : float arrays, (n, t) and (m, t)

        Returns
        -------
        float64 array, shape (m, t)
        """
        self._before = len(table)
        count = targets.shape[1]

        def found_of(own: list[int], budget: Budget) -> list[list[Any]]:
            seen = self._matrix(table, None, budget)
            stop = self._matrix(held, seen, budget) if len(held) else None
            found = []
            for target in own:
                seen.set_label(targets[:, target])
                if stop is not None:
                    stop.set_label(wanted[:, target])
                found.append([self._searched(seen, stop, budget)])
            return found

        self.models = self._spread(count, found_of)
        self.rounds = [found[0].num_boosted_rounds() for found in self.models]
        return self.predict(held) if len(held) else np.zeros((0, count))

    def _searched(self, seen: Any, stop: Any, budget: Budget) -> Any:
        """One booster, with the rounds that do best on the rows held out."""
        import xgboost

        parameters = self.growth.parameters(self.seed, budget)
        if stop is None:
            return xgboost.train(parameters, seen, min(_UNSTOPPED, self.limit))
        model = xgboost.train(
            parameters, seen, self.limit, evals=[(stop, "valid")], verbose_eval=False,
            early_stopping_rounds=self.growth.patience,
        )  # fmt: skip
        return model[: model.best_iteration + 1]

    def refit(self, table: NDArray[Any], targets: NDArray[Any]) -> None:
        """Fit again on more rows, by as much longer as there are more of them."""
        import xgboost

        def fitted(own: list[int], budget: Budget) -> list[list[Any]]:
            seen = self._matrix(table, None, budget)
            found = []
            for target in own:
                seen.set_label(targets[:, target])
                rounds = scaled_rounds(self.rounds[target], self._before, len(table))
                found.append(
                    [
                        xgboost.train(self.growth.parameters(self.seed + m, budget), seen, rounds)
                        for m in range(self.growth.members)
                    ]
                )
            return found

        self.models = self._spread(len(self.rounds), fitted)

    def _spread(
        self, count: int, work: Callable[[list[int], Budget], list[list[Any]]]
    ) -> list[list[Any]]:
        """What is found of each target; as many targets at once as there are threads.

        A booster of so few rows is grown no faster by two threads than by one; two boosters are. Each
        thread has matrices of its own, as they hold the labels.
        """
        threads = threads_of(self.budget)
        workers = max(1, min(threads, count))
        budget = replace(self.budget, threads=max(1, threads // workers))
        groups = [list(range(first, count, workers)) for first in range(workers)]
        if workers == 1:
            return work(groups[0], budget)
        with ThreadPoolExecutor(workers) as pool:
            parts = list(pool.map(lambda own: work(own, budget), groups))
        found: list[list[Any]] = [[] for _ in range(count)]
        for own, models in zip(groups, parts, strict=True):
            for target, members in zip(own, models, strict=True):
                found[target] = members
        return found

    def predict(self, table: NDArray[Any]) -> NDArray[np.float64]:
        """Shape (n, t)."""
        out = np.zeros((len(table), len(self.models)))
        for target, models in enumerate(self.models):
            for model in models:
                out[:, target] += model.inplace_predict(table)
            out[:, target] /= len(models)
        return out

    def _matrix(self, table: NDArray[Any], like: Any, budget: Budget) -> Any:
        import xgboost

        return xgboost.QuantileDMatrix(
            table, ref=like, max_bin=self.growth.max_bin, nthread=threads_of(budget)
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Boosters as UBJSON, one byte array each."""
        return {
            f"booster.{target}.{member}": np.frombuffer(bytes(model.save_raw("ubj")), np.uint8)
            for target, models in enumerate(self.models)
            for member, model in enumerate(models)
        }

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what :meth:`arrays` gave."""
        import xgboost

        names = sorted(
            tuple(map(int, name.split(".")[1:])) for name in arrays if name.startswith("booster.")
        )
        self.models = [[] for _ in range(1 + max((t for t, _ in names), default=-1))]
        for target, member in names:
            data = bytearray(arrays[f"booster.{target}.{member}"].tobytes())
            self.models[target].append(xgboost.Booster(model_file=data))


def part_of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """Arrays whose name begins so, without that beginning."""
    return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}


def prefixed(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The same arrays under longer names."""
    return {prefix + name: array for name, array in arrays.items()}


def stacked(tables: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Tables side by side as one, float32."""
    return np.concatenate([np.asarray(table, np.float32) for table in tables], axis=1)
