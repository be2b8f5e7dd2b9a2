"""What is to be tuned: how many trials, over what; plain data that stands in ``run.json``."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from featurestore.errors import InputError, MissingDependencyError
from learners.search import Choice, Range, SearchSpace, Value, search_space_of

GENERATION: Final = 4
"""Trials that are drawn together, before the result of any of them is known.

They may then be fitted one by one or at once on several workers: what is drawn is the same.
"""

STARTUP: Final = 10
"""Trials drawn at random before the sampler models what it has seen (Optuna's own default)."""


@dataclass(frozen=True)
class Tuning:
    """How the parameters of one learner are searched.

    Parameters
    ----------
    trials : int
        Trials of each fold.
    space : SearchSpace
        What is searched: the learner's space without what was set by hand.
    folds : int
        1: trials are scored on the validation families of the fold. K: on all families of its
        training side, by K fits each.
    start : mapping
        The parameters that the learner has untuned: the first trial.
    """

    trials: int
    space: SearchSpace
    start: Mapping[str, Value]
    folds: int = 1

    def identity(self) -> dict[str, Any]:
        """What of it decides the result of a run."""
        return {
            "trials": self.trials,
            "per": "fold",
            "sampler": f"TPE, {STARTUP} at random first, {GENERATION} at a time",
            "pruner": "median",
            "folds": self.folds,
            "objective": "rmse on validation families"
            if self.folds == 1
            else f"rmse on training families, {self.folds} inner folds",
            "space": {name: one.told() for name, one in self.space.items()},
        }

    @property
    def starts_known(self) -> bool:
        """Whether the untuned parameters lie in the space."""
        return all(holds(one, self.start[name]) for name, one in self.space.items())


def tuning_of(cls: Any, params: Mapping[str, Any], trials: int, folds: int = 1) -> Tuning | None:
    """The search of a learner with some parameters set by hand, None if it has none.

    Raises
    ------
    InputError
        If every parameter that could be tuned is set by hand.
    """
    space = search_space_of(cls)
    if not space:
        return None
    left = {name: one for name, one in space.items() if name not in params}
    if not left:
        raise InputError(
            f"--tune {trials}: {cls.info.name} has nothing left to tune, --param sets "
            f"{', '.join(space)}; leave one of them out, or --tune"
        )
    start = {name: cls.info.defaults[name] for name in left}
    return Tuning(trials, left, start, folds)


def require_optuna() -> None:
    """Say how to install what draws the trials.

    Raises
    ------
    MissingDependencyError
    """
    if importlib.util.find_spec("optuna") is None:
        raise MissingDependencyError(
            "--tune needs optuna, not installed here: pip install 'meristem[tuning]'"
        )


def load_optuna() -> Any:
    """Optuna, without its line for every study and trial: the run tells of them itself."""
    import optuna

    if optuna.logging.get_verbosity() < optuna.logging.WARNING:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def holds(one: Choice | Range, value: Any) -> bool:
    """Whether a value lies in a part of a search space."""
    if isinstance(one, Choice):
        return any(type(value) is type(x) and value == x for x in one.options)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not one.low <= value <= one.high:
        return False
    return float(value).is_integer() if one.integer else True


def distributions(space: SearchSpace) -> dict[str, Any]:
    """A search space as Optuna's distributions."""
    from optuna.distributions import (
        BaseDistribution,
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    def one(part: Choice | Range) -> BaseDistribution:
        if isinstance(part, Choice):
            return CategoricalDistribution(tuple(part.options))
        if part.integer:
            return IntDistribution(int(part.low), int(part.high), log=part.log)
        return FloatDistribution(part.low, part.high, log=part.log)

    return {name: one(part) for name, part in space.items()}
