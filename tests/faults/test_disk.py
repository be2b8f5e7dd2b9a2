"""A disk that is full, a place that may not be written."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from tests.faults.harness import remount, tree


def check_full(bench, store, ended) -> None:
    """One clear error, and nothing that is marked done is wrong."""
    assert ended.code == 1, ended.told
    assert ended.error.count("Error: ") == 1
    assert "make room, then run the same command again" in ended.error.replace("\n", " ")
    assert "Traceback" not in ended.told
    bench.check_markers(store)


def test_a_full_disk_tells_and_the_build_goes_on_when_there_is_room(bench, disk):
    place = disk("300k")
    for size in ("300k", "1m"):
        remount(place, f"size={size}")
        ended = bench.build(place / "store.zarr")
        check_full(bench, place / "store.zarr", ended)
    remount(place, "size=100m")
    bench.resume(place / "store.zarr")


@pytest.mark.nightly
@pytest.mark.parametrize("options", [[], ["--workers", "2"]], ids=["threads", "processes"])
def test_a_disk_that_fills_at_any_point(bench, disk, options):
    place, size = disk("300k"), 300
    store = place / "store.zarr"
    for _ in range(60):
        ended = bench.build(store, *options)
        if ended.code == 0:
            break
        check_full(bench, store, ended)
        size += 150
        remount(place, f"size={size}k")
    assert ended.code == 0
    bench.check_store(store)
    bench.check_nothing_left(store)


def test_a_full_disk_leaves_the_store_that_is_there_as_it_is(bench, disk):
    place = disk("100m")
    store = place / "store.zarr"
    assert bench.build(store, "--species", "plant_a").code == 0
    whole = tree(store)
    (place / "ballast").write_bytes(b"")
    remount(place, f"size={sum(p.stat().st_size for p in place.rglob('*')) // 1024 + 300}k")
    ended = bench.build(store)
    check_full(bench, store, ended)
    assert tree(store) == whole
    (place / "ballast").unlink()
    remount(place, "size=100m")
    bench.resume(store)


def test_a_file_may_not_grow_as_large_as_a_shard(bench, store):
    limit = ["bash", "-c", 'ulimit -f 16; exec "$@"', "limited"]
    ended = bench.build(store, before=limit)
    check_full(bench, store, ended)
    assert "File too large" in ended.error
    bench.resume(store)


def test_a_place_that_may_not_be_written(bench, disk):
    place = disk("100m")
    store = place / "store.zarr"
    assert bench.build(store, "--species", "plant_a").code == 0
    whole = tree(store)
    remount(place, "ro")
    ended = bench.build(store)
    assert ended.code == 1, ended.told
    assert "Read-only file system" in ended.error
    assert "Traceback" not in ended.told
    assert tree(store) == whole
    reads = bench.fs("verify", store)
    assert reads.code == 0, reads.told
    remount(place, "rw")
    bench.resume(store)
    remount(place, "ro")
    again = bench.build(store)
    assert again.code == 0, again.told
    assert "nothing to do" in again.out


def test_a_place_that_turns_read_only_in_mid_build(bench, store):
    refuse = {"event": "open", "path": "store.zarr.build/store", "errno": errno.EROFS, "skip": 40}
    ended = bench.build(store, faults={"errors": [refuse]})
    assert ended.code == 1, ended.told
    assert "Read-only file system" in ended.error
    assert "make the folder writable" in ended.error
    assert bench.check_markers(store) > 0
    bench.resume(store)


def test_a_folder_of_somebody_else(bench, store):
    """As a user without rights, where this one may become such a user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    # tox makes its folder for its own user alone, and nobody else can then run what is in it.
    if subprocess.run(
        [*nobody, sys.executable, "-c", "import click"], capture_output=True
    ).returncode:
        pytest.skip("another user cannot run this environment")
    store.parent.mkdir(parents=True)
    open_all(bench)
    ended = bench.build(store, before=nobody)
    assert ended.code == 1, ended.told
    assert "Permission denied" in ended.error
    assert "Traceback" not in ended.told
    assert not any(store.parent.iterdir())
    bench.resume(store)


def open_all(bench) -> None:
    """Let any user reach the data set."""
    for folder in (bench.folder, *bench.folder.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
