"""One undisturbed build that all tests of faults compare to."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.faults.harness import Bench, small_disk

MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there


@pytest.fixture(scope="session")
def undisturbed():
    # In memory where that can be: thousands of flushes to a disk are no part of these tests.
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="faults-", dir=place) as folder:
        bench = Bench.make(Path(folder))
        yield bench
        bench.fs.close()


@pytest.fixture
def bench(undisturbed):
    """The undisturbed build; no process of the test outlives it."""
    yield undisturbed
    undisturbed.end_all()


@pytest.fixture
def folder(bench):
    """A folder of the test beside the undisturbed build."""
    with tempfile.TemporaryDirectory(prefix="test-", dir=bench.folder) as made:
        yield Path(made)
        bench.end_all()


@pytest.fixture
def store(folder):
    return folder / "place" / "store.zarr"


@pytest.fixture
def disk(folder):
    """Mounts a small file system; the test skips, saying so, where that is not allowed."""
    with ExitStack() as stack:

        def mount(size: str) -> Path:
            try:
                return stack.enter_context(small_disk(folder / "disk", size))
            except (PermissionError, FileNotFoundError) as error:
                pytest.skip(f"needs a file system of its own, which cannot be mounted: {error}")

        yield mount
