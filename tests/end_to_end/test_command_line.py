"""The two commands from a data set to a report, as a user types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest

from featurestore.sample import write_sample

PLUGIN = '''
"""A learner of a user's own, in a package of its own."""
import json
import numpy as np
from learners.base import LearnerInfo


class GcLine:
    """A straight line on the mean of the first four channels' third (G) and second (C): GC content."""

    info = LearnerInfo(
        name="gc_line", inputs=frozenset({"tabular", "bins"}), summary="a line on GC content",
        defaults={"strength": 1.0},
    )

    def __init__(self, *, strength=1.0):
        self.strength = strength

    def _x(self, batch):
        values = np.asarray(batch.array(np.float64))
        if np.isnan(values).any():
            raise ValueError("features hold NaN")
        return np.column_stack([np.ones(len(values)), values])

    def fit(self, train, valid, *, seed, budget):
        x, y = self._x(train), train.require_targets()
        keep = np.eye(x.shape[1]) * self.strength
        keep[0, 0] = 0
        self.weights = np.linalg.lstsq(x.T @ x + keep, x.T @ y, rcond=None)[0]

    def predict(self, batch):
        # one row at a time, so that a prediction cannot depend on the batch
        return np.stack([row @ self.weights for row in self._x(batch)])

    def save(self, path):
        (path / "weights.json").write_text(json.dumps(self.weights.tolist()))

    @classmethod
    def load(cls, path):
        made = cls()
        made.weights = np.array(json.loads((path / "weights.json").read_text()))
        return made
'''


def run(
    *words: object, expect: int = 0, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    program = {"fs": "featurestore", "bench": "benchmarks"}[str(words[0])]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    if path is not None:
        env["PYTHONPATH"] = os.pathsep.join([str(path), env.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", program, *map(str, words[1:])],
        capture_output=True,
        text=True,
        env=env,
        check=False,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    write_sample(folder, genes=120, lines=2, overwrite=True)
    return folder


@pytest.fixture(scope="module")
def store(sample) -> Path:
    path = sample / "store.zarr"
    run("fs", "build", sample, "--store", path)
    return path


@pytest.mark.slow
def test_from_the_sample_to_a_report(sample, store):
    out = sample / "runs"
    run(
        "bench", "run", "--store", store, "--out", out, "--seeds", 2,
        "--learner", "ridge", "--learner", "family_mean", "--learner", "shuffled_labels",
    )  # fmt: skip
    board = json.loads(run("bench", "leaderboard", out, "--json").stdout)
    rows = {r["method"]: r for r in board}
    assert {"ridge@kmer", "family_mean", "shuffled_labels@kmer"} <= set(rows)
    assert all(r["n_repeats"] == 2 and r["simulated"] for r in rows.values())
    assert "descriptive" in run("bench", "compare", out).stdout
    report = sample / "report.html"
    run("bench", "report", out, "--out", report)
    text = report.read_text()
    HTMLParser().feed(text)
    assert "imulated data" in text
    assert "ridge@kmer" in text
    # every gene predicted exactly once in each repeat, by the fold in which it was test
    for folder in sorted(out.glob("*ridge*")):
        table = pd.read_parquet(folder / "predictions.parquet")
        assert not table.duplicated(["species", "gene", "repeat"]).any()
        assert len(table) == 240
    again = run("bench", "run", "--store", store, "--out", out, "--seeds", 2, "--learner", "ridge")
    assert "already there" in again.stdout + again.stderr


@pytest.mark.slow
def test_a_users_own_learner_in_its_own_package_is_an_equal(tmp_path, sample, store):
    site = tmp_path / "site"
    info = site / "gc_line-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "gc_line.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gc-line\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[meristem.learners]\ngc_line = gc_line:GcLine\n")
    assert "gc_line" in run("bench", "learners", path=site).stdout
    run("bench", "check", "gc_line", path=site)
    out = tmp_path / "runs"
    run(
        "bench",
        "run",
        "--store",
        store,
        "--learner",
        "gc_line",
        "--learner",
        "gc_line:GcLine",
        "--out",
        out,
        path=site,
    )
    run("bench", "report", out, "--out", tmp_path / "report.html", path=site)
    assert "gc_line@kmer" in (tmp_path / "report.html").read_text()


def test_leakage_is_refused_with_exit_code_four(tmp_path, sample, store):
    words = [
        "bench",
        "run",
        "--store",
        store,
        "--learner",
        "family_mean",
        "--split",
        "random-5fold",
        "--out",
        tmp_path / "runs",
    ]
    refused = run(*words, expect=4)
    assert "--allow-leakage" in refused.stderr
    run(*words, "--allow-leakage")
    (folder,) = (tmp_path / "runs").iterdir()
    assert (
        json.loads((folder / "run.json").read_text())["identity"]["split"]["leakage_allowed"]
        is True
    )
    assert pd.read_parquet(folder / "metrics.parquet")["leakage_allowed"].all()


def test_mistakes_end_with_exit_code_two_and_say_what_mends_them(tmp_path, store):
    assert (
        "Did you mean 'ridge'"
        in run(
            "bench", "run", "--store", store, "--learner", "rigde", "--out", tmp_path, expect=2
        ).stderr
    )
    assert "Did you mean 'kmer'" in run(
        "bench", "run", "--store", store, "--learner", "ridge", "--features", "kmers", "--out", tmp_path, expect=2
    ).stderr  # fmt: skip
    assert "fs build" in run("fs", "ls", tmp_path / "none.zarr", expect=2).stderr
