"""A file system without ``flock``: builds exclude each other all the same, whatever the clocks say."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from featurestore.build.engine import build
from featurestore.build.sealing.lock import build_lock, task_lock
from featurestore.errors import StoreLockedError
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species


@pytest.fixture(params=[errno.ENOLCK, errno.EOPNOTSUPP])
def no_locks(monkeypatch, request):
    def refuse(descriptor, operation):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def others(work: Path) -> list[Path]:
    return sorted((work / "lock.d").glob("*.json"))


def test_a_build_runs_and_leaves_nothing(tmp_path, no_locks):
    dataset = write_dataset(tmp_path / "in", random_species("plant", genes=20))
    build(dataset, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr.build").exists()


def test_one_at_a_time_and_tasks_together(tmp_path, no_locks):
    work = tmp_path / "w"
    with build_lock(work):
        with pytest.raises(StoreLockedError, match=rf"process {os.getpid()} .*delete"), build_lock(work):  # fmt: skip
            pass
        with pytest.raises(StoreLockedError), task_lock(work):
            pass
    assert others(work) == []
    with task_lock(work), task_lock(work):
        assert len(others(work)) == 2
        with pytest.raises(StoreLockedError), build_lock(work):
            pass
        assert len(others(work)) == 2, "whoever stepped back left nothing"
    with build_lock(work):
        pass


def test_a_holder_that_was_killed_is_not_in_the_way(tmp_path, no_locks):
    work = tmp_path / "w"
    code = (
        "import sys, os, fcntl, pathlib\n"
        "def refuse(*a): raise OSError(37, 'no locks')\n"
        "fcntl.flock = refuse\n"
        "from featurestore.build.sealing.lock import build_lock\n"
        "with build_lock(pathlib.Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(work)], check=False).returncode == -9
    assert len(others(work)) == 1
    with build_lock(work):
        assert len(others(work)) == 1


@pytest.mark.parametrize("change", ["host", "boot", "started"])
def test_only_what_is_certainly_dead_is_passed_over(tmp_path, no_locks, change):
    """A file of this very process, told otherwise in one respect, and as old as one likes."""
    work = tmp_path / "w"
    with build_lock(work):
        facts = json.loads(others(work)[0].read_text())
    facts[change] = "another"
    other = work / "lock.d" / "other.json"
    other.write_text(json.dumps(facts))
    os.utime(other, (0, 0))  # a clock that jumped
    if change == "host":  # nothing is known of processes there
        with (
            pytest.raises(StoreLockedError, match=r"on another, as .*other\.json"),
            build_lock(work),
        ):
            pass
    else:
        with build_lock(work):
            assert not other.exists()
