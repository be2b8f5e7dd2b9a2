"""Learners of learners in runs: named on the command line, told in run.json, told apart in tables."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.runs.asked import Asked, read_learner
from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from benchmarks.scores.leaderboard import leaderboard
from benchmarks.scores.methods import group_runs
from featurestore.errors import InputError
from learners.base import Budget
from learners.registry import get_learner


def options(tmp_path: Path, *learners: str, **changes) -> RunOptions:
    changes.setdefault("split", "families-3fold")
    changes.setdefault("budget", Budget(threads=1))
    return RunOptions(learners, out=tmp_path / "runs", bootstrap=10, **changes)


def quiet() -> Progress:
    return Progress(0, StringIO())


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("ridge", Asked("ridge", None, None)),
        ("ridge@pc+a2z:pooled", Asked("ridge", "pc+a2z:pooled", None)),
        ("stack(ridge@a, knn@b)", Asked("stack", None, "ridge@a, knn@b")),
        ("stack(ridge,knn)@a+b", Asked("stack", "a+b", "ridge,knn")),
    ],
    ids=["plain", "features", "members", "both"],
)
def test_a_learner_as_it_is_asked_for(text, found):
    assert read_learner(text) == found


def test_a_stack_runs_and_tells_its_weights(fakes, tmp_path):
    store = fakes.make_store()
    asked = "stack(ridge@kmer,knn@kmer:pooled,species_mean)"
    (outcome,) = run(store, options(tmp_path, asked), quiet())
    assert outcome.state == "ok", outcome.error
    result = read_run(outcome.path)
    assert result.identity["features"] == "kmer+kmer:pooled"
    assert result.identity["learner"]["params"]["of"] == "ridge@kmer,knn@kmer:pooled,species_mean"
    told = "stack@kmer+kmer:pooled (of ridge@kmer, knn@kmer:pooled, species_mean)"
    assert result.label == outcome.label == told
    for fold in result.run["folds"]:
        learned = fold["learned"]
        assert [one["member"] for one in learned["members"]] == [
            "ridge@kmer", "knn@kmer:pooled", "species_mean",
        ]  # fmt: skip
        assert all(w >= 0 for one in learned["members"] for w in one["weight"])
        assert learned["rmse"] <= min(one["rmse"] for one in learned["members"]) + 1e-9
    # What is saved predicts what was predicted.
    predictions = result.predictions
    fold = predictions[predictions["fold"] == 0]
    model = get_learner("stack").load(outcome.path / "model" / "0-0")
    from benchmarks.runs.runner import plan_runs

    (plan,) = plan_runs(store, options(tmp_path, asked))
    row = {g: i for i, g in enumerate(plan.data.batch.gene)}
    rows = np.array([row[g] for g in fold["gene"]], np.int64)
    again = model.predict(plan.data.batch.take(rows).without_targets())[:, 0]
    np.testing.assert_allclose(fold["y_pred"], again, rtol=1e-12)


def test_stacks_of_other_members_are_other_methods(fakes, tmp_path):
    store = fakes.make_store()
    asked = ["stack(ridge,knn)@kmer", "stack(ridge,species_mean)@kmer", "ridge@kmer"]
    outcomes = run(store, options(tmp_path, *asked), quiet())
    assert [o.state for o in outcomes] == ["ok"] * 3
    runs = [read_run(o.path) for o in outcomes]
    (group,) = group_runs(runs)
    labels = [
        "ridge@kmer",
        "stack@kmer (of ridge@kmer, knn@kmer)",
        "stack@kmer (of ridge@kmer, species_mean)",
    ]
    assert [m.label for m in group.methods] == labels
    board = leaderboard(runs, bootstrap=10)
    assert sorted(board["method"]) == labels
    # The same, asked for by a parameter.
    (again,) = run(
        store,
        options(tmp_path, "stack", features="kmer", params=['stack.of=["ridge", "knn"]']),
        quiet(),
    )
    assert (again.state, again.path) == ("already there", outcomes[0].path)


def test_members_take_the_features_that_suit_them(fakes, tmp_path):
    store = fakes.make_store(60, families=20)
    (outcome,) = run(store, options(tmp_path, "stack(ridge,knn@onehot)"), quiet())
    assert outcome.label == "stack@kmer+onehot (of ridge@kmer, knn@onehot)"


def test_mistakes_are_told_before_anything_is_fitted(fakes, tmp_path):
    store = fakes.make_store(60, families=20)
    for learners, told in [
        (["ridge(knn)"], "not made of other learners"),
        (["stack(ridge@kmer,knn@kmr)"], "kmr"),
        (["stack(ridge@kmer,onehot_cnn@kmer)"], "onehot_cnn takes codes"),
        (["stack(ridg@kmer)"], "ridg"),
        (["stack(bench_fakes:Linear@kmer)"], "must be registered"),
        (["stack()"], "not of the form"),
    ]:
        with pytest.raises(InputError, match=told):
            run(store, options(tmp_path, *learners), quiet())
    assert not (tmp_path / "runs").exists()


def test_several_targets_are_stacked_together(fakes, tmp_path):
    store = fakes.make_store(90, families=30)
    asked = options(
        tmp_path,
        "stack(ridge,hist_gradient_boosting)@kmer",
        target="each",
        params=["stack.folds=2"],
    )
    (outcome,) = run(store, asked, quiet())
    assert outcome.state == "ok", outcome.error
    result = read_run(outcome.path)
    assert len(result.run["folds"][0]["learned"]["intercept"]) == 3
    assert isinstance(result.predictions, pd.DataFrame)
    assert result.predictions["y_pred"].notna().all()
