"""A run whose process is killed in the middle of a fold ends as one that was never killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from safetensors import SafetensorError, safe_open

from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from learners.base import Budget

HERE = Path(__file__).parent
FOLDS, EPOCHS = 5, 8

SCRIPT = """
import sys, time
from pathlib import Path
import bench_fakes
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from test_killed_fit import options


class Slow(Progress):
    def during(self, text):
        super().during(text)
        time.sleep(0.25)


run(bench_fakes.make_store(), options(Path({out!r})), Slow(0))
"""


def options(out: Path) -> RunOptions:
    """Dropout, a moving average, a mean of predictions: all of it has to be taken up."""
    return RunOptions(
        ["s2e"], features="kmer+onehot", out=out, bootstrap=20, budget=Budget(threads=1),
        params=[f"epochs={EPOCHS}", "ema=0.8", "average=3", "dropout=0.4", "base_filters=8"],
    )  # fmt: skip


def epoch_of(file: Path) -> int:
    try:
        with safe_open(file, framework="pt") as found:
            return int(json.loads(found.metadata()["training"])["epoch"])
    except (OSError, SafetensorError):
        return 0


def kill_in_second_fold(out: Path) -> Path:
    """Start the run in a process of its own, kill it there; its checkpoint."""
    paths = [str(HERE), str(HERE / "fakes"), str(HERE.parents[1])]
    log = out.with_suffix(".log")
    with log.open("w") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT.format(out=str(out))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
            stdout=said, stderr=said,
        )  # fmt: skip
    try:
        ended = time.monotonic() + 120
        while time.monotonic() < ended and process.poll() is None:
            for file in out.glob("*/folds/0-1.checkpoint/*.safetensors"):
                if 2 <= epoch_of(file) < EPOCHS:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    return file
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    raise AssertionError(log.read_text())


def test_a_run_killed_in_the_middle_of_a_fit_and_started_again_is_one_never_killed(
    fakes, tmp_path, monkeypatch
):
    checkpoint = kill_in_second_fold(tmp_path / "killed")
    done = epoch_of(checkpoint)
    assert 2 <= done < EPOCHS
    assert not list((tmp_path / "killed").glob("*/run.json"))
    store, said = fakes.make_store(), StringIO()
    monkeypatch.setattr("benchmarks.runs.progress.QUIET_SECONDS", 0.0)
    (resumed,) = run(store, options(tmp_path / "killed"), Progress(0, said))
    assert resumed.state == "ok"
    lines = [line for line in said.getvalue().splitlines() if "fold 1: " in line]
    assert lines[0] == f"s2e@kmer+onehot seed 0 fold 1: taken up after epoch {done}"
    assert len([line for line in lines if ": epoch " in line]) == EPOCHS - done
    (whole,) = run(store, options(tmp_path / "whole"), Progress(0, StringIO()))
    for name in ("predictions.parquet", "metrics.parquet", "learning.parquet", "split.parquet"):
        assert (resumed.path / name).read_bytes() == (whole.path / name).read_bytes()
    models = [resumed.path / "model" / "0-1", whole.path / "model" / "0-1"]
    weights = [(model / "arrays.safetensors").read_bytes() for model in models]
    assert weights[0] == weights[1]
    assert not list(tmp_path.glob("**/*.checkpoint"))
    assert not list(tmp_path.glob("**/.*.partial"))
    predictions = pd.read_parquet(resumed.path / "predictions.parquet")
    assert np.ptp(predictions.select_dtypes("number").to_numpy(), axis=0).max() > 0
    curve = pd.read_parquet(resumed.path / "learning.parquet")
    assert curve.groupby("fold").size().tolist() == [EPOCHS] * FOLDS


def test_the_lines_of_a_fit_come_sparsely_where_they_stay():
    said = StringIO()
    progress = Progress(1, said)
    for epoch in range(50):
        progress.during(f"epoch {epoch}")
    assert said.getvalue() == ""
    progress._said -= 11
    progress.during("epoch 50")
    progress.during("epoch 51")
    assert said.getvalue() == "epoch 50\n"


def test_a_narrowed_kernel_is_noted_in_the_run(fakes, tmp_path):
    one = RunOptions(
        ["s2e"], features="kmer", out=tmp_path, bootstrap=20, budget=Budget(threads=1, rounds=1),
        params=["kernel=4", "conv_layers=3"],
    )  # fmt: skip
    (outcome,) = run(fakes.make_store(), one, Progress(0, StringIO()))
    notes = json.loads((outcome.path / "run.json").read_text())["notes"]
    assert any("do not fit 4 bins; their kernel is 2" in note for note in notes)
