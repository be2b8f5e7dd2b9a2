"""A build killed at every step: just before each change to the file system that it makes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from featurestore.errors import StoreError
from featurestore.store.manifest import read_manifest
from tests.faults.harness import tree


def steps_of(forks, bench, store: Path, steps: Path) -> list[str]:
    """The changes that a build makes from here on, in order."""
    code, said = forks("build", bench.dataset, "--store", store, within=str(store.parent), steps=str(steps))  # fmt: skip
    assert code == 0, said
    return [line.split("\t", 1)[1] for line in steps.read_text().splitlines()]


def older_store(bench, forks, folder: Path) -> Path:
    """A store of one species, for a build to replace."""
    store = folder / "older" / "store.zarr"
    code, said = forks("build", bench.dataset, "--store", store, "--species", "plant_a")
    assert code == 0, said
    return store


def all_but_the_swap(bench, forks, store: Path) -> None:
    """A build killed when its shards were done, before it checked them."""
    code, said = forks("build", bench.dataset, "--store", store, within=str(store.parent), kill_when=["os.mkdir", "store.zarr.build/metadata"])  # fmt: skip
    assert code == -9, said


def kill_at_each(bench, forks, start: Path, folder: Path, stride: int, **faults) -> int:
    """From the same start, kill a build at every ``stride``-th of its steps, and resume it.

    Returns
    -------
    int
        Builds that were killed.
    """
    before = tree(start / "store.zarr") if (start / "store.zarr").exists() else None
    total = 0
    shutil.copytree(start, folder / "count", copy_function=shutil.copy2)
    steps = steps_of(forks, bench, folder / "count" / "store.zarr", folder / "steps")
    for number in range(1, len(steps) + 1, stride):
        place = folder / "place"
        shutil.copytree(start, place, copy_function=shutil.copy2)
        store = place / "store.zarr"
        code, said = forks("build", bench.dataset, "--store", store, within=str(place), kill_at=number, **faults)  # fmt: skip
        at = f"killed at step {number}: {steps[number - 1]}"
        if code == 0:  # what is removed by several threads or in another order has other steps
            assert number > len(steps) * 0.9, at
        else:
            assert code == -9, (at, said)
            total += 1
        bench.check_markers(store)
        if store.exists():  # whole at every instant: the older or the newer
            found = tree(store)
            assert found in (before, bench.truth), at
            read_manifest(store)
        code, said = forks("build", bench.dataset, "--store", store, **faults)
        assert code == 0, (at, said)
        bench.check_store(store)
        bench.check_nothing_left(store)
        shutil.rmtree(place)
    return total


def test_a_build_killed_at_any_step_of_the_swap_leaves_one_store_or_the_other(bench, forks, folder):
    older = older_store(bench, forks, folder)
    all_but_the_swap(bench, forks, older)
    assert kill_at_each(bench, forks, older.parent, folder / "run", 97) > 5


@pytest.mark.nightly
@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two_renames"])
@pytest.mark.parametrize("replaces", [True, False], ids=["replaces", "first"])
def test_at_every_step_of_the_swap(bench, forks, folder, exchange, replaces):
    store = older_store(bench, forks, folder) if replaces else folder / "fresh" / "store.zarr"
    all_but_the_swap(bench, forks, store)
    none = {"errors": [{"event": "ctypes.dlsym", "path": "renameat2", "errno": 22}]}
    assert kill_at_each(bench, forks, store.parent, folder / "run", 1, **({} if exchange else none)) > 100  # fmt: skip


@pytest.mark.nightly
def test_at_every_third_step_of_a_whole_build(bench, forks, folder):
    (folder / "nothing").mkdir()
    assert kill_at_each(bench, forks, folder / "nothing", folder / "run", 3) > 100


def test_a_store_between_two_renames_is_put_back(bench, forks, folder):
    """Without an exchange there is an instant without a store; nothing of it is lost then."""
    older = older_store(bench, forks, folder)
    whole = tree(older)
    none = {"errors": [{"event": "ctypes.dlsym", "path": "renameat2", "errno": 22}]}
    code, said = forks("build", bench.dataset, "--store", older, within=str(older.parent), kill_when=["os.rename", "/older/store.zarr"], **none)  # fmt: skip
    assert code == -9, said
    assert not older.exists()
    aside = older.parent / ".store.zarr.replaced" / "between"
    assert tree(aside) == whole
    with pytest.raises(StoreError):
        read_manifest(older)
    assert forks("build", bench.dataset, "--store", older)[0] == 0
    bench.check_store(older)
    bench.check_nothing_left(older)
