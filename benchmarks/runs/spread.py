"""Fits the folds of runs on the workers of a Dask scheduler, a fold each.

What travels to a worker is the plan of a run: row numbers, labels, names. Features are read there
from the store, and the fold is written there into the folder of the run, as it is here when no
scheduler is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.runs.folder import RunFolder, describe
from benchmarks.runs.folds import FitFold, fold_facts, run_fold
from benchmarks.runs.plans import RunOptions, RunPlan
from benchmarks.runs.worker_fits import alone
from benchmarks.splits.artefact import Split
from benchmarks.tasks.base import TaskData
from benchmarks.tuning.study import Tuned
from benchmarks.tuning.workers import FoldTuner
from featurestore.errors import ClusterError, StoreError
from learners.base import Budget
from learners.workers import connected


@contextmanager
def folds_over_workers(
    plans: Sequence[RunPlan],
    options: RunOptions,
    scheduler: str,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[FitFold]:
    """Hand every fold that is missing to the workers; what is given waits for one of them.

    A fold that fails, or whose worker dies over it again and again, is a failed fold of its run,
    as it would be here.

    Raises
    ------
    ClusterError
        If there is no scheduler, or the workers write somewhere else.
    StoreError
        If a worker finds the store damaged, or another one at its path.
    """
    with connected(scheduler) as client:
        tuner = FoldTuner(client, options.budget, say)
        tasks = _submitted(client, plans, options, tuner)

        def fit(plan: RunPlan, fold: int, folder: RunFolder) -> dict[str, Any]:
            try:
                facts: dict[str, Any] = tasks.pop((plan.name, fold)).result()
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever ended it is the fold's result
                facts = fold_facts(plan, fold)[0] | {"status": "failed", "error": describe(error)}
                folder.save_fold(facts, None, None)
            if facts["status"] == "ok" and folder.fold(plan.repeat, fold) is None:
                raise ClusterError(
                    f"a worker has fitted fold {fold}, but nothing of it is in {folder.path}: the workers "
                    f"of {scheduler} must see the folder of runs at the same path"
                )
            return facts

        try:
            yield fit
        finally:
            tuner.close()
            client.cancel([t for t in tasks.values() if hasattr(t, "key")], force=True)


def _submitted(
    client: Any, plans: Sequence[RunPlan], options: RunOptions, tuner: FoldTuner
) -> dict[tuple[str, int], Any]:
    """A task for each fold that is not there yet, by run and fold."""
    shared: dict[int, Any] = {}

    def once(thing: Any) -> Any:
        """A future of what several plans share, sent when a worker first needs it."""
        if id(thing) not in shared:
            shared[id(thing)] = client.scatter(thing, hash=False)
        return shared[id(thing)]

    tasks = {}
    for plan in plans:
        folder = RunFolder(Path(options.out).absolute() / plan.name, plan.digest)
        if folder.finished() is not None:
            continue
        light = replace(plan, data=None, split=None)  # type: ignore[arg-type] # put back there
        data, split = once(plan.data), once(plan.split)
        for fold in plan.folding.folds:
            if folder.fold(plan.repeat, fold) is not None:
                continue
            submit = partial(
                client.submit,
                fit_fold,
                light,
                data,
                split,
                fold,
                options.budget,
                folder,
                pure=False,
            )
            if plan.learner.tuning is None:
                tasks[plan.name, fold] = submit()
            else:
                tasks[plan.name, fold] = tuner.submit(plan, fold, folder, _with(submit))
    return tasks


def _with(submit: Callable[..., Any]) -> Callable[[Tuned | None], Any]:
    return lambda tuned: submit(tuned=tuned)


def fit_fold(
    plan: RunPlan,
    data: TaskData,
    split: Split,
    fold: int,
    budget: Budget,
    folder: RunFolder,
    tuned: Tuned | None = None,
) -> dict[str, Any]:
    """Fit one fold on a worker, with the worker's threads unless the budget names some."""
    with alone(budget) as here:
        return run_fold(replace(plan, data=data, split=split), fold, here, folder, tuned)
