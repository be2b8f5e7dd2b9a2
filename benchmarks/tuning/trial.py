"""One trial: a fit with drawn parameters, scored on rows that it was not fitted on.

The tuner sees the training side of a fold alone. A trial is fitted on nine tenths of the
training families and stops early on the tenth; its error is that on the validation families of
the fold, which the fit has not seen (docs/tuning.md says why).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.runs.folder import describe
from benchmarks.runs.per_target import learner_for
from benchmarks.runs.plans import LearnerPlan
from benchmarks.runs.predicting import checked
from benchmarks.splits.recipes import balanced, shuffled
from benchmarks.tuning.pruning import MedianRule, Steps
from featurestore.errors import InputError, StoreError
from learners.base import Budget
from learners.batch import FeatureBatch, concat
from learners.targets import observed

STOPPING: Final = 0.1
"""Share of the training rows on which trials stop early."""

State = Literal["complete", "pruned", "failed"]


@dataclass(frozen=True)
class TrialData:
    """Rows of a fold's training side, cut in three by family: fitted on, stopped on, scored on."""

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


def trial_data(
    train: FeatureBatch, valid: FeatureBatch, *key: object, folds: int = 1
) -> tuple[TrialData, ...]:
    """Cut the training side by family, by an order that the key decides.

    Parameters
    ----------
    train, valid : FeatureBatch
        The training side of a fold of the benchmark.
    key
        Seed, repeat and fold.
    folds : int
        1: trials are scored on ``valid``. K: on each K-th of training and validation rows in
        turn, by fits on the others.

    Raises
    ------
    InputError
        If there are too few families.
    """
    if folds == 1:
        return (TrialData(*_cut(train, STOPPING, "stop", *key), valid),)
    both = concat(train, valid)
    found = len(np.unique(both.family))
    if found < folds + 1:
        raise InputError(
            f"--tune-folds {folds} needs {folds + 1} training families at least, here are {found}"
        )
    place = balanced(pd.Series(both.family), folds, "tuning", *key)
    parts = []
    for fold in range(folds):
        rest, score = both.take(_rows(place != fold)), both.take(_rows(place == fold))
        parts.append(TrialData(*_cut(rest, STOPPING, "stop", fold, *key), score))
    return tuple(parts)


def _cut(batch: FeatureBatch, share: float, *key: object) -> tuple[FeatureBatch, FeatureBatch]:
    """All families but some, and those, with about a share of the rows."""
    names, code = np.unique(batch.family, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            f"tuning needs two training families at least, here is {len(names)}: one to fit on and "
            "one to stop on; leave out --tune"
        )
    sizes = np.bincount(code)
    place = {name: i for i, name in enumerate(names.tolist())}
    order = np.array([place[name] for name in shuffled(names.tolist(), "tuning", *key)])
    before_each = np.cumsum(sizes[order]) - sizes[order]
    few = int((before_each < share * len(batch)).sum())
    chosen = np.zeros(len(names), bool)
    chosen[order[: min(few, len(order) - 1)]] = True
    return batch.take(_rows(~chosen[code])), batch.take(_rows(chosen[code]))


def _rows(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
    return np.flatnonzero(chosen).astype(np.int64)


def run_trial(
    plan: LearnerPlan,
    asked: Asked,
    data: Sequence[TrialData],
    seed: int,
    budget: Budget,
    rule: MedianRule | None,
) -> Outcome:
    """Fit and score one trial; a learner's failure is its outcome.

    Where it is fitted several times, the first of them decides whether it is ended early.

    Raises
    ------
    StoreError
        If the store is damaged: no trial's fault.
    """
    steps, start = Steps(rule), time.perf_counter()
    value, error = None, ""
    state: State = "complete"
    try:
        found = []
        for place, part in enumerate(data):
            told = replace(budget, on_step=steps if place == 0 else None, checkpoint=None, say=None)
            learner = learner_for(plan.with_params(asked.params), part.train)
            learner.fit(part.train, part.stop, seed=seed, budget=told)
            if steps.pruned:
                state = "pruned"
                break
            found.append(checked(learner, part.score)(part.score))
        else:
            value = rmse([part.score for part in data], found)
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


def rmse(batches: Sequence[FeatureBatch], predicted: Sequence[NDArray[np.float64]]) -> float:
    """Root mean squared error over the observed labels of all batches, mean over targets."""
    squares, count = 0.0, 0
    for batch, values in zip(batches, predicted, strict=True):
        mask = observed(batch)
        error = np.where(mask, np.where(mask, batch.require_targets(), 0.0) - values, 0.0)
        squares, count = squares + (error**2).sum(axis=0), count + mask.sum(axis=0)
    some = np.asarray(count) > 0
    return float(np.sqrt(np.asarray(squares)[some] / np.asarray(count)[some]).mean())
