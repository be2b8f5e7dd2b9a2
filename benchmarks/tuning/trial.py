"""One trial: a fit with drawn parameters, scored on rows that it was not fitted on.

The tuner sees the training side of a fold alone. A trial is fitted on nine tenths of the
training families and stops early on the tenth; its error is that on the validation families of
the fold, which the fit has not seen (docs/tuning.md says why).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.per_target import learner_for
from benchmarks.plans import LearnerPlan
from benchmarks.predicting import checked
from benchmarks.recipes import shuffled
from benchmarks.run_folder import describe
from benchmarks.tuning.pruning import MedianRule, Steps
from featurestore.errors import InputError, StoreError
from learners.base import Budget
from learners.batch import FeatureBatch
from learners.targets import observed

STOPPING: Final = 0.1
"""Share of the training rows on which trials stop early."""

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialData:
    """The rows of a fold's training side, cut in three by family."""

    train: FeatureBatch
    stop: FeatureBatch
    score: FeatureBatch


@dataclass(frozen=True)
class Asked:
    """A trial to be fitted."""

    number: int
    params: Mapping[str, Any]


@dataclass(frozen=True)
class Outcome:
    """A trial that was fitted.

    Parameters
    ----------
    number : int
    params : mapping
    state : {"complete", "pruned", "failed"}
    value : float or None
        Root mean squared error on the validation families, in the unit of the target; mean over
        targets. None where it did not complete.
    steps : mapping
        Error on the stopping rows by step, where the learner tells it.
    seconds : float
    error : str
        Why it failed, else "".
    """

    number: int
    params: Mapping[str, Any]
    state: State
    value: float | None
    steps: Mapping[int, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""


def trial_data(train: FeatureBatch, valid: FeatureBatch, *key: object) -> TrialData:
    """Cut the training rows by family, by an order that the key decides.

    Raises
    ------
    InputError
        If there are not two families.
    """
    names, code = np.unique(train.family, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"tuning needs two training families at least, here is {len(names)}: one to fit on and "
            "one to stop on; leave out --tune"
        )
    sizes = np.bincount(code)
    place = {name: i for i, name in enumerate(names.tolist())}
    order = np.array([place[name] for name in shuffled(names.tolist(), "tuning", *key)])
    before_each = np.cumsum(sizes[order]) - sizes[order]
    few = int((before_each < STOPPING * len(train)).sum())
    chosen = np.zeros(len(names), bool)
    chosen[order[: min(few, len(order) - 1)]] = True
    stops = chosen[code]
    return TrialData(train.take(_rows(~stops)), train.take(_rows(stops)), valid)


def _rows(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(chosen).astype(np.int64)


def run_trial(
    plan: LearnerPlan,
    asked: Asked,
    data: TrialData,
    seed: int,
    budget: Budget,
    rule: MedianRule | None,
) -> Outcome:
    """Fit and score one trial; a learner's failure is its outcome.

    Raises
    ------
    StoreError
        If the store is damaged: no trial's fault.
    """
    steps, start = Steps(rule), time.perf_counter()
    budget = replace(budget, on_step=steps, checkpoint=None, say=None)
    value, error = None, ""
    state: State
    try:
        learner = learner_for(plan.with_params(asked.params), data.train)
        learner.fit(data.train, data.stop, seed=seed, budget=budget)
        if not steps.pruned:
            value = rmse(data.score, checked(learner, data.score)(data.score))
        state = "pruned" if steps.pruned else "complete"
    except StoreError:
        raise
    except Exception as failure:  # noqa: BLE001 - whatever a learner raises is its result
        state, error = "failed", _one_line(failure)
    seconds = time.perf_counter() - start
    return Outcome(asked.number, asked.params, state, value, steps.errors, seconds, error)


def failed(asked: Asked, failure: BaseException) -> Outcome:
    """The outcome of a trial whose worker did not come back."""
    return Outcome(asked.number, asked.params, "failed", None, error=_one_line(failure))


def _one_line(failure: BaseException) -> str:
    told = describe(failure)
    return " ".join(f"{told['type']}: {told['message']}".split())[:1000]


def rmse(batch: FeatureBatch, predicted: NDArray[np.float64]) -> float:
    """Root mean squared error over observed labels, mean over the targets that have some."""
    mask = observed(batch)
    squares = np.where(mask, (np.where(mask, batch.require_targets(), 0.0) - predicted) ** 2, 0.0)
    count = mask.sum(axis=0)
    some = count > 0
    return float(np.sqrt(squares.sum(axis=0)[some] / count[some]).mean())
