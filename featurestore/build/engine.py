"""``fs build``: from a data set to a store; resumable, crash-safe, nothing computed twice."""

from __future__ import annotations

import errno
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.build.planning.prepare import Prepared, prepare, told
from featurestore.build.planning.request import Request, is_up_to_date, resolve
from featurestore.build.sealing.finalise import drop_spoilt, recover, seal, swap
from featurestore.build.sealing.funnel import gene_funnel
from featurestore.build.sealing.lock import build_lock
from featurestore.build.sealing.replaced import sweep
from featurestore.build.shards.shard_writer import storage_error
from featurestore.build.work_area import WorkArea
from featurestore.build.workers.cluster import check_execution
from featurestore.build.workers.execution import Execution
from featurestore.build.workers.run import OnTask, Voices, log, run_pending
from featurestore.errors import MeristemError
from featurestore.inputs.dataset import DatasetConfig, load_config
from featurestore.schema import STATUS_MEANINGS, Status
from featurestore.store.reader import Store

Say = Callable[[str], None]


@dataclass
class BuildResult:
    """What a build did."""

    store: Path
    digest: str
    up_to_date: bool = False
    shards: int = 0
    computed: int = 0
    taken_over: int = 0
    resumed: int = 0
    seconds: float = 0.0
    funnel: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    @property
    def failures(self) -> list[str]:
        """Genes with a region that has no vector because its status is failed, by reason."""
        return [
            f"{species}: {lost['count']} genes, {lost['reason']}: NaN, or past the 65,504 that "
            f"float16 holds ({', '.join(lost['examples'])})"
            for species, steps in self.funnel.items()
            for step in steps
            for lost in step["lost"]
            if step["stage"] == "embedded" and STATUS_MEANINGS[Status.FAILED] in lost["reason"]
        ]


def build(
    dataset: Path | DatasetConfig,
    store: Path,
    *,
    embedders: Sequence[str] = (),
    species: Sequence[str] = (),
    workers: int | None = None,
    device: str | None = None,
    execution: Execution | None = None,
    large: bool = False,
    say: Say = lambda line: None,
    on_task: OnTask = lambda report, done, total: None,
) -> BuildResult:
    """Build or complete a store.

    Parameters
    ----------
    dataset : Path or DatasetConfig
        dataset.toml, or what one would declare.
    store : Path
        Folder to make; beside it a work area ``<store>.build`` while the build runs.
    embedders, species : sequences of str
        Default: those of the data set. What the store holds already stays.
    workers : int, optional
        Local processes; default threads.
    device : str, optional
        Device of the embedders.
    execution : Execution, optional
        Where to run, in place of ``workers`` and ``device``.
    large : bool
        Whether an embedder of long windows may store more than 50 GB.
    say : called with lines for people
    on_task : called with each finished task's report, tasks done, tasks in all

    Raises
    ------
    InputError
        Mistakes of the data set, all in one report, before any work.
    StoreLockedError
        If another process builds this store.
    IncompleteStoreError
        If shards could not be made; the finished ones stay for the next run.
    StorageError, ClusterError
        If there is no room to write, or no worker to compute.
    """
    started = time.perf_counter()
    execution = execution or Execution(workers=workers, device=device)
    store = store.resolve()  # a link to a store is that store: same lock, same work area
    config = dataset if isinstance(dataset, DatasetConfig) else load_config(dataset, files=False)
    work = WorkArea.beside(store)
    if not work.root.exists():
        request = resolve(config, store, embedders, species)
        if (there := is_up_to_date(request, store)) is not None:
            work.clear_removed()  # of a build that was killed while it cleaned up
            sweep(store)
            return _nothing_to_do(there, started)
    check_execution(execution)
    store.parent.mkdir(parents=True, exist_ok=True)
    with build_lock(work.root):
        recover(store, work)
        # Only now: another build may have finished between a look and the lock.
        request = resolve(config, store, embedders, species)
        if (there := is_up_to_date(request, store)) is not None:
            work.remove()
            return _nothing_to_do(there, started)
        result = _build_locked(request, work, store, execution, Voices(say, on_task), large)
        work.remove()
    return ended(result, started)


def ended(result: BuildResult, started: float) -> BuildResult:
    """Note in the log that a store was built."""
    result.seconds = time.perf_counter() - started
    record = {"digest": result.digest, "shards": result.shards, "seconds": result.seconds}
    log(result.store, {"event": "built", **record})
    return result


def _nothing_to_do(there: Store, started: float) -> BuildResult:
    return BuildResult(
        Path(there.path), there.digest, True, seconds=time.perf_counter() - started,
        funnel={s: there.funnel(s) for s in there.species},
    )  # fmt: skip


def _build_locked(
    request: Request, work: WorkArea, store: Path, execution: Execution, voices: Voices, large: bool,
) -> BuildResult:  # fmt: skip
    with telling_storage(work.root):
        prepared = prepare(work, request, store, large=large)
    for line in told(prepared, store):
        voices.say(line)
    plan = prepared.plan
    computed = run_pending(work, plan, store, execution, voices)
    if spoilt := drop_spoilt(work, plan):
        # Damage between two runs of one build: mended here rather than asking for a third.
        voices.say(f"{spoilt} finished shards are not what was written; they are computed again")
        computed += run_pending(work, plan, store, execution, voices)
    return finish(prepared, work, store, computed)


def finish(prepared: Prepared, work: WorkArea, store: Path, computed: int) -> BuildResult:
    """Make the store of a work area whose shards are done, and put it in its place."""
    plan, data = prepared.plan, prepared.data
    with telling_storage(work.root):
        funnels = {s.name: gene_funnel(work, s, d) for s, d in zip(plan.species, data, strict=True)}
        sealed = seal(work, plan, data, funnels)
        swap(work, store, sealed.digest)
    return BuildResult(
        store, sealed.digest, shards=len(plan.tasks()), computed=computed, taken_over=prepared.taken_over,
        resumed=prepared.resumed, funnel=funnels, notes={d.name: list(d.notes) for d in data},
    )  # fmt: skip


@contextmanager
def telling_storage(root: Path) -> Iterator[None]:
    """Tell of a full or read-only file system in words that help."""
    try:
        yield
    except MeristemError:
        raise
    except OSError as error:
        # numpy says how much it wrote of how much, and drops the number of the error.
        short = error.errno is None and "written" in str(error)
        limited = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
        number = errno.EFBIG if limited else errno.ENOSPC
        cause = OSError(number, str(error)) if short else error
        path = Path(error.filename) if isinstance(error.filename, str) else root
        if (told := storage_error(cause, path)) is None:
            raise
        raise told from error
