"""``fs simulate``: what a build costs on so many workers, from measured rates, without building.

The shards are played as the build runs them (:mod:`.simulate_events`); what comes before and
after is done by one process, and added.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final

from featurestore.build.planning.group_plan import STORED_DTYPE, GroupPlan
from featurestore.build.shards.pieces import PART
from featurestore.build.workers.jobs import Job, shard_job
from featurestore.errors import InputError
from featurestore.export.publish import WORKERS
from featurestore.simulate.events import Costs, Crew, Played, Stage, play
from featurestore.simulate.rates import Machine, ModelRate, Rates
from featurestore.simulate.workload import Workload
from featurestore.store.ranges import PIECE_BYTES
from featurestore.store.remote import PARALLEL

MB: Final = 1e6
_GPU_THREADS: Final = 3
_CPU_THREADS: Final = 2


@dataclass(frozen=True)
class Phase:
    """One part of a build on the clock."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Requests:
    """Requests to object storage, and seconds they take with the rates of the network.

    Parameters
    ----------
    publish : int
        One PUT for each file.
    read_all : int
        GETs of reading everything, in pieces of at most 8 MiB.
    open : int
        GETs of opening the store.
    one_gene : int
        GETs of one gene's vectors of one embedder, its shard not yet known.
    publish_s, read_all_s : float
    """

    publish: int
    read_all: int
    open: int
    one_gene: int
    publish_s: float
    read_all_s: float


@dataclass(frozen=True)
class Outcome:
    """What a build costs.

    Parameters
    ----------
    workers : int
    threads_only : bool
        Threads of one process, without Dask.
    seconds : float
        On the clock, from command to store.
    phases : list of Phase
        In order; they add up to ``seconds``.
    worker_hours : float
        Workers times the time of the shards: what a cluster or cloud charges.
    model_use : float
        Part of that time in which the models (the GPUs) compute.
    busy : float
        Part of that time in which workers have something to do.
    stages : mapping of stage to seconds
        Of all shards, side by side or not.
    jobs : int
    bytes_by_group : mapping of group to bytes
    bytes : int
        In all, metadata included.
    files, metadata_files : int
        All files, and those of them that are no shard.
    requests : Requests
    memory_bytes : float
        About the peak of a worker.
    """

    workers: int
    threads_only: bool
    seconds: float
    phases: list[Phase]
    worker_hours: float
    model_use: float
    busy: float
    stages: dict[str, float]
    jobs: int
    bytes_by_group: dict[str, int]
    bytes: int
    files: int
    metadata_files: int
    requests: Requests
    memory_bytes: float
    windows: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """On the clock."""
        return self.seconds / 3600


def crew_of(
    workers: int | None, rates: Rates, embedders: Iterable[str], cores: int, jobs: int, *,
    one_machine: bool,
) -> Crew:  # fmt: skip
    """The workers of a build as :mod:`.cluster` and :mod:`.execute` set them up.

    Parameters
    ----------
    workers : int, optional
        Processes; None: threads of one process.
    cores : int
        Of one machine.
    """
    gpu = any(rates.models[name].gpu for name in embedders)
    together = max(1.0, cores * rates.machine.parallel)
    if workers is None:
        slots = 1 if gpu else max(1, min(jobs, cores))
        cheap = max(1, cores - 1) if gpu else 0
        share = max(1, cores // slots)
        return Crew(1, slots + 1 + cheap, slots, gpu, share, together, ahead=0 if gpu else 1)
    threads = _GPU_THREADS if gpu else _CPU_THREADS
    share = max(1, cores // workers) if one_machine else cores
    return Crew(
        workers, threads, 1, gpu, share, together, one_machine=one_machine, ahead=1, scheduler=True
    )


def jobs_of(workload: Workload) -> list[Job]:
    """What is to be done, as :func:`featurestore.build.workers.run.pending_jobs` lists it."""
    found: dict[str, tuple[str, GroupPlan]] = {}
    for task in workload.pending:
        _, group = workload.plan.of(task)
        if group.embeds and group.identity["costly"]:
            found.setdefault(group.pool, (task.species, group))
    pieces = [
        Job(
            f"shared/{group.embedder_name}/{piece}", "piece", (species, group.name, piece),
            costly=True, gives=group.pool,
        )
        for species, group in found.values()
        for piece in range(-(-workload.shared.get(group.pool, 0) // PART))
    ]  # fmt: skip
    return pieces + [shard_job(workload.plan, task) for task in workload.pending]


class _Pricing:
    """What a job costs, by the rates."""

    def __init__(self, workload: Workload, rates: Rates, crew: Crew) -> None:
        self.load, self.rates, self.crew = workload, rates, crew
        self.machine: Machine = rates.machine

    def __call__(self, job: Job) -> Costs:
        if job.task is None:
            return self._piece(job)
        _, group = self.load.plan.of(job.task)
        size, files = self.load.shard_bytes(job.task), self.load.shard_files(job.task)
        seconds: dict[Stage, float] = {
            "schedule": self.machine.dask_task_s if self.crew.scheduler else self.machine.task_s,
            "write": size / (self.machine.write_mb_per_s * MB) + (files + 1) * self.machine.file_s,
        }
        if group.embeds:
            rate = self._rate(group)
            windows = self.load.windows_in(job.task)
            seconds |= self._embedding(group, rate, windows, size)
            return Costs(seconds, group.pool, self._loading(rate))
        bases = self._bases(group, *group.span(job.task.shard), job.task.species)
        if group.kind == "genome":
            seconds["finish"] = bases / self.machine.genome_bases_per_s
        elif bases:
            seconds["prepare"] = bases / self.machine.sequence_bases_per_s
        return Costs(seconds)

    def _bases(self, group: GroupPlan, first: int, last: int, species: str) -> int:
        facts = self.load.facts[species]
        if group.kind == "genome":
            share = min(last, group.rows) / group.rows - first / group.rows
            return round(facts.bases * share)
        if facts.windows is None or group.kind == "expression":
            return 0
        regions = len(facts.windows.regions) if group.kind == "sequence" else 1
        return (last - first) * regions * facts.windows.positions

    def _rate(self, group: GroupPlan) -> ModelRate:
        name = group.embedder_name
        if name not in self.rates.models:
            raise no_rate(name)
        return self.rates.models[name]

    def _loading(self, rate: ModelRate) -> float:
        """A worker imports what the model needs; threads have that from before."""
        if not self.crew.scheduler:
            return rate.load_s
        imports = self.machine.embedders_s + self.machine.device_s
        return rate.worker_load_s or rate.load_s + imports

    def _speed(self, rate: ModelRate) -> float:
        """Windows per second of one slot."""
        return rate.windows_per_s * (1 if rate.gpu else self.crew.model_cores)

    def _embedding(
        self, group: GroupPlan, rate: ModelRate, windows: int, size: int
    ) -> dict[Stage, float]:
        prepare = rate.prepare_windows_per_s or self.machine.prepare_windows_per_s
        distinct = self.load.distinct.get(group.pool, 1.0)
        return {
            "prepare": windows / prepare,
            "model": windows * distinct / self._speed(rate),
            "finish": size / (self.machine.finish_mb_per_s * MB),
        }

    def _piece(self, job: Job) -> Costs:
        species, name, piece = str(job.args[0]), str(job.args[1]), int(job.args[2])
        group = next(
            g for s in self.load.plan.species if s.name == species
            for g in s.groups if g.name == name
        )  # fmt: skip
        rate = self._rate(group)
        count = min(PART, self.load.shared[group.pool] - piece * PART)
        windows = self.load.facts[species].windows
        # A single input is cut with its whole region around it.
        cut = count * (windows.bins if windows else 1)
        prepare = rate.prepare_windows_per_s or self.machine.prepare_windows_per_s
        return Costs(
            {
                "schedule": self.machine.task_s,
                "prepare": cut / prepare,
                "model": count / self._speed(rate),
                "write": 2 * self.machine.file_s,
            },
            group.pool,
            self._loading(rate),
        )


def no_rate(name: str) -> InputError:
    """The error for an embedder whose speed nobody has told."""
    return InputError(
        f"{name}: nothing is known of its speed, and none is made up. Give it with --rate {name}=WINDOWS_PER_S, or "
        f"measure it on the machine that will compute: 'fs simulate --measure {name} --save-rates rates.json' "
        "there, then '--rates rates.json' here"
    )


def simulate(
    workload: Workload, rates: Rates, workers: int | None, *, cores: int, one_machine: bool
) -> Outcome:
    """Play one build.

    Parameters
    ----------
    workload : Workload
    rates : Rates
    workers : int, optional
        Processes of a Dask scheduler; None: threads of one process.
    cores : int
        Of each machine.
    one_machine : bool
        Whether all workers share it, or each has one of its own.

    Raises
    ------
    InputError
        If no rate of an embedder is known.
    """
    names = {
        g.embedder_name for t in workload.pending for g in (workload.plan.of(t)[1],) if g.embeds
    }
    for name in sorted(names - set(rates.models)):
        raise no_rate(name)
    jobs = jobs_of(workload)
    crew = crew_of(workers, rates, names, cores, len(jobs), one_machine=one_machine)
    machine = rates.machine
    played = play(
        jobs, crew, _Pricing(workload, rates, crew),
        disk_share=max(1.0, machine.disk_mb_per_s / machine.write_mb_per_s),
        start_seconds=machine.worker_s if crew.scheduler and jobs else 0.0,
    )  # fmt: skip
    return _outcome(workload, rates, crew, played, _phases(workload, machine, crew, played))


def _phases(workload: Workload, machine: Machine, crew: Crew, played: Played) -> list[Phase]:
    data = sum(workload.bytes_by_group().values())
    metadata, files = workload.metadata_files(), workload.data_files()
    reading = workload.bases / machine.read_bases_per_s + workload.genes / machine.read_genes_per_s
    phases = [
        Phase("start", machine.start_s + machine.embedders_s),
        Phase("read, lay down and plan", reading),
        Phase("look for repeated windows", _searched(workload) / machine.repeats_windows_per_s),
        Phase("look for a GPU", machine.device_s * (_costly(workload) and not crew.scheduler)),
        Phase("start and stop the cluster", machine.cluster_s * crew.scheduler),
        Phase("shards", played.seconds),
        Phase("read back", data / (machine.readback_mb_per_s * MB)),
        Phase("metadata", metadata * machine.metadata_s),
        Phase("flush", (metadata + files) * machine.sync_s),
    ]
    return [phase for phase in phases if phase.seconds > 0]


def _costly(workload: Workload) -> bool:
    """Whether a costly model is to run."""
    groups = (workload.plan.of(task)[1] for task in workload.pending)
    return any(g.embeds and g.identity["costly"] for g in groups)


def _searched(workload: Workload) -> int:
    """Windows that are digested before the shards: of costly models, each length once a species."""
    seen: dict[tuple[str, Any], int] = {}
    for task in workload.pending:
        _, group = workload.plan.of(task)
        windows = workload.windows_of(task.species)
        if group.kind == "embedder" and group.identity["costly"] and windows is not None:
            count = windows.genes * len(windows.regions) * windows.bins
            seen[task.species, group.identity["input_bp"]] = count
    return sum(seen.values())


def _outcome(
    workload: Workload, rates: Rates, crew: Crew, played: Played, phases: list[Phase]
) -> Outcome:
    by_group = workload.bytes_by_group()
    metadata, files = workload.metadata_files(), workload.data_files()
    total = sum(by_group.values()) + workload.metadata_bytes()
    at_work = max(played.seconds, 1e-9) * crew.workers
    return Outcome(
        crew.workers, not crew.scheduler, sum(p.seconds for p in phases), phases,
        crew.workers * played.seconds / 3600, sum(played.model) / at_work, sum(played.busy) / at_work,
        _stages(played), played.jobs, by_group, total,
        files + metadata, metadata, _requests(workload, rates.machine, total, files + metadata),
        _memory(workload, rates, crew), sum(workload.windows_in(t) for t in workload.pending),
    )  # fmt: skip


def _stages(played: Played) -> dict[str, float]:
    spent = {str(stage): seconds for stage, seconds in played.spent.items()}
    return {**spent, "wait for the model": played.waited}


def _requests(workload: Workload, machine: Machine, total: int, files: int) -> Requests:
    pieces = workload.metadata_files()
    for task in workload.plan.tasks():
        count = max(workload.shard_files(task), 1)
        pieces += max(count, -(-workload.shard_bytes(task) // PIECE_BYTES))
    send = total / (machine.network_mb_per_s * MB)

    def taking(requests: int, at_once: int) -> float:
        return max(send, requests * machine.request_s / at_once)

    return Requests(files, pieces, 2, 2, taking(files, WORKERS), taking(pieces, PARALLEL))


def _memory(workload: Workload, rates: Rates, crew: Crew) -> float:
    """Peak of a worker: the process, its models, and what the shards under way hold."""
    most = 0.0
    models = {}
    for task in workload.pending:
        _, group = workload.plan.of(task)
        size = float(workload.shard_bytes(task))
        if group.embeds:
            rate = rates.models[group.embedder_name]
            models[group.pool] = 0.0 if rate.gpu else rate.memory_bytes
            width = group.identity["input_bp"] or workload.plan.bin_bp
            # Inputs; vectors as the model gives them (float32) and as they are stored.
            size = workload.windows_in(task) * width + size * (1 + 4 / _ITEM)
        most = max(most, size)
    held = max(models.values(), default=0.0)
    return rates.machine.base_bytes + held + most * crew.threads


_ITEM: Final = int(STORED_DTYPE[-2:]) // 8


def several(
    workload: Workload, rates: Rates, crews: Iterable[int | None], *, cores: int, one_machine: bool
) -> list[Outcome]:
    """One outcome for each number of workers."""
    return [
        replace(simulate(workload, rates, n, cores=cores, one_machine=one_machine)) for n in crews
    ]
