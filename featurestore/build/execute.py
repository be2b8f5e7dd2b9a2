"""Runs the tasks of a plan through Dask: one task per shard, names in, plain facts out.

A Dask array is never handed to Zarr: with blocks smaller than a shard it loses values silently
(dask issue 12583, zarr-python issue 3682).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from featurestore.build.group_plan import Task
from featurestore.build.tasks import run_task
from featurestore.build.work_area import WorkArea
from featurestore.errors import MeristemError

Report = dict[str, Any]


def attempt(
    work_root: str, species: str, group: str, shard: int, device: str | None, threads: int = 1
) -> Report:
    """Run one task; an error becomes a report, so that the other shards go on."""
    try:
        return run_task(work_root, species, group, shard, device, threads)
    except (MeristemError, OSError, ValueError, RuntimeError, MemoryError) as error:
        return {"task": f"{species}/{group}/{shard}", "error": f"{type(error).__name__}: {error}"}


def run_tasks(
    work: WorkArea,
    tasks: Sequence[Task],
    *,
    workers: int | None = None,
    device: str | None = None,
    on_done: Callable[[Report], None] = lambda report: None,
) -> list[Report]:
    """Run tasks and report each as it ends.

    Parameters
    ----------
    workers : int, optional
        Processes of a local Dask cluster. None: threads of this process, one per core.
    """
    if not tasks:
        return []
    if workers is None:
        return _on_threads(work, tasks, device, on_done)
    return _on_processes(work, tasks, workers, device, on_done)


def _on_threads(
    work: WorkArea, tasks: Sequence[Task], device: str | None, on_done: Callable[[Report], None]
) -> list[Report]:
    import dask

    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    at_once = min(len(tasks), cores)

    def one(task: Task) -> Report:
        report = attempt(
            str(work.root), task.species, task.group, task.shard, device, cores // at_once
        )
        on_done(report)
        return report

    lazy = [dask.delayed(one, pure=False)(task) for task in tasks]
    return list(dask.compute(*lazy, scheduler="threads", num_workers=at_once))


def _on_processes(
    work: WorkArea,
    tasks: Sequence[Task],
    workers: int,
    device: str | None,
    on_done: Callable[[Report], None],
) -> list[Report]:
    from distributed import Client, LocalCluster, as_completed

    reports = []
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        Client(cluster) as client,
    ):
        futures = {
            client.submit(
                attempt, str(work.root), t.species, t.group, t.shard, device, pure=False
            ): t
            for t in tasks
        }
        for future in as_completed(list(futures)):
            # A worker that died takes its shard's report with it; the shard is then simply not done.
            report = (
                future.result() if future.status == "finished" else _died(futures[future], future)
            )
            on_done(report)
            reports.append(report)
    return reports


def _died(task: Task, future: Any) -> Report:
    return {"task": task.path, "error": f"its worker died ({future.exception()})"}
