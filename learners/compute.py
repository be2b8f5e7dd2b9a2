"""How a fit keeps to its budget of threads and seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from learners.base import Budget

_CGROUPS: Final = (
    "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
)  # fmt: skip
"""Limit of a container's memory, in the two versions of control groups."""


def threads_of(budget: Budget) -> int:
    """Threads of the budget, else of ``OMP_NUM_THREADS``, else the processors of this process."""
    if budget.threads is not None:
        return budget.threads
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if told.isdecimal() and int(told) > 0:
        return int(told)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_of(budget: Budget) -> int:
    """Bytes of the budget, or three quarters of what this machine, or container, can give now."""
    if budget.memory is not None:
        return budget.memory
    import psutil

    free = int(psutil.virtual_memory().available)
    held = int(psutil.Process().memory_info().rss)
    for limit in _CGROUPS:
        with suppress(OSError, ValueError):  # there is none, or it says "max"
            free = min(free, int(Path(limit).read_text()) - held)
    return max(0, free) * 3 // 4


@contextmanager
def limited_threads(budget: Budget) -> Iterator[None]:
    """BLAS and OpenMP pools held to the budget's threads."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped] # ships no types

    with threadpool_limits(limits=threads_of(budget)):
        yield


class Clock:
    """Whether a share of the budget's seconds is spent.

    A fit that the clock ends depends on the machine; without ``seconds`` it never does.
    ``before`` are seconds that the fit took before it was killed and taken up again.
    """

    def __init__(self, budget: Budget, share: float = 1.0, before: float = 0.0) -> None:
        self._start = time.monotonic() - before
        self._end = None if budget.seconds is None else self._start + budget.seconds * share

    def elapsed(self) -> float:
        """Seconds since the fit began."""
        return time.monotonic() - self._start

    def spent(self) -> bool:
        """True once the time is over."""
        return self._end is not None and time.monotonic() >= self._end
