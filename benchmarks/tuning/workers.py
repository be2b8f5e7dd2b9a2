"""Tunes folds over Dask workers: draws and journal here, each trial a task there.

Every fold has a thread of this process that draws its trials, hands a generation of them to the
workers, and writes the journal. A worker is given the rows of the fold's training side, a trial's
parameters, and the rule by which it ends early; of a study it knows nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final

from benchmarks.runs.folder import RunFolder
from benchmarks.runs.folds import fold_facts
from benchmarks.runs.plans import LearnerPlan, RunPlan
from benchmarks.runs.worker_fits import alone
from benchmarks.tuning.fold import tune_fold
from benchmarks.tuning.pruning import MedianRule
from benchmarks.tuning.study import Evaluate, Tuned
from benchmarks.tuning.trial import Asked, Outcome, TrialData, failed, run_trial
from featurestore.errors import StoreError
from learners.base import Budget

FOLDS_AT_ONCE: Final = 16
"""Folds whose trials are in flight together."""


class FoldTuner:
    """Tunes folds side by side.

    Parameters
    ----------
    client : distributed.Client
    budget : Budget
        Of each fit.
    say
        Told each trial.
    """

    def __init__(self, client: Any, budget: Budget, say: Callable[[str], None]) -> None:
        self._client, self._budget, self._say = client, budget, say
        self._pool = ThreadPoolExecutor(FOLDS_AT_ONCE, thread_name_prefix="tuning")
        self._closing = threading.Event()
        self._live: set[Any] = set()

    def submit(
        self,
        plan: RunPlan,
        fold: int,
        folder: RunFolder,
        then: Callable[[Tuned | None], Any],
    ) -> Future[Any]:
        """Tune a fold; what ``then`` submits for the winner is waited for, and its result given.

        A fold with nothing to fit is not tuned: ``then`` is given None.
        """
        return self._pool.submit(self._tune, plan, fold, folder, then)

    def _tune(
        self,
        plan: RunPlan,
        fold: int,
        folder: RunFolder,
        then: Callable[[Tuned | None], Any],
    ) -> Any:
        _, sides = fold_facts(plan, fold)
        tuned = None
        if len(sides.test) and len(sides.train) and len(sides.valid):
            trials = self._over_workers(plan.learner, plan.seed)
            tuned = tune_fold(plan, fold, sides, folder, trials, self._say)
        return self._wait(then(tuned))

    def _over_workers(
        self, plan: LearnerPlan, seed: int
    ) -> Callable[[Sequence[TrialData]], Evaluate]:
        def on(data: Sequence[TrialData]) -> Evaluate:
            there = self._client.scatter([tuple(data)], hash=False)[
                0
            ]  # a list is sent item by item

            def evaluate(trials: Sequence[Asked], rule: MedianRule | None) -> Iterator[Outcome]:
                from distributed import as_completed

                tasks = {
                    self._client.submit(
                        fit_trial, plan, asked, there, seed, self._budget, rule, pure=False
                    ): asked
                    for asked in trials
                }
                self._live |= set(tasks)
                for task in as_completed(list(tasks), loop=self._client.loop):
                    yield self._outcome(task, tasks[task])

            return evaluate

        return on

    def _outcome(self, task: Any, asked: Asked) -> Outcome:
        try:
            outcome: Outcome = self._wait(task)
        except StoreError:
            raise
        except Exception as error:
            if self._closing.is_set():
                raise
            return failed(asked, error)
        return outcome

    def _wait(self, task: Any) -> Any:
        self._live.add(task)
        try:
            return task.result()
        finally:
            self._live.discard(task)

    def close(self) -> None:
        """Let go of what is still under way; nothing of it enters a journal."""
        self._closing.set()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.cancel(list(self._live), force=True)
        self._pool.shutdown(wait=True)


def fit_trial(
    plan: LearnerPlan,
    asked: Asked,
    data: Sequence[TrialData],
    seed: int,
    budget: Budget,
    rule: MedianRule | None,
) -> Outcome:
    """Fit one trial on a worker."""
    with alone(budget) as here:
        return run_trial(plan, asked, data, seed, here, rule)
