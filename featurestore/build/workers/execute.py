"""Runs jobs where the build was told to: on threads of this process, or on Dask workers.

Never more than a few jobs per worker are in flight, so neither the scheduler's memory nor what is
lost with it grows with the store. A Dask array is never handed to Zarr: with blocks smaller than a
shard it loses values silently (dask issue 12583, zarr-python issue 3682).
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, Protocol

from featurestore.build.shards.scratch import forget
from featurestore.build.shards.slots import go_on, stop
from featurestore.build.work_area import WorkArea
from featurestore.build.workers.jobs import (
    SWITCH_SECONDS,
    Job,
    Lanes,
    Report,
    attempt,
    cores,
    in_order,
    own_version,
)
from featurestore.errors import ClusterError, StorageError

ROUNDS: Final = 2
"""How often a job is given to the scheduler that killed its workers, each time up to the
scheduler's ``allowed-failures``; the last time while no other job runs."""
GPU_SHARE: Final = 0.5
"""Part of a worker's ``GPU`` that a job takes: two share one, the first has the model while the
second cuts windows or writes."""
LOOK_SECONDS: Final = 2.0
"""How often to ask the scheduler which workers it has."""
NOBODY_SECONDS: Final = 60.0
"""How long to wait for workers where none is, before the build ends."""


class Backend(Protocol):
    """Somewhere that jobs run."""

    def limit(self, costly: bool) -> int:
        """How many jobs of a lane may be in flight."""

    def submit(self, job: Job) -> None:
        """Start a job."""

    def landed(self) -> tuple[Job, Report]:
        """Wait for a job to end; a report with ``lost`` tells that its worker died."""

    def close(self, *, hurry: bool) -> None:
        """Let go of everything; with ``hurry`` without waiting for what runs."""


def run_jobs(
    backend: Backend,
    jobs: Sequence[Job],
    on_done: Callable[[Report], None] = lambda report: None,
) -> list[Report]:
    """Run jobs and report each as it ends.

    Raises
    ------
    StorageError, ClusterError
        At the first error that every other job would meet as well.
    """
    lanes = Lanes(in_order(jobs))
    reports: list[Report] = []
    losses: Counter[str] = Counter()
    suspects: list[Job] = []
    while lanes.busy or suspects:
        if not lanes.busy:  # alone on the cluster, so that nobody dies beside it
            lanes.again(suspects.pop())
        for costly in (True, False):
            while (job := lanes.take(costly, backend.limit(costly))) is not None:
                backend.submit(job)
        job, report = backend.landed()
        lanes.landed(job)
        if "stop" in report:
            raise (ClusterError if report.get("cluster") else StorageError)(report["stop"])
        if "lost" in report and losses[job.name] + 1 < ROUNDS:
            losses[job.name] += 1
            suspects.append(job)
            continue
        on_done(report)
        reports.append(report)
    return reports


class Threads:
    """Threads of this process.

    Parameters
    ----------
    jobs : sequence of Job
        What is going to run.
    at_once : int, optional
        Tasks that may use a model at once. Default: one per core, on a GPU one.
    """

    def __init__(
        self, work: WorkArea, device: str | None, jobs: Sequence[Job], at_once: int | None = None
    ) -> None:
        have = cores()
        gpu = any(job.costly for job in jobs) and on_gpu(device)
        self._slots = at_once or (1 if gpu else max(1, min(len(jobs), have)))
        self._arguments = (device, self._slots, max(1, have // self._slots), own_version())
        # One thread more than slots: it cuts windows or writes while the models compute.
        cheap = max(1, have - 1) if gpu else 0
        self._limit = {True: self._slots + 1, False: cheap or self._slots + 1}
        self._root = str(work.root)
        self._landed: queue.SimpleQueue[tuple[Job, Future[Report]]] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(self._slots + 1 + cheap, "build")
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(min(self._interval, SWITCH_SECONDS))
        go_on()

    def in_flight(self, costly: int) -> None:
        """Let no more jobs with a model be in flight; 1 writes each shard before the next is begun."""
        self._limit[True] = costly

    def limit(self, costly: bool) -> int:
        """As :class:`Backend`."""
        return self._limit[costly]

    def submit(self, job: Job) -> None:
        """As :class:`Backend`."""
        future = self._pool.submit(
            attempt, self._root, job.name, job.call, job.args, *self._arguments
        )
        future.add_done_callback(lambda done: self._landed.put((job, done)))

    def landed(self) -> tuple[Job, Report]:
        """As :class:`Backend`."""
        job, future = self._landed.get()
        if (error := future.exception()) is not None:
            return job, _raised(job, error)
        return job, future.result()

    def close(self, *, hurry: bool) -> None:
        """As :class:`Backend`; what runs ends at its next batch."""
        if hurry:
            stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        go_on()
        forget()
        sys.setswitchinterval(self._interval)


def _raised(job: Job, error: BaseException) -> Report:
    if type(error).__name__ == "KilledWorker":
        return {"task": job.name, "error": "each worker that ran it died", "lost": True}
    return {"task": job.name, "error": f"{type(error).__name__}: {error}"}


def on_gpu(device: str | None) -> bool:
    """Whether embedders will compute on a GPU of this machine."""
    if device is not None:
        return device.startswith("cuda")
    if importlib.util.find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available()


def workers_of(client: Any) -> list[dict[str, Any]]:
    """What the scheduler knows of each of its workers."""
    asks = client.scheduler_info
    every = {"n_workers": -1} if "n_workers" in inspect.signature(asks).parameters else {}
    return list(asks(**every)["workers"].values())


def nobody_there() -> ClusterError:
    """The error where no worker is left, and none comes."""
    return ClusterError(
        f"there has been no Dask worker for {NOBODY_SECONDS:.0f} s. The shards that are done stay: see why "
        "workers end (memory?) or start some with 'dask worker ADDRESS', then run 'fs build' again."
    )


@contextmanager
def _scheduler() -> Iterator[None]:
    """Ask the scheduler for something; if it does not answer it is lost."""
    from distributed import CancelledError
    from distributed.client import ClosedClientError

    try:
        yield
    except (CancelledError, ClosedClientError, OSError) as error:
        raise ClusterError(
            "the Dask scheduler was lost. The shards that are done stay: start a scheduler, then run "
            "'fs build' again."
        ) from error


class DaskWorkers:
    """Workers of a Dask scheduler.

    Parameters
    ----------
    client : distributed.Client
    most : int
        Workers that there may come to be; 0 for those there are.
    slots, threads : int
        Tasks of a worker that may use a model at once (0: the worker decides), and threads of
        each of these models.
    patience : float
        Seconds that jobs may wait while there is no worker at all.
    """

    def __init__(
        self, client: Any, work: WorkArea, device: str | None, *, most: int = 0, slots: int = 0,
        threads: int = 1, patience: float = math.inf,
    ) -> None:  # fmt: skip
        self._client, self._root, self._most = client, str(work.root), most
        self._arguments = (device, slots, threads, own_version())
        self._flying: dict[str, tuple[Job, Any]] = {}
        self._ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._count, self._looked = 0, -LOOK_SECONDS
        self._patience, self._seen = patience, time.monotonic()
        self._workers: list[dict[str, Any]] = []

    def _look(self) -> list[dict[str, Any]]:
        if time.monotonic() - self._looked > LOOK_SECONDS:
            with _scheduler():
                self._workers = workers_of(self._client)
            self._looked = time.monotonic()
            if self._workers:
                self._seen = self._looked
        return self._workers

    def _gpus(self) -> float:
        return float(sum(w["resources"].get("GPU", 0) for w in self._look()))

    def limit(self, costly: bool) -> int:
        """As :class:`Backend`: what the workers can run at once, and one more each to go on with."""
        workers = self._look()
        missing = max(0, self._most - len(workers))
        if costly and (gpus := self._gpus()):
            return int(gpus / GPU_SHARE) + len(workers) + 3 * missing
        return sum(int(w["nthreads"]) + 1 for w in workers) + 3 * max(missing, not workers)

    def submit(self, job: Job) -> None:
        """As :class:`Backend`."""
        self._count += 1
        resources = {"GPU": GPU_SHARE} if job.costly and self._gpus() else None
        with _scheduler():
            future = self._client.submit(
                attempt, self._root, job.name, job.call, job.args, *self._arguments, pure=False,
                key=f"{job.name}-{self._count}", priority=int(job.costly), resources=resources,
            )  # fmt: skip
        self._flying[future.key] = job, future
        future.add_done_callback(self._ended.put)

    def _next(self) -> Any:
        """The next future that ends, while there is anybody to end one."""
        while True:
            try:
                future = self._ended.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                if not self._look() and time.monotonic() - self._seen > self._patience:
                    raise nobody_there() from None
                continue
            if future.status not in {"lost", "pending"}:
                return future
            # Its worker died with the report: it runs again.
            future.add_done_callback(self._ended.put)

    def landed(self) -> tuple[Job, Report]:
        """As :class:`Backend`."""
        from distributed import KilledWorker

        future = self._next()
        job, _ = self._flying.pop(future.key)
        try:
            with _scheduler():
                if future.status == "error":
                    return job, _raised(job, future.exception())
                return job, future.result()
        except KilledWorker as error:  # while its report was fetched
            return job, _raised(job, error)
        finally:
            future.release()

    def close(self, *, hurry: bool) -> None:
        """As :class:`Backend`."""
        if hurry and self._flying and self._client.status == "running":
            self._client.cancel([future for _, future in self._flying.values()], force=True)
        self._flying.clear()
