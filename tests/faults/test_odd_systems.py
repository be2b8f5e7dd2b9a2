"""Clocks that jump, two clients at once, file systems without locks, links or exchange."""

from __future__ import annotations

import errno
import os

import pytest

from tests.faults.harness import end, kill, marked, wait_for


def test_a_clock_that_jumps(bench, store):
    year = 365 * 86400
    build = bench.start_build(store, seconds=0.02, faults={"clock": 30 * year})
    wait_for(lambda: marked(store) > 6)
    kill(build)
    bench.check_markers(store)
    for number, path in enumerate(sorted(store.with_name("store.zarr.build").rglob("*"))):
        moment = [0, 4_000_000_000, 1_000_000_000][number % 3]
        os.utime(path, (moment, moment), follow_symlinks=False)
    again = bench.build(store, faults={"clock": 30 * year})
    assert again.code == 0, again.told
    assert "Traceback" not in again.told
    assert "taken over" in again.out
    bench.check_store(store)
    bench.check_nothing_left(store)


def test_two_builds_of_one_store_at_once(bench, store):
    one = bench.start_build(store, seconds=0.02)
    wait_for(lambda: marked(store) > 2)
    other = bench.build(store)
    assert other.code == 1, other.told
    assert "another build of this store is running" in other.error
    assert f'"pid": {one.pid}' in other.error
    by_hand = bench.fs("build-shard", store, "0")
    assert by_hand.code in {1, 2}, by_hand.told
    assert end(one).code == 0
    bench.check_store(store)
    bench.check_nothing_left(store)


@pytest.mark.nightly
def test_many_builds_of_one_store_at_the_same_instant(bench, store):
    for _ in range(3):
        ended = [end(build) for build in [bench.start_build(store) for _ in range(4)]]
        assert {e.code for e in ended} <= {0, 1}
        assert any(e.code == 0 for e in ended)
        assert all("another build" in e.error for e in ended if e.code)
        bench.check_store(store)
        bench.check_nothing_left(store)


NETWORK = {
    "no_locks": [{"event": "fcntl.flock", "errno": errno.ENOLCK}],
    "locks_unknown": [{"event": "fcntl.flock", "errno": errno.EOPNOTSUPP}],
    "no_links": [{"event": "os.link", "errno": errno.EPERM}],
    "no_exchange": [{"event": "ctypes.dlsym", "path": "renameat2", "errno": errno.EINVAL}],
}


def check_network(bench, store, faults) -> None:
    """First a store of one species, then the whole in its place, without what is missing."""
    first = bench.build(store, "--species", "plant_a", faults={"errors": faults})
    assert first.code == 0, first.told
    second = bench.build(store, faults={"errors": faults})
    assert second.code == 0, second.told
    bench.check_store(store)


def test_a_network_file_system_without_locks_links_and_exchange(bench, store):
    check_network(bench, store, [e for errors in NETWORK.values() for e in errors])
    # Without locks nobody knows whether a reader has the older tree open: it stays for fs gc.
    names = sorted(p.name for p in store.parent.iterdir())
    assert names == [".store.zarr.replaced", store.name, f"{store.name}.log.jsonl"]


@pytest.mark.nightly
@pytest.mark.parametrize("missing", NETWORK)
def test_a_network_file_system_without(bench, store, missing):
    check_network(bench, store, NETWORK[missing])


def test_two_builds_where_there_are_no_locks(bench, store):
    faults = {"errors": NETWORK["no_locks"]}
    one = bench.start_build(store, seconds=0.02, faults=faults)
    wait_for(lambda: marked(store) > 2)
    other = bench.build(store, faults=faults)
    assert other.code == 1, other.told
    assert f"in use by process {one.pid}" in other.error
    kill(one)
    bench.check_markers(store)
    again = bench.build(store, faults=faults)  # the file of a dead process is in nobody's way
    assert again.code == 0, again.told
    bench.check_store(store)
    bench.check_nothing_left(store)


@pytest.mark.parametrize("skip", [5, pytest.param(60, marks=pytest.mark.nightly), pytest.param(150, marks=pytest.mark.nightly)])  # fmt: skip
def test_a_stale_handle(bench, store, skip):
    stale = {"event": "open", "path": "store.zarr.build/store/", "errno": errno.ESTALE, "times": 1, "skip": skip}  # fmt: skip
    ended = bench.build(store, faults={"errors": [stale]})
    assert ended.code in {0, 1, 3}, ended.told
    assert "Traceback" not in ended.told
    if ended.code:
        assert "tale" in ended.error
        bench.check_markers(store)
    bench.resume(store)
