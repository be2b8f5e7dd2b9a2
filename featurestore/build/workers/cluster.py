"""Finds or starts the Dask workers of a build, and makes sure that they can work on it."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import math
import os
import socket
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

from featurestore.build.work_area import WorkArea
from featurestore.build.workers.execute import (
    NOBODY_SECONDS,
    Backend,
    DaskWorkers,
    Threads,
    nobody_there,
    workers_of,
)
from featurestore.build.workers.execution import Execution
from featurestore.build.workers.jobs import Job, check_worker, cores, own_version
from featurestore.build.workers.keeper import kept_alive
from featurestore.errors import ClusterError, InputError, MissingDependencyError, unknown_name

Say = Callable[[str], None]

CLUSTERS: Final = {
    "slurm": "dask_jobqueue:SLURMCluster",
    "pbs": "dask_jobqueue:PBSCluster",
    "sge": "dask_jobqueue:SGECluster",
    "lsf": "dask_jobqueue:LSFCluster",
    "htcondor": "dask_jobqueue:HTCondorCluster",
    "oar": "dask_jobqueue:OARCluster",
    "kubernetes": "dask_kubernetes.operator:KubeCluster",
    "local": "distributed:LocalCluster",
}
"""Cluster by name: the class that starts it."""

_THREADS: Final = 2
"""Of a local worker: one has the model, the other cuts windows or writes."""
_ANY_PORT: Final = "127.0.0.1:0"
_GPU_THREADS: Final = 3
"""… and one for what needs no model, so that it waits for no GPU and no GPU for it."""


def cluster_class(name: str) -> type[Any]:
    """The class that starts a cluster, by name or as ``module:Class``.

    Raises
    ------
    UnknownNameError
        With the nearest name.
    MissingDependencyError
        If the package of the class is not installed.
    """
    target = CLUSTERS.get(name, name)
    module, colon, attribute = target.partition(":")
    if not (module and colon and attribute):
        raise unknown_name("cluster", name, [*CLUSTERS, "module:Class"])
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        install = "'meristem[cluster]'" if name in CLUSTERS else package
        raise MissingDependencyError(
            f"--cluster {name} needs {package}, which cannot be imported ({error}): pip install {install}"
        ) from error
    if not hasattr(found, attribute):
        raise InputError(f"--cluster {name}: {module} has no class {attribute!r}")
    cls: type[Any] = getattr(found, attribute)
    return cls


def check_execution(execution: Execution) -> None:
    """Find mistakes in where to run before any work.

    Raises
    ------
    InputError, MissingDependencyError
        If there is no such cluster here.
    ClusterError
        If nothing answers at the scheduler's address.
    """
    if execution.cluster:
        cluster_class(execution.cluster)
    if execution.scheduler:
        host, _, port = execution.scheduler.rpartition("://")[2].rpartition(":")
        if not (host and port.isdigit()):
            raise InputError(
                f"--scheduler {execution.scheduler!r}: give an address such as tcp://node7:8786"
            )
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=15).close()
        except OSError as error:
            raise _no_scheduler(execution.scheduler, error) from error


def _no_scheduler(address: str, error: Exception) -> ClusterError:
    return ClusterError(
        f"--scheduler {address}: no Dask scheduler answers there ({error}). Start one with "
        "'dask scheduler', and workers with 'dask worker ADDRESS'."
    )


def parsed_options(given: Sequence[str]) -> dict[str, Any]:
    """Options of a cluster from ``KEY=VALUE``; a value that is JSON is taken as such, others as text."""
    options: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or not key.replace("-", "_").isidentifier():
            raise InputError(f"--cluster-option {text!r}: give KEY=VALUE, e.g. queue=long")
        try:
            options[key.replace("-", "_")] = json.loads(value)
        except json.JSONDecodeError:
            options[key.replace("-", "_")] = value
    return options


def start_cluster(execution: Execution) -> Any:
    """Start the cluster that ``--cluster`` names, scaled as asked for.

    What ``options`` do not say comes from Dask's own configuration (``~/.config/dask/*.yaml``).
    """
    name = execution.cluster or "local"
    cls = cluster_class(name)
    options = dict(execution.options)
    if name == "local":
        options = {"n_workers": 0, "threads_per_worker": _THREADS, "dashboard_address": _ANY_PORT, **options}  # fmt: skip
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Port .*is already in use", UserWarning)
            cluster = cls(**options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ClusterError(
            f"--cluster {name} cannot be started: {error}. Its settings come from --cluster-option KEY=VALUE "
            "and from Dask's configuration files."
        ) from error
    if execution.adapt:
        cluster.adapt(minimum=execution.adapt[0], maximum=execution.adapt[1])
    elif execution.workers:
        cluster.scale(execution.workers)
    elif name == "local":
        cluster.scale(cores())
    return cluster


def visible_gpus() -> list[str]:
    """GPUs of this machine as ``CUDA_VISIBLE_DEVICES`` names them."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [g.strip() for g in chosen.split(",") if g.strip() not in {"", "-1"}]
    try:
        told = subprocess.run(
            ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    return told.stdout.split()


def has_dashboard() -> bool:
    """Whether what Dask draws its dashboard with is installed."""
    return importlib.util.find_spec("bokeh") is not None


@contextmanager
def local_cluster(
    workers: int, device: str | None, options: Mapping[str, Any] | None = None
) -> Iterator[Any]:
    """Worker processes on this machine, each with its own GPU where the device is ``cuda``.

    Parameters
    ----------
    options : mapping, optional
        Further arguments of each :class:`distributed.Nanny`.
    """
    from distributed import Nanny, Scheduler, SpecCluster

    gpus = visible_gpus() if device == "cuda" else []
    common: dict[str, Any] = {"nthreads": _GPU_THREADS if gpus else _THREADS, "silence_logs": "CRITICAL"}  # fmt: skip
    common |= options or {}
    spec = {}
    for number in range(workers):
        own = dict(common)
        if gpus:
            own["env"] = {"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]}
            own["resources"] = {"GPU": 1}
        spec[number] = {"cls": Nanny, "options": own}
    scheduler = {
        "cls": Scheduler,
        "options": {"port": 0, "host": "127.0.0.1", "dashboard": has_dashboard(), "dashboard_address": _ANY_PORT},
    }  # fmt: skip
    with (
        SpecCluster(scheduler=scheduler, silence_logs="CRITICAL", name="build") as cluster,
        kept_alive(cluster, spec),
    ):
        yield cluster


def worker_count(execution: Execution) -> int:
    """Local processes that are asked for: as said, or one per GPU, or one per core."""
    if execution.workers:
        return execution.workers
    gpus = visible_gpus() if execution.device == "cuda" else []
    return len(gpus) or cores()


@contextmanager
def opened_backend(
    execution: Execution, work: WorkArea, jobs: Sequence[Job], say: Say
) -> Iterator[Backend]:
    """Where the jobs of a build run.

    Parameters
    ----------
    jobs : sequence of Job
        What is going to run.

    Raises
    ------
    ClusterError
        If workers cannot be had or cannot work on this build.
    """
    backend: Backend
    with ExitStack() as stack:
        if execution.on_threads:
            backend = Threads(work, execution.device, jobs)
        else:
            backend = stack.enter_context(_on_dask(execution, work, say))
        hurry = True
        try:
            yield backend
            hurry = False
        finally:
            backend.close(hurry=hurry)


@contextmanager
def _on_dask(execution: Execution, work: WorkArea, say: Say) -> Iterator[DaskWorkers]:
    from distributed import Client

    for name in ("distributed", "distributed.client"):  # what is lost is told of in our own words
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        if execution.scheduler:
            client = stack.enter_context(_client_of(execution.scheduler))
        else:
            if execution.cluster:
                cluster = stack.enter_context(start_cluster(execution))
            else:
                count = worker_count(execution)
                cluster = stack.enter_context(local_cluster(count, execution.device))
            client = stack.enter_context(Client(cluster))
        if has_dashboard() and (link := client.dashboard_link):
            say(f"dashboard: {link}")
        _wait_for_one(client, execution, say)
        check_workers(client, work)
        own = not (execution.scheduler or execution.cluster)
        count = worker_count(execution) if own else 0
        most = execution.adapt[1] if execution.adapt else execution.workers or count
        yield DaskWorkers(
            client, work, execution.device, most=most,
            slots=1 if own else 0, threads=max(1, cores() // count) if own else 1,
            patience=math.inf if execution.cluster else NOBODY_SECONDS,
        )  # fmt: skip


def _client_of(address: str) -> Any:
    from distributed import Client

    try:
        return Client(address, timeout="15s")
    except (OSError, ValueError) as error:
        raise _no_scheduler(address, error) from error


def _wait_for_one(client: Any, execution: Execution, say: Say) -> None:
    """Wait for the first worker; a queue of a cluster may take hours, so it is waited for."""
    began, told = time.monotonic(), False
    while not workers_of(client):
        waited = time.monotonic() - began
        if not execution.cluster and waited > NOBODY_SECONDS:
            raise nobody_there()
        if waited > 5 and not told:
            say("waiting for the first worker …")
            told = True
        time.sleep(0.05 if waited < 5 else 1.0)


def check_workers(client: Any, work: WorkArea) -> None:
    """Ask every worker that is there whether it has this version and sees the work area.

    Those that come later are asked with their first job, and so are those that die meanwhile.
    """
    answers = client.run(_answer, str(work.root), own_version(), on_error="return")
    bad = [str(a) for a in answers.values() if a and not isinstance(a, OSError)]
    if bad:
        more = f" (and {len(bad) - 1} more workers)" if len(bad) > 1 else ""
        raise ClusterError(bad[0] + more)


def _answer(work_root: str, version: str) -> str:
    try:
        check_worker(work_root, version)
    except ClusterError as error:
        return str(error)
    return ""
