"""What learners of boosted trees share, whichever library grows the trees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, MiniBatch, concat
from learners.disk import checked_load, load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.targets import TargetGroup, target_groups
from learners.trees.rounds import Watch, average_curves, scaled_rounds

_SHAP_VALUES: Final = 1 << 23

Curve = tuple[list[float], list[float]]
"""Root mean squared errors of training and of validation rows, one of each a round."""

MakeDataset = Callable[[FeatureBatch, Any], Any]
"""Makes the library's data set of a batch, rows in the order of shards, with the bin edges of another
data set, or, given None, with edges of its own."""


@dataclass(frozen=True)
class Fitted:
    """The model of one target, or of several that share their trees.

    Parameters
    ----------
    model
        Whatever has ``predict(rows)`` and gives shape (n,), or (n, targets).
    rounds : int
        Rounds of this model.
    curve : Curve
        Errors of the search that found the rounds.
    targets : int
        How many targets it predicts.
    """

    model: Any
    rounds: int
    curve: Curve
    targets: int = 1


@dataclass(frozen=True)
class Part:
    """The rows of a group of targets that one machine holds; all of them where there is only one.

    Parameters
    ----------
    group : TargetGroup
        Its training rows, and the validation rows on which it measures errors.
    both : FeatureBatch
        Its training rows and its share of the validation rows, for the refit.
    train_rows, all_rows : int
        Training rows, and training and validation rows, of all machines together.
    """

    group: TargetGroup
    both: FeatureBatch
    train_rows: int
    all_rows: int

    @classmethod
    def whole(cls, group: TargetGroup) -> Part:
        """Everything, on this machine."""
        both = concat(group.train, group.valid)
        return cls(group, both, len(group.train), len(both))


@dataclass(frozen=True)
class Contributions:
    """SHAP values of some rows of a batch, for one target.

    Parameters
    ----------
    index : int64 array, shape (rows,)
        Places of the rows in the batch.
    target : int
    values : float array, shape (rows, columns)
        What each column of ``FeatureBatch.array`` adds to the prediction.
    base : float array, shape (rows,)
        The prediction without any of them: ``base + values.sum(axis=1)`` is the prediction.
    """

    index: NDArray[np.int64]
    target: int
    values: NDArray[Any]
    base: NDArray[Any]


class BoostedTrees(ABC):
    """One model per target, by a library that a subclass names.

    A subclass says what its library is given (:meth:`_parameters`), how the targets of a group
    are fitted (:meth:`_fit_group`), and how the models go to disk (``save``, ``load``).

    Parameters
    ----------
    settings : mapping
        Constructor parameters of the subclass that its library takes under the same name.
    rounds : int
        Most rounds; ``Budget.rounds`` lowers it.
    patience : int
        Rounds without a better validation error after which to stop.
    further : mapping
        Constructor parameters of the subclass that are not its library's.
    """

    info: ClassVar[LearnerInfo]

    def __init__(
        self, settings: Mapping[str, Any], rounds: int, patience: int, **further: Any
    ) -> None:
        self._settings, self._further = dict(settings), further
        self._rounds, self._patience = rounds, patience
        self._layout: dict[str, Any] = {}
        self._models: list[Any] = []
        self._columns: list[list[int]] = []
        """Targets of each model."""
        self.rounds: list[int] = []
        """Rounds of each target's model, after the fit."""
        self.learning_curve: list[dict[str, float]] = []

    @abstractmethod
    def _parameters(self, seed: int, budget: Budget) -> dict[str, Any]:
        """Everything the library is told, but for the number of rounds."""

    @abstractmethod
    def _fit_group(
        self, group: TargetGroup, parameters: dict[str, Any], budget: Budget
    ) -> list[Fitted]:
        """Fit each target of the group, in the order of its columns."""

    def _rows(self, batch: FeatureBatch, part: MiniBatch) -> Any:
        """Features of one shard, as ``predict`` of a model takes them."""
        return batch.matrix(part, np.float64)

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit one model per target; deterministic for a seed and a number of threads."""
        require_features(train, self.info.name)
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        parameters = self._parameters(seed, budget)
        fitted: list[tuple[list[int], Fitted]] = []
        for group in target_groups(train, valid):
            columns = iter(group.columns.tolist())
            found = self._fit_group(group, parameters, budget)
            fitted.extend(([next(columns) for _ in range(one.targets)], one) for one in found)
        fitted.sort(key=lambda pair: pair[0])
        self._columns = [columns for columns, _ in fitted]
        self._models = [one.model for _, one in fitted]
        rounds = {target: one.rounds for columns, one in fitted for target in columns}
        self.rounds = [rounds[target] for target in range(len(rounds))]
        self.learning_curve = average_curves([one.curve for _, one in fitted])

    def _limit(self, budget: Budget) -> int:
        """Most rounds of a search."""
        return self._rounds if budget.rounds is None else min(self._rounds, budget.rounds)

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t), one shard at a time."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self.rounds)))
        for part in batch.shards():
            rows = self._rows(batch, part)
            for columns, model in zip(self._columns, self._models, strict=True):
                scores = np.asarray(model.predict(rows)).reshape(len(part.index), len(columns))
                out[part.index[:, None], columns] = scores
        return out

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write :meth:`_config` and the models."""

    @classmethod
    @abstractmethod
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""

    def _config(self) -> dict[str, Any]:
        """All but the models, as plain JSON."""
        return {
            "learner": self.info.name,
            "parameters": {
                **self._settings,
                **self._further,
                "rounds": self._rounds,
                "patience": self._patience,
            },
            "layout": self._layout,
            "rounds": self.rounds,
            "columns": self._columns,
        }

    @classmethod
    def _without_models(cls, path: Path) -> Self:
        """A learner from the :meth:`_config` saved in ``path``; its models are still to be read."""
        config = load_config(path, cls.info.name)
        learner = cls(**config["parameters"])
        learner._layout, learner.rounds = config["layout"], config["rounds"]
        # Models of before several targets could share their trees do not say.
        alone = [[target] for target in range(len(learner.rounds))]
        learner._columns = [[int(t) for t in one] for one in config.get("columns", alone)]
        if sorted(t for one in learner._columns for t in one) != [t for (t,) in alone]:
            raise ValueError(f"models of the targets {learner._columns}, of {len(alone)}")
        return learner


class StreamedTrees(BoostedTrees):
    """Boosted trees of a library that takes features shard by shard into a data set of its own.

    Rounds stop early on the validation rows; the best number of rounds, scaled by the gain in
    rows, is then fitted on training and validation rows together. A data set is binned once
    and labelled anew for each target (``set_label``).
    """

    _suffix: ClassVar[str]
    """Ending of the file of one booster, with its dot."""

    @abstractmethod
    def _datasets(
        self, part: Part, parameters: dict[str, Any], budget: Budget
    ) -> AbstractContextManager[MakeDataset]:
        """What makes the data sets of a fit, and cleans up behind them."""

    @abstractmethod
    def _errors(
        self, parameters: dict[str, Any], seen: Any, held_out: Any, limit: int, watch: Watch
    ) -> Curve:
        """Errors of each round of a training that ends by patience, limit or watch."""

    @abstractmethod
    def _train(self, parameters: dict[str, Any], data: Any, rounds: int) -> Any:
        """A booster of this many rounds."""

    @classmethod
    @abstractmethod
    def booster_bytes(cls, booster: Any) -> bytes:
        """One booster in its library's own format."""

    @classmethod
    @abstractmethod
    def booster_of(cls, data: bytes) -> Any:
        """The booster that :meth:`booster_bytes` wrote."""

    def _fit_group(
        self, group: TargetGroup, parameters: dict[str, Any], budget: Budget
    ) -> list[Fitted]:
        if budget.scheduler is None:
            return self.fit_part(Part.whole(group), parameters, budget)
        from learners.trees.distributed import fit_over_workers

        return fit_over_workers(self, group, parameters, budget, budget.scheduler)

    def fit_part(self, part: Part, parameters: dict[str, Any], budget: Budget) -> list[Fitted]:
        """Fit each target of a group on the rows of this machine, within :meth:`joined` if of several."""
        with self._datasets(part, parameters, budget) as make:
            # The data sets of the search are let go before that of the refit is made.
            curves, fitted = self._search(part, parameters, budget, make)
            if fitted:
                return fitted
            return self._boosters(part.both, make(part.both, None), part, parameters, curves)

    validation_is_shared_out: ClassVar[bool]
    """Whether machines may each hold other validation rows: the library then sums their errors."""

    @classmethod
    @abstractmethod
    def meeting(cls, client: Any, workers: Sequence[str]) -> AbstractContextManager[dict[str, Any]]:
        """Where the workers of a fit find each other: what :meth:`joined` takes, plain values."""

    @classmethod
    @abstractmethod
    def joined(
        cls, meeting: Mapping[str, Any], rank: int
    ) -> AbstractContextManager[dict[str, Any]]:
        """Joins this thread to the others of a fit; gives further parameters of the library."""

    def _together(self, group: TargetGroup) -> list[list[int]]:
        """Columns of the group that are fitted together: each alone."""
        return [[column] for column in range(len(group.columns))]

    def _search(
        self, part: Part, parameters: dict[str, Any], budget: Budget, make: MakeDataset
    ) -> tuple[list[Curve], list[Fitted]]:
        """Errors of each model of the group, round by round; models only where the search was ended."""
        group = part.group
        seen = make(group.train, None)
        held_out = make(group.valid, seen)
        curves: list[Curve] = []
        for columns in self._together(group):
            _set_targets(seen, group.train, columns)
            _set_targets(held_out, group.valid, columns)
            watch = Watch(budget)
            curves.append(self._errors(parameters, seen, held_out, self._limit(budget), watch))
            if watch.ended:
                # Nobody wants the model: what is at hand will do for one.
                return curves, self._boosters(group.train, seen, part, parameters, curves)
        return curves, []

    def _boosters(
        self, batch: FeatureBatch, data: Any, part: Part, parameters: dict[str, Any],
        curves: list[Curve],
    ) -> list[Fitted]:  # fmt: skip
        """Boosters of the best number of rounds on a data set."""
        fitted = []
        together = self._together(part.group)
        # A search that was ended knows no errors of the targets behind it.
        known = curves + [curves[-1]] * (len(together) - len(curves))
        for columns, curve in zip(together, known, strict=True):
            _set_targets(data, batch, columns)
            # A library's own best_iteration is not set where the clock stops it.
            best = 1 + int(np.argmin(curve[1]))
            rounds = scaled_rounds(best, part.train_rows, part.all_rows)
            booster = self._train(parameters, data, rounds)
            fitted.append(Fitted(booster, rounds, curve, len(columns)))
        return fitted

    def save(self, path: Path) -> None:
        """Write settings as JSON and each booster in its library's own format."""
        save_state(path, self._config())
        for columns, booster in zip(self._columns, self._models, strict=True):
            file = path / f"target_{columns[0]}{self._suffix}"
            file.write_bytes(self.booster_bytes(booster))

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        learner = cls._without_models(path)
        learner._models = [
            cls.booster_of((path / f"target_{columns[0]}{cls._suffix}").read_bytes())
            for columns in learner._columns
        ]
        return learner

    @abstractmethod
    def _shap(self, booster: Any, rows: Any) -> NDArray[Any]:
        """SHAP values, shape (n, columns + 1) or (n, targets, columns + 1), the base last."""

    def contributions(self, batch: FeatureBatch) -> Iterator[Contributions]:
        """SHAP values of each target, one shard at a time (Lundberg et al., Nat Mach Intell 2:56, 2020)."""
        check_layout(self._layout, batch)
        for part in batch.shards(max_rows=max(16, _SHAP_VALUES // (batch.columns + 1))):
            rows = self._rows(batch, part)
            for columns, model in zip(self._columns, self._models, strict=True):
                found = self._shap(model, rows).reshape(len(part.index), len(columns), -1)
                for i, target in enumerate(columns):
                    yield Contributions(part.index, target, found[:, i, :-1], found[:, i, -1])


def _set_targets(data: Any, batch: FeatureBatch, columns: Sequence[int]) -> None:
    """Label a data set, whose rows stand in the order of shards."""
    labels = batch.require_targets()[batch.shard_order()][:, columns]
    data.set_label(labels[:, 0] if len(columns) == 1 else labels)
