"""A build killed at every step: just before each change to the file system that it makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from featurestore.errors import StoreError
from featurestore.store.manifest import read_manifest
from tests.faults.harness import tree

NO_EXCHANGE = {"errors": [{"event": "ctypes.dlsym", "path": "renameat2", "errno": 22}]}


def steps_of(bench, store: Path, steps: Path, **faults) -> list[str]:
    """The changes that a build makes from here on, in order."""
    ended = bench.build(store, faults={"within": str(store.parent), "steps": str(steps), **faults})
    assert ended.code == 0, ended.told
    return [line.split("\t", 1)[1] for line in steps.read_text().splitlines()]


def older_store(bench, folder: Path) -> Path:
    """A store of one species, for a build to replace."""
    store = folder / "older" / "store.zarr"
    ended = bench.build(store, "--species", "plant_a")
    assert ended.code == 0, ended.told
    return store


def kill_when(bench, store: Path, event: str, path: str, **faults) -> None:
    """Kill a build just before it does something."""
    told = {"within": str(store.parent), "kill_when": [event, path], **faults}
    ended = bench.build(store, faults=told)
    assert ended.code == -9, ended.told


def kill_at_each(bench, start: Path, folder: Path, choose, **faults) -> int:
    """From the same start, kill a build at every step that is chosen, and resume it.

    Returns
    -------
    int
        Builds that were killed.
    """
    before = tree(start / "store.zarr") if (start / "store.zarr").exists() else None
    total = 0
    shutil.copytree(start, folder / "count", copy_function=shutil.copy2)
    steps = steps_of(bench, folder / "count" / "store.zarr", folder / "steps", **faults)
    for number in choose(steps):
        place = folder / "place"
        shutil.copytree(start, place, copy_function=shutil.copy2)
        store = place / "store.zarr"
        ended = bench.build(store, faults={"within": str(place), "kill_at": number, **faults})
        at = f"killed at step {number}: {steps[number - 1]}"
        # Threads make some steps in another order, and may make fewer of them.
        assert ended.code == -9 or (ended.code == 0 and number > len(steps) * 0.9), (at, ended.told)
        total += ended.code == -9
        bench.check_markers(store)
        if store.exists():  # whole at every instant: the older or the newer
            assert tree(store) in (before, bench.truth), at
        resumed = bench.build(store, faults=faults)
        assert resumed.code == 0, (at, resumed.told)
        bench.check_store(store)
        bench.check_nothing_left(store)
        shutil.rmtree(place)
    return total


def test_a_build_killed_at_any_step_of_the_swap_leaves_one_store_or_the_other(bench, folder):
    older = older_store(bench, folder)
    kill_when(bench, older, "os.mkdir", "store.zarr.build/metadata")
    tally = kill_at_each(bench, older.parent, folder / "run", lambda s: range(7, len(s) + 1, len(s) // 6))  # fmt: skip
    assert tally > 4


def most(steps: list[str]) -> list[int]:
    """Every third step; of those that only write metadata into a folder of their own few."""
    plain = [i for i, s in enumerate(steps, 1) if ".build/metadata/" in s]
    return sorted({*plain[::25], *range(1, len(steps) + 1, 3)} - (set(plain) - set(plain[::25])))


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["first", "exchange", "two_renames"])
def test_at_every_third_step_of_the_swap(bench, folder, kind):
    store = folder / "fresh" / "store.zarr" if kind == "first" else older_store(bench, folder)
    kill_when(bench, store, "os.mkdir", "store.zarr.build/metadata")
    faults = NO_EXCHANGE if kind == "two_renames" else {}
    assert kill_at_each(bench, store.parent, folder / "run", most, **faults) > 80


@pytest.mark.nightly
def test_at_every_seventh_step_of_a_whole_build(bench, folder):
    (folder / "nothing").mkdir()
    chosen = lambda steps: range(1, len(steps) + 1, 7)  # noqa: E731
    assert kill_at_each(bench, folder / "nothing", folder / "run", chosen) > 100


def test_a_store_between_two_renames_is_put_back(bench, folder):
    """Without an exchange there is an instant without a store; nothing of it is lost then."""
    older = older_store(bench, folder)
    whole = tree(older)
    kill_when(bench, older, "os.rename", "/older/store.zarr", **NO_EXCHANGE)
    assert not older.exists()
    aside = older.parent / ".store.zarr.replaced" / "between"
    assert tree(aside) == whole
    with pytest.raises(StoreError):
        read_manifest(older)
    bench.resume(older)
