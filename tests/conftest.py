"""Shared fixtures: where the real data lies, and the tools that build inputs."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

import pytest

# Tests run side by side: threads of one that wait for those of another would spin on its core.
os.environ.setdefault("OMP_NUM_THREADS", "1")

SHARED = Path(__file__).resolve().parents[2] / "shared"
MEMORY = Path("/dev/shm")  # noqa: S108 - pytest makes a folder of its own there
ROOM = 4 << 30
"""Bytes that must be free in memory for temporary folders to be there; the tests take a few hundred MB."""


def pytest_configure(config: pytest.Config) -> None:
    """Temporary folders lie in memory where there is room: thousands of flushes to a disk are no part of the tests."""
    told = config.option.basetemp or os.environ.get("PYTEST_DEBUG_TEMPROOT")
    if not told and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)


def pytest_collection_finish() -> None:
    """What collecting the tests imported is garbage to nobody: collections during them need not look at it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data; the test skips, saying so, where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real data in {folder}, which is not here")
    return folder
