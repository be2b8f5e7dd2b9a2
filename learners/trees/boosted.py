"""What learners of boosted trees share, whichever library grows the trees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch, MiniBatch, concat
from learners.compute import Clock
from learners.disk import checked_load, load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.targets import TargetGroup, target_groups
from learners.trees.rounds import SEARCH_SHARE, average_curves, scaled_rounds

Curve = tuple[list[float], list[float]]
"""Root mean squared errors of training and of validation rows, one of each a round."""


@dataclass(frozen=True)
class Fitted:
    """The model of one target.

    Parameters
    ----------
    model
        Whatever has ``predict(rows)`` and gives shape (n,).
    rounds : int
        Rounds of this model.
    curve : Curve
        Errors of the search that found the rounds.
    """

    model: Any
    rounds: int
    curve: Curve


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
    """

    info: ClassVar[LearnerInfo]

    def __init__(self, settings: Mapping[str, Any], rounds: int, patience: int) -> None:
        self._settings = dict(settings)
        self._rounds, self._patience = rounds, patience
        self._layout: dict[str, Any] = {}
        self._models: list[Any] = []
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
        fitted: dict[int, Fitted] = {}
        for group in target_groups(train, valid):
            found = self._fit_group(group, parameters, budget)
            fitted.update(zip(group.columns.tolist(), found, strict=True))
        by_target = [fitted[target] for target in range(len(fitted))]
        self._models = [one.model for one in by_target]
        self.rounds = [one.rounds for one in by_target]
        self.learning_curve = average_curves([one.curve for one in fitted.values()])

    def _limit(self, budget: Budget) -> int:
        """Most rounds of a search."""
        return self._rounds if budget.rounds is None else min(self._rounds, budget.rounds)

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t), one shard at a time."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self._models)))
        for part in batch.shards():
            rows = self._rows(batch, part)
            for target, model in enumerate(self._models):
                out[part.index, target] = model.predict(rows)
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
            "parameters": self._settings | {"rounds": self._rounds, "patience": self._patience},
            "layout": self._layout,
            "rounds": self.rounds,
        }

    @classmethod
    def _without_models(cls, path: Path) -> Self:
        """A learner from the :meth:`_config` saved in ``path``; its models are still to be read."""
        config = load_config(path, cls.info.name)
        learner = cls(**config["parameters"])
        learner._layout, learner.rounds = config["layout"], config["rounds"]
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
    def _dataset(
        self, batch: FeatureBatch, parameters: dict[str, Any], reference: Any = None
    ) -> Any:
        """The library's data set, rows in the order of shards, bin edges of ``reference``."""

    @abstractmethod
    def _errors(
        self, parameters: dict[str, Any], seen: Any, held_out: Any, limit: int, clock: Clock
    ) -> Curve:
        """Errors of each round of a training that ends by patience, limit or clock."""

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
        # The data sets of the search are let go before that of the refit is made.
        curves = self._search(part.group, parameters, budget)
        return self._refit(part, parameters, curves)

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

    def _search(
        self, group: TargetGroup, parameters: dict[str, Any], budget: Budget
    ) -> list[Curve]:
        """Errors of each target of the group, round by round."""
        seen = self._dataset(group.train, parameters)
        held_out = self._dataset(group.valid, parameters, seen)
        limit, curves = self._limit(budget), []
        for column in range(len(group.columns)):
            _set_target(seen, group.train, column)
            _set_target(held_out, group.valid, column)
            clock = Clock(budget, SEARCH_SHARE)
            curves.append(self._errors(parameters, seen, held_out, limit, clock))
        return curves

    def _refit(self, part: Part, parameters: dict[str, Any], curves: list[Curve]) -> list[Fitted]:
        """Boosters of the best number of rounds, on training and validation rows."""
        data = self._dataset(part.both, parameters)
        fitted = []
        for column, curve in enumerate(curves):
            _set_target(data, part.both, column)
            # A library's own best_iteration is not set where the clock stops it.
            best = 1 + int(np.argmin(curve[1]))
            rounds = scaled_rounds(best, part.train_rows, part.all_rows)
            fitted.append(Fitted(self._train(parameters, data, rounds), rounds, curve))
        return fitted

    def save(self, path: Path) -> None:
        """Write settings as JSON and each booster in its library's own format."""
        save_state(path, self._config())
        for target, booster in enumerate(self._models):
            (path / f"target_{target}{self._suffix}").write_bytes(self.booster_bytes(booster))

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        learner = cls._without_models(path)
        learner._models = [
            cls.booster_of((path / f"target_{target}{cls._suffix}").read_bytes())
            for target in range(len(learner.rounds))
        ]
        return learner


def _set_target(data: Any, batch: FeatureBatch, column: int) -> None:
    """Label a data set, whose rows stand in the order of shards."""
    data.set_label(batch.require_targets()[batch.shard_order(), column])
