"""bench explain: finds the bin that expression was made to follow from, and the report shows it."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import featurestore
from benchmarks.cli import bench
from benchmarks.explain import COLUMNS, FILE, _tested, explain, read_importance
from benchmarks.perf.trees_data import signal_bin, write_generated
from benchmarks.predict.trained import TrainedRun
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from featurestore.errors import InputError
from learners.base import Budget

BINS = 4


@pytest.fixture(scope="module")
def explained(tmp_path_factory) -> tuple[Path, Path]:
    """A generated store, and a folder with a run of trees and one of a ridge."""
    pytest.importorskip("xgboost")
    folder = tmp_path_factory.mktemp("explain")
    store = write_generated(folder, 500, channels=6, bins=BINS)
    options = RunOptions(
        ["xgboost", "ridge"], features="wide", split="families-2fold", out=folder / "runs",
        params=["xgboost.learning_rate=0.2", "xgboost.colsample_bytree=1.0"], bootstrap=0,
        budget=Budget(threads=1, rounds=30),
    )  # fmt: skip
    outcomes = run(featurestore.open(store), options, Progress(0, StringIO()))
    assert [one.state for one in outcomes] == ["ok", "ok"]
    return store, folder / "runs"


def _call(*args: object):
    return CliRunner().invoke(bench, [str(arg) for arg in args], prog_name="bench")


def test_the_planted_bin_is_found_and_drawn(explained):
    store, runs = explained
    found = _call("explain", runs, "--store", store, "--json")
    assert found.exit_code == 0, found.stderr
    (one,) = json.loads(found.stdout)
    assert one["method"] == "xgboost@wide"
    assert one["genes"] == 500
    best, second = one["top"][:2]
    place = signal_bin(BINS)
    assert (best["feature"], best["region"], best["bin"]) == ("wide", "promoter", place)
    assert best["bin_start"] == 4 * (place - BINS)  # bins of 4 bp that end at the TSS
    assert best["mean_abs_shap"] > 5 * second["mean_abs_shap"]
    table = pd.read_parquet(one["path"])
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 2 * BINS
    said = _call("explain", runs, "--store", store, "--genes", 100, "--top", 1)
    assert f"wide promoter bin {place} from {4 * (place - BINS)} bp" in said.stdout
    assert "ridge@wide: only boosted trees" in said.stderr
    assert (pd.read_parquet(one["path"])["n"] == 100).all()
    written = _call("report", runs)
    assert written.exit_code == 0, written.stderr
    page = (runs / "report.html").read_text()
    assert "Where the signal lies" in page
    assert f"wide · most in promoter, from {4 * (place - BINS)} bp" in page


def test_what_the_bins_give_adds_up_to_the_predictions_of_the_run(explained):
    """Signed sums over bins differ from the predictions by the base of each fold: one number a fold."""
    store, runs = explained
    (path,) = runs.glob("*xgboost*")
    trained = TrainedRun(path)
    opened = featurestore.open(store)
    batch, fold = _tested(trained, opened)
    predictions = pd.read_parquet(path / "predictions.parquet").set_index("gene")
    for one in trained.folds:
        here = batch.take(np.flatnonzero(fold == one))
        assert set(predictions.loc[here.gene, "fold"]) == {one}  # genes that this model never saw
        for part in trained.learner(one).contributions(here):
            expected = predictions.loc[here.gene[part.index], "y_pred"].to_numpy()
            found = part.values.sum(axis=1) + part.base
            assert np.allclose(found, expected, atol=1e-4)
            assert np.ptp(part.base) < 1e-5
    assert explain(trained, opened, genes=None)["n"].tolist() == [500] * 2 * BINS


def test_a_folder_without_trees_and_a_foreign_table_are_told(explained):
    store, runs = explained
    (ridge,) = runs.glob("*ridge*")
    found = _call("explain", ridge, "--store", store)
    assert found.exit_code == 2
    assert "only boosted trees have SHAP values" in found.stderr
    assert read_importance(ridge) is None
    foreign = ridge / FILE
    pd.DataFrame({"target": ["y"], "feature": [3]}).to_parquet(foreign)
    try:
        with pytest.raises(InputError, match="lacks the columns region, bin"):
            read_importance(ridge)
    finally:
        foreign.unlink()
