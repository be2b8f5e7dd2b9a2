"""How a Dask worker fits: one fit at a time, with the worker's threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from learners.base import Budget

_one_fit = threading.Lock()
"""Random numbers and thread pools belong to the process: one fit at a time in each."""


@contextmanager
def alone(budget: Budget) -> Iterator[Budget]:
    """The budget of a fit on this worker: its own threads unless some are named."""
    from distributed import get_worker

    if budget.threads is None:
        budget = replace(budget, threads=get_worker().state.nthreads)
    with _one_fit:
        yield budget
