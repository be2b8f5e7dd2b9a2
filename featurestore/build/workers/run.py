"""Runs what a plan still lacks, and tells of what failed with the gene at fault."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.shards.pieces import lay_out_pieces
from featurestore.build.work_area import WorkArea
from featurestore.build.workers.cluster import opened_backend
from featurestore.build.workers.execute import Backend, run_jobs
from featurestore.build.workers.execution import Execution
from featurestore.build.workers.jobs import Job, Report, shard_job
from featurestore.errors import IncompleteStoreError

Say = Callable[[str], None]
OnTask = Callable[[Report, int, int], None]

EXAMINED: Final = 3
"""Failed shards that are searched for the gene at fault; one cause mostly fails many shards."""


@dataclass(frozen=True)
class Voices:
    """Whom a build tells what."""

    say: Say = lambda line: None
    on_task: OnTask = lambda report, done, total: None


def is_done(work: WorkArea, plan: BuildPlan, task: Task) -> bool:
    """Whether the marker of a shard stands, for the inputs of this plan."""
    return work.read_marker(task, plan.key(task)) is not None


def pending_jobs(work: WorkArea, plan: BuildPlan) -> list[Job]:
    """What is left to do: inputs that several shards need, and shards without a marker."""
    tasks = [t for t in plan.tasks() if not is_done(work, plan, t)]
    pieces = [
        Job(
            f"shared/{group.embedder_name}/{piece}", "piece", (species, group.name, piece),
            costly=True, gives=group.pool,
        )
        for species, group in _costly(plan, tasks)
        for piece in range(lay_out_pieces(work, plan, group, tasks))
    ]  # fmt: skip
    return pieces + [shard_job(plan, task) for task in tasks]


def _costly(plan: BuildPlan, tasks: Sequence[Task]) -> list[tuple[str, GroupPlan]]:
    """Costly embedders of these tasks, each once, with a species that has it."""
    found: dict[str, tuple[str, GroupPlan]] = {}
    for task in tasks:
        _, group = plan.of(task)
        if group.embeds and group.identity["costly"]:
            found.setdefault(group.pool, (task.species, group))
    return list(found.values())


def run_pending(
    work: WorkArea, plan: BuildPlan, store: Path, execution: Execution, voices: Voices
) -> int:
    """Run everything that is not done.

    Returns
    -------
    int
        Shards that were made.

    Raises
    ------
    IncompleteStoreError
        If some could not be made, after all others were; the message names genes at fault.
    StorageError, ClusterError
        At once, where every other job would fail as well.
    """
    jobs = pending_jobs(work, plan)
    if not jobs:
        return 0
    total = sum(job.task is not None for job in jobs)
    counter = {"shards": 0, "shared": 0}

    def done(report: Report) -> None:
        piece = str(report["task"]).startswith("shared/")
        counter["shared"] += report.get("computed", 0) if piece else 0
        counter["shards"] += not piece
        log(store, {"event": "shared" if piece else "shard", **report})
        if not piece:
            voices.on_task(report, counter["shards"], total)

    with opened_backend(execution, work, jobs, voices.say) as backend:
        reports = run_jobs(backend, jobs, done)
        if counter["shared"]:
            voices.say(f"{counter['shared']:,} inputs occur in several shards; each computed once")
        # A piece that failed costs nothing: its inputs are then computed in their shards.
        failed = [r for r in reports if "error" in r and not r["task"].startswith("shared/")]
        if failed:
            raise IncompleteStoreError(_told(failed, total, _examine(backend, plan, jobs, failed)))
    return total


def _examine(
    backend: Backend, plan: BuildPlan, jobs: Sequence[Job], failed: Sequence[Report]
) -> list[Report]:
    """Search failed shards of models for the windows at fault."""
    by_name = {job.name: job for job in jobs}
    suspects = [by_name[r["task"]] for r in failed if not r.get("explained")]
    embedding = [j for j in suspects if j.task and plan.of(j.task)[1].embeds]
    searches = [
        Job(f"examine/{j.name}", "examine", j.args, costly=j.costly)
        for j in embedding[:EXAMINED]
    ]  # fmt: skip
    return run_jobs(backend, searches)


def _told(failed: Sequence[Report], total: int, examined: Sequence[Report]) -> str:
    lines = [f"{len(failed)} of {total} shards failed; the others are done and stay."]
    found = {r["task"].removeprefix("examine/"): r.get("culprits") for r in examined}
    for report in failed[:EXAMINED]:
        culprits = found.get(report["task"])
        why = "; ".join(culprits) if culprits else report["error"]
        if culprits == []:
            why += " (each of its windows was embedded when tried alone)"
        lines.append(f"{report['task']}: {why}")
    if len(failed) > EXAMINED:
        lines.append(f"… and {len(failed) - EXAMINED} more, see the log beside the store.")
    lines.append("Mend the cause and run 'fs build' again: it computes these and no other.")
    return "\n".join(lines)


def log(store: Path, record: Mapping[str, Any]) -> None:
    """Append to the log beside the store: what depends on time and host has no place inside it."""
    line = json.dumps({"time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **record})
    with store.with_name(store.name + ".log.jsonl").open("a") as file:
        file.write(line + "\n")
