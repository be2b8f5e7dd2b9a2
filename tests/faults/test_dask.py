"""What breaks on a cluster: the scheduler, a worker's memory, a window that kills whoever embeds it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import featurestore
from tests.faults.harness import end, kill, marked, wait_for
from tests.faults.kills import FORKED
from tests.faults.plugin.meristem_faults import digest_of


def dask(bench, *arguments, **environment) -> subprocess.Popen[str]:
    """A process of Dask's own command line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, arguments)], env=bench.environment(**environment),
        cwd=bench.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    bench.started.append(process)
    return process


@pytest.fixture
def scheduler(bench, folder):
    """Starts a scheduler with two workers; returns it and its address."""

    def start():
        place = folder / "scheduler.json"
        process = dask(bench, "scheduler", "--port", 0, "--no-dashboard", "--no-show", "--host", "127.0.0.1", "--scheduler-file", place)  # fmt: skip
        for _ in range(2):
            dask(bench, "worker", "--scheduler-file", place, "--nthreads", 1, "--no-dashboard", "--local-directory", folder, seconds=0.02)  # fmt: skip
        wait_for(lambda: place.exists() and place.read_text().endswith("}"))
        return process, json.loads(place.read_text())["address"]

    return start


def test_a_scheduler_killed_in_mid_build(bench, store, scheduler):
    process, address = scheduler()
    build = bench.start_build(store, "--scheduler", address)
    wait_for(lambda: marked(store) > 3 or build.poll() is not None)
    kill(process)
    ended = end(build)
    assert ended.code == 1, ended.told
    assert "scheduler was lost" in ended.error
    assert "run 'fs build' again" in ended.error
    assert "Traceback" not in ended.told
    bench.check_markers(store)
    bench.resume(store)


@pytest.mark.nightly
def test_no_scheduler_there(bench, store):
    ended = bench.build(store, "--scheduler", "tcp://127.0.0.1:9", timeout=60)
    assert ended.code == 1, ended.told
    assert "no Dask scheduler answers there" in ended.error
    bench.resume(store)


@pytest.mark.nightly
def test_workers_that_go_and_do_not_come_back(bench, store, scheduler):
    process, address = scheduler()
    build = bench.start_build(store, "--scheduler", address)
    wait_for(lambda: marked(store) > 3)
    for one in bench.processes():
        if one.pid not in {process.pid, build.pid}:
            one.kill()
    ended = end(build, 150)
    assert ended.code == 1, ended.told
    assert "no Dask worker for 60 s" in ended.error
    bench.check_markers(store)
    bench.resume(store)


FEWER_DEATHS = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}


def poison(bench) -> str:
    """A window that occurs once: the third bin of the promoter of a gene of the second species."""
    codes = featurestore.open(bench.undisturbed).features("plant_b", "onehot")
    return digest_of(codes[5, 0, 200:300])


def check_quarantine(bench, store, ended) -> None:
    """One shard is missing, its gene is named, everything else is done."""
    assert ended.code == 3, ended.told
    assert "1 of 29 shards failed; the others are done and stay" in ended.error
    assert "gene G00005, promoter, bases 200 to 300" in ended.error
    assert "Traceback" not in ended.told
    assert bench.check_markers(store) == 28
    assert not store.exists()


@pytest.mark.parametrize("death", ["segv", pytest.param("exit", marks=pytest.mark.nightly)])
def test_a_window_that_kills_its_worker_is_found_and_the_rest_is_finished(bench, store, death):
    more = {"SLOW_POISON": poison(bench), "SLOW_DEATH": death, **FEWER_DEATHS, **FORKED}
    ended = bench.build(store, "--workers", "2", more=more)
    check_quarantine(bench, store, ended)
    assert ("SIGSEGV" if death == "segv" else "exit code 7") in ended.error
    bench.resume(store)


@pytest.mark.nightly
def test_a_window_that_raises_is_found_and_the_rest_is_finished(bench, store):
    more = {"SLOW_POISON": poison(bench), "SLOW_DEATH": "raise"}
    ended = bench.build(store, more=more)
    check_quarantine(bench, store, ended)
    assert "this window is poison" in ended.error
    bench.resume(store)


@pytest.mark.nightly
def test_a_worker_that_takes_more_memory_than_it_may(bench, store):
    more = {"SLOW_POISON": poison(bench), "SLOW_DEATH": "memory"}
    options = ["--cluster", "local", "--workers", "2", "--cluster-option", "memory_limit=600MB"]
    ended = bench.build(store, *options, more=more, timeout=400)
    check_quarantine(bench, store, ended)
    assert "memory" in ended.error
    bench.resume(store)
