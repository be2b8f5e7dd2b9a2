"""One fit of boosted trees over the workers of a Dask scheduler.

Each worker is given row numbers, reads these rows from the store, shard by shard, into the
library's own binned form, and the libraries sum their histograms over the workers: the same
collective that ``xgboost.dask`` and the same network that ``lightgbm.dask`` set up. Their own
data sets are not used: these want the features as Dask arrays, which a worker then holds as
floats beside the binned form (twice the memory, XGBoost issue 11686), and ``lightgbm.dask`` has
no early stopping (LightGBM issue 3712). The code that fits is that of one machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import ClusterError
from learners.base import Budget
from learners.batch import FeatureBatch, concat
from learners.targets import TargetGroup
from learners.trees.boosted import Curve, Fitted, Part, StreamedTrees
from learners.workers import connected

_WATCH_SECONDS: Final = 0.2
_GRACE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class _Found:
    """What one worker gives back: errors on its rows, and from the first one the boosters."""

    rows: int
    curves: list[Curve]
    rounds: list[int]
    targets: list[int]
    boosters: list[bytes]


def fit_over_workers(
    learner: StreamedTrees,
    group: TargetGroup,
    parameters: dict[str, Any],
    budget: Budget,
    scheduler: str,
) -> list[Fitted]:
    """Fit each target of a group over the workers of a scheduler.

    Parameters
    ----------
    learner : StreamedTrees
    group : TargetGroup
    parameters : dict
        Of the library; the threads are each worker's own unless the budget names some.
    budget : Budget
        ``workers`` of it limits how many are used.
    scheduler : str
        Its address.

    Returns
    -------
    list of Fitted
        As a fit on one machine gives them.

    Raises
    ------
    ClusterError
        If there is no scheduler or no worker, or one is lost during the fit.
    """
    with connected(scheduler) as client:
        from distributed import MultiLock

        threads = client.nthreads()
        workers = sorted(threads)[: budget.workers]
        if budget.workers is not None and len(workers) < budget.workers:
            raise ClusterError(
                f"{scheduler} has {len(workers)} workers, the fit is to use {budget.workers}"
            )
        parts = parts_of(group, len(workers), share_validation=learner.validation_is_shared_out)
        workers = workers[: len(parts)]
        # Two fits at once, each with some of the workers, would wait for each other for ever.
        lock = MultiLock(workers, client=client)
        with lock, learner.meeting(client, workers) as meeting:
            tasks = [
                client.submit(
                    _fit_part, learner, part, parameters | {_threads(parameters): threads[worker]}
                    if budget.threads is None else parameters, replace(budget, scheduler=None),
                    dict(meeting), rank,
                    workers=[worker], allow_other_workers=False, pure=False, retries=0,
                )
                for rank, (worker, part) in enumerate(zip(workers, parts, strict=True))
            ]  # fmt: skip
            found = _gather(client, tasks, workers)
    return _fitted(learner, found)


def _threads(parameters: Mapping[str, Any]) -> str:
    """What the library calls its threads."""
    return "nthread" if "nthread" in parameters else "num_threads"


def parts_of(group: TargetGroup, workers: int, *, share_validation: bool) -> list[Part]:
    """The rows of each worker: runs of equal length in the order of shards.

    Parameters
    ----------
    group : TargetGroup
    workers : int
        At most; fewer where there are fewer training rows.
    share_validation : bool
        False gives every worker all validation rows for the search.
    """
    count = max(1, min(workers, len(group.train)))
    train, valid = (_runs(batch, count) for batch in (group.train, group.valid))
    shared = share_validation and len(group.valid) >= count
    rows = len(group.train), len(group.train) + len(group.valid)
    return [
        Part(
            TargetGroup(group.columns, own, share if shared else group.valid),
            concat(own, share),
            *rows,
        )
        for own, share in zip(train, valid, strict=True)
    ]


def _runs(batch: FeatureBatch, count: int) -> list[FeatureBatch]:
    runs: Sequence[NDArray[np.int64]] = np.array_split(batch.shard_order(), count)
    return [batch.take(run) for run in runs]


def _fit_part(
    learner: StreamedTrees,
    part: Part,
    parameters: dict[str, Any],
    budget: Budget,
    meeting: dict[str, Any],
    rank: int,
) -> _Found:
    """What a worker does; all of them at once."""
    with learner.joined(meeting, rank) as further:
        fitted = learner.fit_part(part, parameters | further, budget)
        boosters = [learner.booster_bytes(one.model) for one in fitted] if rank == 0 else []
    return _Found(
        len(part.group.train), [one.curve for one in fitted], [one.rounds for one in fitted],
        [one.targets for one in fitted], boosters,
    )  # fmt: skip


def _gather(client: Any, tasks: list[Any], workers: Sequence[str]) -> list[_Found]:
    """Results of all workers; where one is lost the others are let go, as they would wait for it."""
    try:
        while True:
            failed = [task for task in tasks if task.status in ("error", "lost", "cancelled")]
            if failed:
                time.sleep(_GRACE_SECONDS)  # the scheduler may see the loss behind an error later
            if lost := set(workers) - set(client.nthreads()):
                raise ClusterError(
                    f"worker {', '.join(sorted(lost))} was lost during the fit; run it again"
                ) from _error(failed)
            if failed:
                raise _error(failed) or ClusterError(
                    "the scheduler has let go of a fit; run it again"
                )
            if all(task.status == "finished" for task in tasks):
                found: list[_Found] = client.gather(tasks)
                return found
            time.sleep(_WATCH_SECONDS)
    finally:
        client.cancel(tasks, force=True)


def _error(failed: Sequence[Any]) -> BaseException | None:
    """The first error that a task ended in."""
    errors = [task.exception() for task in failed if task.status == "error"]
    return errors[0] if errors else None


def _fitted(learner: StreamedTrees, found: Sequence[_Found]) -> list[Fitted]:
    """Boosters of the first worker with the errors of all."""
    first = found[0]
    return [
        Fitted(learner.booster_of(data), rounds, _merged(found, i), targets)
        for i, (data, rounds, targets) in enumerate(
            zip(first.boosters, first.rounds, first.targets, strict=True)
        )
    ]


def _merged(found: Sequence[_Found], model: int) -> Curve:
    """Errors over all training rows; of the validation rows every worker knows them all."""
    weight = np.array([one.rows for one in found], np.float64)
    train = np.array([one.curves[model][0] for one in found])
    mean = np.sqrt((train**2 * weight[:, None]).sum(axis=0) / weight.sum())
    return mean.tolist(), found[0].curves[model][1]
