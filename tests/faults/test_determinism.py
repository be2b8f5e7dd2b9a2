"""The same bytes however many work, and in whatever order they end."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "options",
    [
        ["--workers", "1"],
        pytest.param(["--workers", "2"], marks=pytest.mark.nightly),
        pytest.param(["--workers", "8"], marks=pytest.mark.nightly),
        pytest.param(["--processes"], marks=pytest.mark.nightly),
        pytest.param([], marks=pytest.mark.nightly),
    ],
    ids=["one_worker", "two_workers", "eight_workers", "processes", "threads"],
)
def test_the_same_bytes_from_any_number_of_workers_in_any_order(bench, store, options):
    ended = bench.build(store, *options, more={"SLOW_JITTER": "0.05"})
    assert ended.code == 0, ended.told
    bench.check_store(store)
    bench.check_nothing_left(store)
