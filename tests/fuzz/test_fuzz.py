"""Each parser for a moment: changed files give a valid result or an error of the project, nothing else."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.mutate import KINDS, Change, changed
from tests.fuzz.run import limited
from tests.fuzz.targets import all_targets, check

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(all_targets())
NEEDS = {
    "torch-weights": "torch",
    "checkpoint-json": "torch",
    "safetensors": "torch",
    "a2z-h5": "h5py",
}
SLOW = ("store:", "run:", "manifest", "torch", "split", "sequences")

change = st.builds(
    Change,
    st.integers(0, KINDS - 1),
    st.integers(0, 1 << 20),
    st.integers(0, 63),
    st.integers(0, 255),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def quickly(examples: int):
    return settings(max_examples=examples, deadline=None, derandomize=True, database=None,
                    suppress_health_check=list(HealthCheck))  # fmt: skip


def ready(name: str, folder: Path) -> Path:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    own = folder / name.replace("/", "_").replace(":", "_")
    own.mkdir(exist_ok=True)
    return own


@pytest.mark.parametrize("name", NAMES)
def test_valid_files_are_valid(folder, name):
    own = ready(name, folder)
    results = [check(name, own, seed) for seed in all_targets()[name].seeds()]
    assert any(results) or name in ("a2z-h5", "learner"), (
        "the fuzzer would never leave the first check"
    )


@pytest.mark.parametrize("name", NAMES)
def test_changed_files_are_read_or_told(folder, name):
    own, target = ready(name, folder), all_targets()[name]
    seeds = target.seeds()

    @quickly(12 if name.startswith(SLOW) else 40)
    @given(st.integers(0, len(seeds) - 1), st.lists(change, min_size=1, max_size=5))
    def once(seed: int, changes: list[Change]) -> None:
        with limited():
            check(name, own, changed(seeds[seed], changes, target.pieces))

    once()


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes_are_told(folder, name):
    own = ready(name, folder)

    @quickly(8 if name.startswith(SLOW) else 25)
    @given(st.binary(max_size=300))
    def once(data: bytes) -> None:
        with limited():
            check(name, own, data)

    once()


@pytest.mark.nightly
def test_an_hour_of_every_parser(tmp_path):
    """What ``tox -e nightly`` runs."""
    command = [sys.executable, "-m", "tests.fuzz.run", "--seconds", "3600", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_guided_fuzzing_runs(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tests.fuzz.run",
        "--seconds",
        "4",
        "--target",
        "positions",
        "--out",
        str(tmp_path),
    ]
    done = subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "inputs" in done.stdout
