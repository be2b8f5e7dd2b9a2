"""A fit's threads: those of the budget, of OMP_NUM_THREADS, or all that the process may run on."""

from __future__ import annotations

import os

import pytest
from threadpoolctl import threadpool_info

from benchmarks.runs.identity import thread_count
from learners.base import Budget
from learners.compute import limited_threads, threads_of


@pytest.mark.parametrize(
    ("told", "threads", "expected"),
    [
        ("3", None, 3),
        ("3", 2, 2),
        ("5,2", None, 5),  # a number for each level of nesting
        (None, None, "all"),
        ("", None, "all"),
        ("0", None, "all"),
        ("many", None, "all"),
    ],
)
def test_threads_are_those_that_were_asked_for(monkeypatch, told, threads, expected) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if told is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", told)
    if expected == "all":
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 4, 9}, raising=False)
        expected = 4
    assert threads_of(Budget(threads=threads)) == expected
    assert thread_count(Budget(threads=threads)) == expected


@pytest.mark.parametrize("threads", [1, 2])
def test_matrices_are_multiplied_by_no_more_threads(threads) -> None:
    with limited_threads(Budget(threads=threads)):
        counts = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    assert set(counts) <= {threads}
