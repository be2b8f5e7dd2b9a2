"""Top against bottom quartile, held against scikit-learn fold by fold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks.runs.files import RunResult
from benchmarks.scores.quartiles import main, score_quartiles
from featurestore.errors import InputError


def a_run(predictions: pd.DataFrame, task: str = "expression") -> RunResult:
    identity = {"task": task, "seed": 3, "features": "kmer", "learner": {"name": "ridge"}}
    return RunResult(
        Path("runs/one"), {"status": "ok", "identity": identity}, predictions, None, None
    )


def genes(n: int, rng: np.random.Generator, species: str = "x", level: float = 0.0) -> pd.DataFrame:
    y = rng.normal(size=n) + level
    return pd.DataFrame({
        "gene": [f"{species}{i}" for i in range(n)], "species": species,
        "family": [f"f{i // 2}" if i % 10 else None for i in range(n)], "repeat": 0,
        "fold": rng.integers(0, 3, n), "y_true": y, "y_pred": y + 2 * rng.normal(size=n),
    })  # fmt: skip


def test_folds_are_judged_by_themselves_and_species_by_their_own_quartiles():
    rng = np.random.default_rng(0)
    table = pd.concat([genes(300, rng), genes(200, rng, "z", 9.0)], ignore_index=True)
    found = score_quartiles([a_run(table)], bootstrap=200)
    shifted = table.assign(y_pred=table["y_pred"] + 5.0 * table["fold"])
    again = score_quartiles([a_run(shifted)], bootstrap=0)
    assert np.allclose(found["value"], again["value"])
    assert again["ci_low"].isna().all()
    for species, own in table.groupby("species"):
        low, high = np.quantile(own["y_true"], (0.25, 0.75))
        told = own[(own["y_true"] <= low) | (own["y_true"] >= high)]
        areas, right = [], []
        for _, fold in told.groupby("fold"):
            top = fold["y_true"] >= high
            areas.append(roc_auc_score(top, fold["y_pred"]))
            above, below = (
                (fold["y_pred"] > fold["y_pred"].median()),
                (fold["y_pred"] < fold["y_pred"].median()),
            )
            right.append(np.where(above | below, above == top, 0.5).mean())
        rows = found[found["species"] == species].set_index("metric")
        assert rows.loc["auroc", "value"] == pytest.approx(np.mean(areas))
        assert rows.loc["accuracy", "value"] == pytest.approx(np.mean(right))
        assert (rows["ci_low"] < rows["value"]).all()
        assert (rows["value"] < rows["ci_high"]).all()
        assert rows["n"].tolist() == [len(told)] * 2


def test_constants_guess_and_what_is_no_number_has_no_score():
    table = genes(100, np.random.default_rng(1))
    flat = score_quartiles([a_run(table.assign(y_pred=1.0))], bootstrap=0)
    assert flat["value"].tolist() == pytest.approx([0.5, 0.5])
    broken = table.copy()
    broken.loc[broken["y_true"].idxmax(), "y_pred"] = np.nan
    assert score_quartiles([a_run(broken)], bootstrap=0)["value"].isna().all()


def test_what_has_no_quartiles_is_left_out(tmp_path):
    table = genes(50, np.random.default_rng(2))
    for run in (
        a_run(table, task="imputation"),
        a_run(table.assign(y_true=0.0)),
        a_run(table.assign(target="tissue:leaf")),
    ):
        with pytest.raises(InputError, match="has quartiles to tell"):
            score_quartiles([run])


def test_the_command_prints_a_line_for_each(monkeypatch, tmp_path):
    from click.testing import CliRunner

    table = genes(80, np.random.default_rng(3))
    monkeypatch.setattr("benchmarks.scores.quartiles.read_runs", lambda _: [a_run(table)])
    shown = CliRunner().invoke(main, [str(tmp_path), "--bootstrap", "50"])
    assert shown.exit_code == 0
    assert [line.split()[4] for line in shown.output.splitlines()] == ["auroc", "accuracy"]
    as_json = CliRunner().invoke(main, [str(tmp_path), "--bootstrap", "0", "--json"])
    assert '"metric":"auroc"' in as_json.output
