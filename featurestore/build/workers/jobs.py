"""What is sent to a worker: one shard, or one piece of the inputs that several shards need.

Names go out and plain facts come back, never an array.
"""

from __future__ import annotations

import os
import socket
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from featurestore.build.planning.group_plan import BuildPlan, Task
from featurestore.build.shards.examine import examine
from featurestore.build.shards.pieces import compute_piece
from featurestore.build.shards.shard_writer import storage_error
from featurestore.build.shards.slots import StoppedError, set_slots
from featurestore.build.shards.tasks import run_task
from featurestore.build.work_area import WorkArea
from featurestore.errors import ClusterError, MeristemError, StorageError

Report = dict[str, Any]
_CALLS: Final[Mapping[str, Callable[..., Report]]] = {
    "shard": run_task,
    "piece": compute_piece,
    "examine": examine,
}

SWITCH_SECONDS: Final = 0.0001
"""How long one thread may keep the interpreter from another that wants it. Python's own 5 ms is
longer than many a batch takes, and a model that waits for the interpreter computes nothing."""


@dataclass(frozen=True)
class Job:
    """One unit of work for a worker.

    Parameters
    ----------
    name : str
        For logs and messages.
    call : {"shard", "piece", "examine"}
    args : tuple
        What the call takes, after the work area.
    costly : bool
        Whether it runs a model, and so needs the device.
    needs, gives : str
        Pool of vectors that it should wait for, or that it adds to.
    task : Task, optional
        The shard, where it is one.
    """

    name: str
    call: str
    args: tuple[str | int, ...]
    costly: bool = False
    needs: str = ""
    gives: str = ""
    task: Task | None = None


def shard_job(plan: BuildPlan, task: Task) -> Job:
    """The job that makes a shard."""
    _, group = plan.of(task)
    costly = group.embeds and bool(group.identity["costly"])
    return Job(
        task.path, "shard", (task.species, task.group, task.shard), costly,
        needs=group.pool if costly else "", task=task,
    )  # fmt: skip


def in_order(jobs: Iterable[Job]) -> list[Job]:
    """Jobs in the order to start them: pieces first, then model by model, species interleaved.

    A worker then has one model loaded at a time, two where it goes from one to the next, and
    nobody waits there: the first shards of the next model follow the last of this one.
    """
    listed = list(jobs)
    seen: dict[str, int] = {}
    for job in listed:
        seen.setdefault(job.needs or job.gives, len(seen))
    return sorted(listed, key=lambda job: (not job.gives, seen[job.needs or job.gives]))


class Lanes:
    """Jobs that wait, those with a model apart from those without, so that neither is in the way.

    A job whose pool is still being filled waits; the jobs behind it do not.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._waiting = {costly: deque(j for j in jobs if j.costly == costly) for costly in (True, False)}  # fmt: skip
        self._flying = {True: 0, False: 0}
        self._filling: dict[str, int] = {}
        for job in jobs:
            if job.gives:
                self._filling[job.gives] = self._filling.get(job.gives, 0) + 1

    @property
    def flying(self) -> int:
        """Jobs that were taken and have not landed."""
        return sum(self._flying.values())

    @property
    def busy(self) -> bool:
        """Whether anything is left to do."""
        return bool(self.flying or self._waiting[True] or self._waiting[False])

    def take(self, costly: bool, limit: int) -> Job | None:
        """The next job of a lane, if fewer than ``limit`` of it fly."""
        if self._flying[costly] >= limit:
            return None
        lane = self._waiting[costly]
        for at, job in enumerate(lane):
            if not self._filling.get(job.needs):
                del lane[at]
                self._flying[costly] += 1
                return job
        return None

    def landed(self, job: Job) -> None:
        """Say that a job has ended, well or not."""
        self._flying[job.costly] -= 1
        if job.gives:
            self._filling[job.gives] -= 1

    def again(self, job: Job) -> None:
        """Put a job that landed without a result at the end of its lane."""
        self._waiting[job.costly].append(job)
        if job.gives:
            self._filling[job.gives] += 1


def attempt(
    work_root: str, name: str, call: str, args: Sequence[str | int], device: str | None,
    slots: int, threads: int, version: str,
) -> Report:  # fmt: skip
    """Run one job on this worker; an error becomes a report, so that the others go on.

    A report with ``stop`` tells of an error that every other job would meet as well.
    """
    try:
        check_worker(work_root, version)
        set_slots(slots or slots_here())
        if sys.getswitchinterval() > SWITCH_SECONDS:
            sys.setswitchinterval(SWITCH_SECONDS)
        return {"task": name, **_CALLS[call](work_root, *args, device=device, threads=threads)}
    except (StorageError, ClusterError) as error:
        of_cluster = isinstance(error, ClusterError)
        return {"task": name, "error": str(error), "stop": str(error), "cluster": of_cluster}
    except StoppedError as error:
        return {"task": name, "error": str(error), "explained": True}
    except MeristemError as error:
        return {"task": name, "error": str(error), "explained": True}
    except OSError as error:
        return _of_os(error, name, Path(work_root))
    except (ValueError, RuntimeError, MemoryError) as error:
        return {"task": name, "error": f"{type(error).__name__}: {error}"}


def _of_os(error: OSError, name: str, root: Path) -> Report:
    path = Path(error.filename) if isinstance(error.filename, str) else root
    if path.is_relative_to(root) and (told := storage_error(error, path)) is not None:
        return {"task": name, "error": str(told), "stop": str(told)}
    return {"task": name, "error": f"{type(error).__name__}: {error}"}


def check_worker(work_root: str, version: str) -> None:
    """Make sure that this process can work on the build of another.

    Raises
    ------
    ClusterError
        If it has another version of the package, or does not see the work area.
    """
    own = own_version()
    if own != version:
        raise ClusterError(
            f"worker {socket.gethostname()} has meristem {own}, 'fs build' has {version}: equal inputs would "
            "not give equal bytes. Install the same version everywhere."
        )
    if not WorkArea(Path(work_root)).plan.is_file():
        raise ClusterError(
            f"worker {socket.gethostname()} does not see {work_root}/plan.json. Workers and 'fs build' have to "
            "share a file system: put the store where all of them see it under the same path."
        )


def own_version() -> str:
    """Version of the package in this process, and of Python: what the bytes depend on."""
    from featurestore.build.planning.packages import package_versions

    found = package_versions(("meristem", "numpy"))
    return f"{found.get('meristem', '?')} (Python {found['python'].rpartition('.')[0]})"


def slots_here() -> int:
    """How many tasks of this Dask worker may use a model at once.

    One per GPU. Without one, all threads but one, which is left for cutting windows and writing.
    """
    from distributed import get_worker

    state = get_worker().state
    if state.total_resources.get("GPU"):
        return max(1, int(state.total_resources["GPU"]))
    return max(1, int(state.nthreads) - 1)


def cores() -> int:
    """CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
