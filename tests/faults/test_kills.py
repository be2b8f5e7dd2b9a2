"""Processes killed with SIGKILL at random instants: workers, the command itself, array tasks."""

from __future__ import annotations

import random
import time

import pytest

from tests.faults import kills
from tests.faults.harness import end, kill, marked, wait_for


def test_workers_killed_every_so_often_through_a_build(bench, folder):
    tally = kills.run(bench, folder, 4, workers=2, dawdle=0.005)
    assert tally.kills == 4
    assert tally.markers_checked >= 4


@pytest.mark.nightly
def test_a_thousand_killed_workers_leave_no_shard_that_is_marked_done_and_wrong(bench, folder):
    tally = kills.run(bench, folder, 1000)
    assert tally.kills == 1000
    assert tally.while_writing > 20
    assert tally.markers_checked > 1000


def test_the_command_killed_at_random_instants(bench, store):
    kill_through(bench, store, 2, 3)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(5))
def test_the_command_killed_many_times(bench, store, seed):
    kill_through(bench, store, 20, seed)


def kill_through(bench, store, most, seed) -> None:
    """Kill a build again and again; what is done stays as it is, what is not is made at last."""
    rng = random.Random(seed)
    before = {}
    for _ in range(most):
        build = bench.start_build(store, seconds=0.01)
        have = marked(store)
        wait_for(lambda have=have, build=build: marked(store) > have or build.poll() is not None)
        time.sleep(rng.uniform(0, 0.5))
        kill(build)
        if store.exists():
            break
        bench.check_markers(store)
        done = store.with_name("store.zarr.build") / "done"
        now = {p: p.stat().st_mtime_ns for p in done.rglob("[!.]*.json")}
        assert before.items() <= now.items(), "a finished shard was made again"
        before = now
    assert before
    bench.resume(store)


def test_the_command_killed_takes_its_workers_along(bench, store):
    build = bench.start_build(store, "--workers", "2", seconds=0.02)
    wait_for(lambda: marked(store) > 3)
    kill(build)
    # Its workers may still be writing: the next build goes on beside them.
    bench.resume(store)
    wait_for(lambda: not bench.processes(), 30)


def test_array_tasks_killed_and_run_twice(bench, store):
    assert bench.build(store, "--plan-only").code == 0
    first = bench.start("build-shard", store, "0-40", seconds=0.02)
    twin = bench.start("build-shard", store, "0-40", seconds=0.02)
    wait_for(lambda: marked(store) > 2)
    kill(first)
    bench.check_markers(store)
    early = bench.fs("finalise", store)
    assert early.code in {1, 3}  # the other still runs, or its tasks are not all done
    assert "running" in early.error or "not done" in early.error
    assert end(twin).code == 0
    bench.check_markers(store)
    finalised = bench.fs("finalise", store)
    assert finalised.code == 0, finalised.told
    bench.check_store(store)
    bench.check_nothing_left(store)
