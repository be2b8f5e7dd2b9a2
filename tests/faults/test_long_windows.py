"""Builds of an embedder that reads one long window a gene, killed and gone on with."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.faults.conftest import MEMORY
from tests.faults.harness import Bench
from tests.faults.test_kills import kill_through


@pytest.fixture(scope="module")
def long_windows():
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="faults-", dir=place) as folder:
        bench = Bench.make(Path(folder), embedders='["onehot", "slow_genes"]')
        yield bench
        bench.end_all()
        bench.fs.close()


def test_a_killed_build_goes_on_and_gives_the_store_of_one_never_killed(long_windows):
    assert any("slow_genes/embedding" in path for path in long_windows.truth)
    kill_through(long_windows, long_windows.folder / "killed" / "store.zarr", 2, 5)
