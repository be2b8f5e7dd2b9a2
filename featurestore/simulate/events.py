"""Plays the shards of a build on workers that do not exist: who runs what when, and who waits for what.

Jobs are started in the order, and as many at a time, as :func:`~featurestore.build.workers.execute.run_jobs`
starts them; its own :class:`~featurestore.build.workers.jobs.Lanes` decide. A job goes through stages. Stages
under way at once share what they need: the cores of a machine, the interpreter of a process, the
disk that all of them write to. Each gets an equal part, and the clock goes on to the next stage that ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from featurestore.build.workers.jobs import Job, Lanes, in_order

Stage = Literal["start", "load", "prepare", "model", "finish", "write", "schedule"]
STAGES: Final[tuple[Stage, ...]] = (
    "start", "load", "schedule", "prepare", "model", "finish", "write",
)  # fmt: skip
_ON_CORES: Final = frozenset({"start", "load", "prepare", "model", "finish"})
_ONE_AT_A_TIME: Final = frozenset({"prepare", "load"})
"""Stages that hold the interpreter: one thread of a process gets on at a time."""
_DONE: Final = 1e-9


@dataclass(frozen=True)
class Crew:
    """The workers of a build.

    Parameters
    ----------
    workers : int
        Processes; 1 for threads of one process.
    threads : int
        Jobs that a worker runs at once.
    slots : int
        Of them, those that may use a model at once.
    gpu : bool
        Models compute on a GPU, one a worker, and so take no core.
    model_cores : int
        Cores that a model takes otherwise.
    cores : float
        Of one machine; fewer than it has where they give less together than one by one.
    one_machine : bool
        All workers share those cores; otherwise each worker has a machine to itself.
    ahead : int
        Jobs in flight beyond those that run, for each lane and worker.
    scheduler : bool
        Whether a Dask scheduler hands the jobs out.
    """

    workers: int = 1
    threads: int = 2
    slots: int = 1
    gpu: bool = False
    model_cores: int = 1
    cores: float = 1
    one_machine: bool = True
    ahead: int = 1
    scheduler: bool = False

    def limit(self, costly: bool) -> int:
        """Jobs of a lane that may be in flight."""
        at_once = 2 * self.slots if costly and self.gpu else self.threads
        return self.workers * (at_once + self.ahead)


@dataclass(frozen=True)
class Costs:
    """What a job costs on a worker that has everything to itself.

    Parameters
    ----------
    seconds : mapping of stage to seconds
        ``write`` at the speed of one worker.
    loads : str
        Model that has to be loaded; empty for none.
    load_seconds : float
    """

    seconds: dict[Stage, float]
    loads: str = ""
    load_seconds: float = 0.0


@dataclass
class Played:
    """What came of it."""

    seconds: float = 0.0
    busy: list[float] = field(default_factory=list)
    """Seconds in which a worker ran at least one job, by worker."""
    model: list[float] = field(default_factory=list)
    """Seconds in which at least one slot of a worker computed, by worker."""
    spent: dict[Stage, float] = field(default_factory=dict)
    """Seconds of all jobs in each stage, waiting included."""
    waited: float = 0.0
    """Seconds of all jobs in which they waited for a model's turn."""
    jobs: int = 0
    ended: dict[str, float] = field(default_factory=dict)
    """When each job ended."""


@dataclass
class _Worker:
    number: int
    running: int = 0
    costly: int = 0
    turns: int = 0
    queue: deque[_Run] = field(default_factory=deque)
    loaded: set[str] = field(default_factory=set)
    loading: bool = False
    ready: bool = True


@dataclass(eq=False)
class _Run:
    """A job on a worker, in the stage that it is in."""

    job: Job | None
    worker: _Worker
    stages: deque[tuple[Stage, float]]
    loads: str = ""
    stage: Stage = "schedule"
    left: float = 0.0
    rate: float = 1.0


class _Clock:
    """Everything that is under way, and when the next of it ends."""

    def __init__(self, crew: Crew, disk_share: float) -> None:
        self.crew, self.disk = crew, disk_share
        self.now = 0.0
        self.active: list[_Run] = []

    def share_out(self) -> None:
        """Give every stage under way its part of what it needs."""
        cores: dict[int, int] = {}
        interpreters: dict[int, int] = {}
        writers = 0
        for run in self.active:
            if self._on_core(run):
                at = self._machine(run)
                wanted = self.crew.model_cores if run.stage == "model" else 1
                cores[at] = cores.get(at, 0) + wanted
            if run.stage in _ONE_AT_A_TIME:
                interpreters[run.worker.number] = interpreters.get(run.worker.number, 0) + 1
            writers += run.stage == "write"
        for run in self.active:
            run.rate = 1.0
            if self._on_core(run):
                run.rate = min(1.0, self.crew.cores / cores[self._machine(run)])
            if run.stage in _ONE_AT_A_TIME:
                run.rate = min(run.rate, 1.0 / interpreters[run.worker.number])
            if run.stage == "write":
                run.rate = min(1.0, self.disk / writers)

    def _on_core(self, run: _Run) -> bool:
        return run.stage in _ON_CORES and not (run.stage == "model" and self.crew.gpu)

    def _machine(self, run: _Run) -> int:
        return 0 if self.crew.one_machine else run.worker.number

    def advance(self) -> tuple[float, list[_Run]]:
        """Go on to the next end of a stage; seconds that passed, and what ended."""
        step = min(run.left / run.rate for run in self.active)
        self.now += step
        ended = []
        for run in self.active:
            run.left -= step * run.rate
            if run.left <= _DONE:
                ended.append(run)
        self.active = [run for run in self.active if run.left > _DONE]
        return step, ended


def play(
    jobs: Sequence[Job], crew: Crew, costs: Callable[[Job], Costs], *, disk_share: float = 1e9,
    start_seconds: float = 0.0,
) -> Played:  # fmt: skip
    """Run jobs on a crew.

    Parameters
    ----------
    jobs : sequence of Job
        As the engine lists them; :func:`~featurestore.build.workers.jobs.in_order` puts them in order.
    costs : called with a job
    disk_share : float
        How many workers can write at their full speed at once before the disk is the limit.
    start_seconds : float
        Until a worker takes its first job.
    """
    return _Play(jobs, crew, costs, disk_share, start_seconds).run()


class _Play:
    def __init__(
        self, jobs: Sequence[Job], crew: Crew, costs: Callable[[Job], Costs], disk_share: float,
        start_seconds: float,
    ) -> None:  # fmt: skip
        self.crew, self.costs = crew, costs
        self.lanes = Lanes(in_order(jobs))
        self.clock = _Clock(crew, disk_share)
        self.workers = [_Worker(i) for i in range(crew.workers)]
        self.waiting: dict[bool, deque[Job]] = {True: deque(), False: deque()}
        self.line: deque[Job] = deque()
        self.out = Played(busy=[0.0] * crew.workers, model=[0.0] * crew.workers, jobs=len(jobs))
        if start_seconds > 0:
            for worker in self.workers:
                worker.ready = False
                stages: deque[tuple[Stage, float]] = deque([("start", start_seconds)])
                self._next_stage(_Run(None, worker, stages))

    def run(self) -> Played:
        """Until nothing is left to do."""
        self._hand_out()
        while self.clock.active:
            self.clock.share_out()
            computing = {r.worker.number for r in self.clock.active if r.stage == "model"}
            stages = [run.stage for run in self.clock.active]
            step, ended = self.clock.advance()
            self._account(step, stages, computing)
            for run in ended:
                self._stage_ended(run)
            self._hand_out()
        self.out.seconds = self.clock.now
        return self.out

    def _account(self, step: float, stages: list[Stage], computing: set[int]) -> None:
        out = self.out
        for stage in stages:
            out.spent[stage] = out.spent.get(stage, 0.0) + step
        for worker in self.workers:
            out.busy[worker.number] += step * (worker.running > 0)
            out.waited += step * len(worker.queue)
        for number in computing:
            out.model[number] += step

    def _hand_out(self) -> None:
        """Submit what may be in flight, then give it to threads that are free."""
        for costly in (True, False):
            while (job := self.lanes.take(costly, self.crew.limit(costly))) is not None:
                self.waiting[costly].append(job)
                self.line.append(job)
        while (found := self._free_for_next()) is not None:
            self._start(*found)

    def _free_for_next(self) -> tuple[Job, _Worker] | None:
        """The next job that some worker has a thread for, and the worker that has most free."""
        # Threads take jobs as they were submitted; the scheduler of Dask takes costly ones first.
        lanes = [self.waiting[True], self.waiting[False]] if self.crew.scheduler else [self.line]
        for lane in lanes:
            if lane and (worker := self._free(lane[0].costly)) is not None:
                job = lane.popleft()
                return job, worker
        return None

    def _free(self, costly: bool) -> _Worker | None:
        free = [w for w in self.workers if w.ready and w.running < self.crew.threads]
        if costly and self.crew.gpu:
            free = [w for w in free if w.costly < 2 * self.crew.slots]
        return min(free, key=lambda w: (w.running, w.number), default=None)

    def _start(self, job: Job, worker: _Worker) -> None:
        costs = self.costs(job)
        worker.running += 1
        worker.costly += job.costly
        stages: deque[tuple[Stage, float]] = deque(
            (stage, costs.seconds[stage]) for stage in STAGES if costs.seconds.get(stage, 0.0) > 0
        )
        if costs.loads and costs.loads not in worker.loaded:
            stages.appendleft(("load", costs.load_seconds))
        self._next_stage(_Run(job, worker, stages, costs.loads))

    def _next_stage(self, run: _Run) -> None:
        """Begin the next stage of a job, or wait for a turn, or end it."""
        worker = run.worker
        while run.stages:
            stage, seconds = run.stages[0]
            if stage == "load":
                if run.loads in worker.loaded:
                    run.stages.popleft()
                    continue
                if worker.loading:  # one model at a time, whichever it is
                    worker.queue.append(run)
                    return
                worker.loading = True
            if stage == "model" and run.job is not None and run.job.costly:
                if worker.turns >= self.crew.slots:
                    worker.queue.append(run)
                    return
                worker.turns += 1
            run.stages.popleft()
            run.stage, run.left = stage, max(seconds, 2 * _DONE)
            self.clock.active.append(run)
            return
        self._end(run)

    def _stage_ended(self, run: _Run) -> None:
        worker, ended = run.worker, run.stage
        if ended == "model" and run.job is not None and run.job.costly:
            worker.turns -= 1
        if ended == "load":
            worker.loaded.add(run.loads)
            worker.loading = False
        self._next_stage(run)
        if ended in {"model", "load"}:
            waiting, worker.queue = worker.queue, deque()
            for other in waiting:
                self._next_stage(other)

    def _end(self, run: _Run) -> None:
        if run.job is None:
            run.worker.ready = True
            return
        run.worker.running -= 1
        run.worker.costly -= run.job.costly
        self.out.ended[run.job.name] = self.clock.now
        self.lanes.landed(run.job)
