"""Builds without Dask: plan once, make shards by number from any number of processes, finish.

The plan and all its inputs lie in the work area, so a shard needs neither the data set nor any
other process. While shards are made nobody may plan anew: they hold the build's lock shared.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from featurestore.build.engine import BuildResult, ended, finish, telling_storage
from featurestore.build.planning.group_plan import BuildPlan, Task
from featurestore.build.planning.prepare import Prepared, prepare, told
from featurestore.build.planning.request import is_up_to_date, resolve
from featurestore.build.sealing.finalise import drop_spoilt, recover
from featurestore.build.sealing.lock import build_lock, task_lock
from featurestore.build.windows.laid_down import taken_up
from featurestore.build.work_area import WorkArea
from featurestore.build.workers.execute import Threads, run_jobs
from featurestore.build.workers.jobs import Job, Report
from featurestore.build.workers.run import Voices, is_done, log, pending_jobs
from featurestore.errors import IncompleteStoreError, InputError, StoreNotFoundError
from featurestore.inputs.dataset import load_config
from featurestore.inputs.model import SpeciesData
from featurestore.store.commit import commit_file

_SHOWN: Final = 20
"""Ranges of task numbers that a message gives."""


@dataclass(frozen=True)
class ArrayPlan:
    """What ``fs build --plan-only`` wrote.

    ``tasks`` in all; the first ``first`` of them embed inputs that several of the others need.
    """

    store: Path
    tasks: int
    first: int
    up_to_date: bool = False


def plan_only(
    dataset: Path, store: Path, embedders: Sequence[str], species: Sequence[str], voices: Voices,
    large: bool = False,
) -> ArrayPlan:  # fmt: skip
    """Plan a build and write all that its tasks need into the work area.

    Parameters
    ----------
    large : bool
        Whether an embedder of long windows may store more than 50 GB.

    Raises
    ------
    StoreLockedError
        If a build of this store, or a task of one, is running.
    """
    store = store.resolve()
    config = load_config(dataset, files=False)
    work = WorkArea.beside(store)
    store.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(work.root):
        recover(store, work)
        request = resolve(config, store, embedders, species)
        if is_up_to_date(request, store) is not None:
            work.remove()
            return ArrayPlan(store, 0, 0, up_to_date=True)
        with telling_storage(work.root):
            prepared = prepare(work, request, store, large=large)
            for line in told(prepared, store):
                voices.say(line)
            jobs = pending_jobs(work, prepared.plan)
            asked = {
                "taken_over": prepared.taken_over, "resumed": prepared.resumed,
                "jobs": [asdict(job) for job in jobs],
            }  # fmt: skip
            commit_file(work.jobs, [json.dumps(asked).encode()])
    return ArrayPlan(store, len(jobs), sum(bool(job.gives) for job in jobs))


def _read(work: WorkArea) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(work.jobs.read_bytes())
    except FileNotFoundError as error:
        raise StoreNotFoundError(
            f"{work.root}: no plan lies there. Write one with 'fs build DATASET --store STORE --plan-only'."
        ) from error
    return found


def _jobs(asked: dict[str, Any]) -> list[Job]:
    return [
        Job(**{**j, "args": tuple(j["args"]), "task": j["task"] and Task(**j["task"])})
        for j in asked["jobs"]
    ]


def parse_range(text: str, tasks: int) -> range:
    """Task numbers from ``3`` or ``0-99`` (both ends included).

    Raises
    ------
    InputError
        If it is neither, or beyond the tasks there are.
    """
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
    if found is None:
        raise InputError(f"task {text!r}: give a number or a range, such as 3 or 0-99")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first or first >= tasks:
        raise InputError(
            f"task {text!r}: the plan has {tasks} tasks, 0 to {tasks - 1}"
            if tasks
            else f"task {text!r}: the plan has no task left; run 'fs finalise'"
        )
    return range(first, min(last, tasks - 1) + 1)


def build_shards(
    store: Path,
    text: str,
    device: str | None = None,
    on_task: Callable[[Report, int, int], None] = lambda report, done, total: None,
) -> list[Report]:
    """Run tasks of a plan by number; those that are done already are not run again.

    Raises
    ------
    IncompleteStoreError
        If one of them failed.
    """
    store = store.resolve()
    work = WorkArea.beside(store)
    if not work.root.is_dir():
        _read(work)
    with task_lock(work.root):
        listed = _jobs(_read(work))
        jobs = [listed[i] for i in parse_range(text, len(listed))]
        reports: list[Report] = []

        def done(report: Report) -> None:
            reports.append(report)
            log(store, {"event": "shard", **report})
            on_task(report, len(reports), len(jobs))

        backend = Threads(work, device, jobs)
        hurry = True
        try:
            run_jobs(backend, jobs, done)
            hurry = False
        finally:
            backend.close(hurry=hurry)
    if bad := [f"{r['task']}: {r['error']}" for r in reports if "error" in r]:
        raise IncompleteStoreError(f"{len(bad)} of {len(jobs)} tasks failed:\n" + "\n".join(bad))
    return reports


def finalise(store: Path) -> BuildResult:
    """Check that every shard is there and what was written, and make the store of them.

    Raises
    ------
    IncompleteStoreError
        If shards lack; the message gives their numbers.
    """
    started = time.perf_counter()
    store = store.resolve()
    work = WorkArea.beside(store)
    if not work.root.is_dir():
        _read(work)
    with build_lock(work.root):
        asked = _read(work)
        plan = BuildPlan.load(work.plan)
        if missing := _check_complete(work, plan, _jobs(asked)):
            raise IncompleteStoreError(missing)
        data = _laid_down(work, plan)
        prepared = Prepared(plan, data, [], asked["resumed"], asked["taken_over"], {}, False)
        computed = sum(bool(j["task"]) for j in asked["jobs"])
        result = finish(prepared, work, store, computed)
        work.remove()
    return ended(result, started)


def _laid_down(work: WorkArea, plan: BuildPlan) -> list[SpeciesData]:
    """What was read of every species when the build was planned."""
    found: list[SpeciesData] = []
    for species in plan.species:
        if (data := taken_up(work.inputs(species.name))) is None:
            raise IncompleteStoreError(
                f"{work.inputs(species.name)}: what was read of the species is no longer there. Plan again with "
                "'fs build --plan-only': what is done stays."
            )
        found.append(data)
    return found


def _check_complete(work: WorkArea, plan: BuildPlan, jobs: Sequence[Job]) -> str:
    """Read every shard back; says which tasks have to be run (again), or nothing."""
    drop_spoilt(work, plan)
    numbers = [i for i, j in enumerate(jobs) if j.task and not is_done(work, plan, j.task)]
    planned = {j.task for j in jobs}
    lost = [t for t in plan.tasks() if t not in planned and not is_done(work, plan, t)]
    if lost:
        return (
            f"{len(lost)} shards that were done when this was planned are damaged ({lost[0].path} …): "
            "plan again with 'fs build --plan-only'"
        )
    if not numbers:
        return ""
    return (
        f"{len(numbers)} of {len(jobs)} tasks are not done: {as_ranges(numbers)}. Run 'fs build-shard' for "
        "these numbers, then 'fs finalise' again."
    )


def as_ranges(numbers: Sequence[int]) -> str:
    """Sorted numbers the way array jobs take them: ``0-3,7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    shown = [str(a) if a == b else f"{a}-{b}" for a, b in parts[:_SHOWN]]
    return ",".join(shown) + (f" … ({len(numbers)} in all)" if len(parts) > _SHOWN else "")
