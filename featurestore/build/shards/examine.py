"""Finds the windows that a shard fails on: each batch in a process that may die, then by halves."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import psutil

from featurestore.build.planning.group_plan import Task
from featurestore.build.shards.probe import shard_inputs
from featurestore.build.shards.tasks import load_plan, window_source
from featurestore.build.windows.window_source import source_for
from featurestore.build.work_area import WorkArea

MOST_CULPRITS: Final = 3
"""Windows that are named at most."""
_LOOK_SECONDS: Final = 0.2
_MEMORY_SHARE: Final = 0.9

Fate = Callable[[int, int], str]
"""What becomes of the inputs of a span: empty, or what went wrong."""


class Probe:
    """A process that embeds inputs of one shard, and that may die of it.

    Parameters
    ----------
    memory : int
        Bytes beyond which it is ended.
    """

    def __init__(self, arguments: list[str], memory: int) -> None:
        self._command = [sys.executable, "-m", "featurestore.build.shards.probe", *arguments]
        self._memory = memory
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Probe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._end()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    pipe.close()
            self._process = None

    def __call__(self, first: int, last: int) -> str:
        """Embed inputs ``first`` … ``last`` − 1 at once; returns what went wrong, or nothing."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True,
            )  # fmt: skip
        process, (write, read) = self._process, self._pipes()
        with suppress(BrokenPipeError):  # told below
            write.write(f"{first} {last}\n")
            write.flush()
        too_much = self._watch(process.pid, read)
        line = "" if too_much else read.readline()
        if line.endswith("\n"):
            told: str = json.loads(line)["error"]
            return told
        self._end()
        if too_much:
            return f"needs more than {self._memory:,} bytes of memory, which its worker has"
        return f"its process dies ({_death(process.returncode)})"

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        pipes = self._process and (self._process.stdin, self._process.stdout)
        if not pipes or pipes[0] is None or pipes[1] is None:
            raise RuntimeError("the process was started without pipes")
        return pipes[0], pipes[1]

    def _watch(self, pid: int, read: IO[str]) -> bool:
        """Wait for an answer or an end; True if it takes more memory than it may."""
        while not select.select([read], [], [], _LOOK_SECONDS)[0]:
            try:
                if psutil.Process(pid).memory_info().rss > self._memory:
                    return True
            except psutil.NoSuchProcess:
                return False
        return False


def _death(code: int) -> str:
    try:
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"
    except ValueError:
        return f"signal {-code}"


def culprits(fate: Fate, count: int, batch: int) -> Iterator[tuple[int, str]]:
    """Inputs that fail, batch by batch, each batch by halves.

    Yields
    ------
    number of an input, what went wrong; number −1 where a batch fails whose halves do not
    """
    for first in range(0, count, batch):
        last = min(first + batch, count)
        if not (whole := fate(first, last)):
            continue
        low, high, wrong = first, last, whole
        while high - low > 1:
            middle = (low + high) // 2
            if left := fate(low, middle):
                high, wrong = middle, left
            else:  # it is in the other half then; tried below, as each death costs seconds
                low, wrong = middle, ""
        if wrong := wrong or fate(low, high):
            yield low, wrong
        else:
            yield -1, whole


def examine(
    work_root: str, species: str, group: str, shard: int, device: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Search the shard of an embedder for the windows it fails on.

    Returns
    -------
    dict with ``culprits``: a sentence each, naming gene, region and bin; none where every window
    was embedded when tried alone
    """
    work = WorkArea(Path(work_root))
    _, found = load_plan(work).of(Task(species, group, shard))
    codes, place = shard_inputs(work, Task(species, group, shard))
    told: list[str] = []
    arguments = [work_root, species, group, str(shard), device or "", str(threads)]
    with Probe(arguments, memory_limit()) as probe:
        if wrong := probe(0, 0):  # the model cannot even be loaded
            return {"culprits": [wrong]}
        for at, wrong in culprits(probe, len(codes), int(found.identity["batch"])):
            where = (
                _named(work, species, found.identity, place[at])
                if at >= 0
                else "several windows together"
            )
            told.append(f"{where}: {wrong}")
            if len(told) == MOST_CULPRITS:
                break
    return {"culprits": told}


def _named(work: WorkArea, species: str, identity: Mapping[str, Any], place: Any) -> str:
    haplotype, gene, region, bin_ = (int(v) for v in place)
    source = source_for(window_source(work, species), identity)
    names = json.loads((work.inputs(species) / "genes.json").read_text())
    first = bin_ * source.bin_bp
    of = f" of haplotype {haplotype}" if haplotype >= 0 else ""
    return (
        f"gene {names[gene]}{of}, {source.regions[region].name}, bases {first:,} to "
        f"{first + source.bin_bp:,}"
    )


def memory_limit() -> int:
    """Bytes of memory that a process of this worker may take."""
    total = int(psutil.virtual_memory().total * _MEMORY_SHARE)
    if "distributed" not in sys.modules:
        return total
    from distributed import get_worker

    try:
        limit = get_worker().memory_manager.memory_limit
    except ValueError:  # this is no worker
        return total
    return int(limit or total)
