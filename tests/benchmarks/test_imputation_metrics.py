"""Metrics of imputation against pandas and scipy row by row; intervals against resampled rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmarks.imputation.conformal import Calibration, calibrate, scale_of
from benchmarks.imputation.hiding import correlations, tissue_groups
from benchmarks.imputation.metrics import evaluate, wider
from benchmarks.imputation.sums import ranks_within

UNIT = "log2(1+TPM)"
REFERENCES = ("nearest_gene", "range_mean", "inverse_distance")


def predictions(genes=40, tissues=7, seed=0, masks=("whole-profile", "entries-20")):
    rng = np.random.default_rng(seed)
    parts = []
    for mask in masks:
        level = rng.normal(5, 2, genes)
        y = level[:, None] + rng.normal(0, 1, (genes, tissues)).round(1)
        frame = pd.DataFrame(
            {
                "gene": np.repeat([f"g{i}" for i in range(genes)], tissues),
                "species": "plant",
                "family": np.repeat([f"F{i // 3}" for i in range(genes)], tissues),
                "contig": np.repeat([f"chr{i % 4}" for i in range(genes)], tissues),
                "sample": np.tile([f"t{i}" for i in range(tissues)], genes),
                "mask": mask, "repeat": 0, "fold": np.repeat(np.arange(genes) % 5, tissues),
                "y_true": y.ravel(), "tandem": np.repeat(np.arange(genes) % 6 == 0, tissues),
                "distance": 1.0,
            }
        )  # fmt: skip
        frame["y_pred"] = (0.6 * y + rng.normal(2, 1, y.shape)).ravel()
        for i, name in enumerate(REFERENCES):
            frame[name] = (0.3 * y + rng.normal(3, 1 + 0.2 * i, y.shape)).ravel()
        frame["y_low"], frame["y_high"] = frame["y_pred"] - 1.5, frame["y_pred"] + 1.7
        if mask != "whole-profile":
            frame = frame.sample(frac=0.6, random_state=1)
        parts.append(frame)
    table = pd.concat(parts, ignore_index=True)
    table.loc[(table["gene"] == "g3"), "y_true"] = 2.0  # a profile that is the same everywhere
    table.loc[(table["gene"] == "g4"), "y_pred"] = 4.0  # and a prediction that is
    return table


def by_hand(part):
    """Every metric of a scope by groups of pandas and functions of scipy."""
    y, p = part["y_true"], part["y_pred"]
    found = {
        "mse": ((y - p) ** 2).mean(), "mae": (y - p).abs().mean(),
        "rmse": np.sqrt(((y - p) ** 2).mean()),
        "r2": 1 - ((y - p) ** 2).sum() / ((y - y.mean()) ** 2).sum(),
        "pearson": stats.pearsonr(y, p)[0], "spearman": stats.spearmanr(y, p)[0],
        "coverage_90": ((y >= part["y_low"]) & (y <= part["y_high"])).mean(),
        "width_90": (part["y_high"] - part["y_low"]).mean(),
    }  # fmt: skip

    def profiles(column, function):
        out = {}
        for gene, one in part.groupby("gene"):
            if len(one) >= 3 and one["y_true"].nunique() > 1:
                flat = one[column].nunique() == 1
                out[gene] = 0.0 if flat else function(one["y_true"], one[column])[0]
        return pd.Series(out)

    r = profiles("y_pred", stats.pearsonr)
    found["profile_pearson"] = r.mean()
    found["profile_spearman"] = profiles("y_pred", stats.spearmanr).mean()
    found["profile_above_0.8"] = (r > 0.8).mean()
    errors = {name: ((y - part[name]) ** 2).mean() for name in REFERENCES}
    gains = {name: profiles(name, stats.pearsonr).mean() for name in REFERENCES}
    best = min(errors, key=errors.get), max(gains, key=gains.get)
    for name in (*REFERENCES, "best_distance"):
        error = errors[best[0] if name == "best_distance" else name]
        gain = gains[best[1] if name == "best_distance" else name]
        found[f"improvement_mse/{name}"] = 1 - found["mse"] / error
        found[f"improvement_rmse/{name}"] = 1 - found["rmse"] / np.sqrt(error)
        found[f"improvement_profile/{name}"] = r.mean() / gain - 1
    return found, len(r)


def test_every_metric_agrees_with_pandas_and_scipy():
    table = predictions()
    metrics = evaluate(table, unit=UNIT, bootstrap=0).set_index(["scope", "metric"])
    for mask, whole in table.groupby("mask"):
        for scope, part in (("", whole), ("/no-tandem", whole[~whole["tandem"]])):
            wanted, profiles = by_hand(part)
            found = metrics.loc[f"mask:{mask}{scope}"]
            assert set(found.index) == set(wanted)
            for name, value in wanted.items():
                assert found.loc[name, "value"] == pytest.approx(value, rel=1e-9), (
                    mask,
                    scope,
                    name,
                )
            assert found.loc["profile_pearson", "n"] == profiles
            assert found.loc["mse", "n"] == len(part)
            assert found.loc["mse", "n_families"] == part["family"].nunique()
            assert found.loc["mse", "unit"] == UNIT
            assert found.loc["pearson", "unit"] == "1"
        for tissue, part in whole.groupby("sample"):
            found = metrics.loc[f"mask:{mask}/tissue:{tissue}"]["value"]
            wanted, _ = by_hand(part.assign(gene="one"))
            assert set(found.index) == {"pearson", "spearman", "r2", "mse", "rmse", "mae"}
            for name in found.index:
                assert found[name] == pytest.approx(wanted[name], rel=1e-9)
        for fold, part in whole.groupby("fold"):
            found = metrics.loc[f"mask:{mask}/repeat:0/fold:{fold}"]["value"]
            assert found["mse"] == pytest.approx(((part["y_true"] - part["y_pred"]) ** 2).mean())


def test_intervals_are_those_of_resampled_rows():
    table = predictions(genes=60, masks=("whole-profile",))
    metrics = evaluate(table, unit=UNIT, bootstrap=2000).set_index(["scope", "metric"])
    rng = np.random.default_rng(5)
    wanted = {}
    for cluster in ("family", "contig"):
        groups = [part for _, part in table.groupby(cluster)]
        drawn = []
        for _ in range(400):
            picks = rng.integers(0, len(groups), len(groups))
            part = pd.concat([groups[i] for i in picks])
            error = ((part["y_true"] - part["y_pred"]) ** 2).mean()
            other = ((part["y_true"] - part["inverse_distance"]) ** 2).mean()
            drawn.append((error, 1 - error / other))
        wanted[cluster] = np.percentile(drawn, [2.5, 97.5], axis=0)
    for i, name in enumerate(("mse", "improvement_mse/inverse_distance")):
        low, high = wider([tuple(bounds[:, i]) for bounds in wanted.values()])
        row = metrics.loc[("mask:whole-profile", name)]
        width = high - low
        assert row["ci_low"] == pytest.approx(low, abs=0.25 * width)
        assert row["ci_high"] == pytest.approx(high, abs=0.25 * width)


def test_without_references_or_intervals_their_metrics_are_not_there():
    table = predictions(masks=("block",)).drop(columns=list(REFERENCES)).assign(y_low=np.nan)
    metrics = set(evaluate(table, unit=UNIT, bootstrap=0)["metric"])
    assert not any(name.startswith(("improvement", "coverage", "width")) for name in metrics)


def test_ranks_within_profiles_are_those_of_scipy():
    rng = np.random.default_rng(0)
    profile = rng.integers(0, 9, 200)
    values = rng.integers(0, 6, 200).astype(float)
    found = ranks_within(profile, values)
    for one in range(9):
        assert found[profile == one] == pytest.approx(stats.rankdata(values[profile == one]))


def test_conformal_intervals_hold_on_other_rows_of_the_same_kind():
    rng = np.random.default_rng(2)

    def draw(n):
        predicted = rng.uniform(0, 10, (n, 5))
        noise = np.array([0.2, 0.5, 1, 2, 4]) * (0.3 + predicted / 10)
        return predicted, predicted + noise * rng.standard_t(4, (n, 5))

    predicted, value = draw(2000)
    scale = scale_of(predicted, value, np.ones(value.shape, bool))
    calibration = Calibration.from_facts(Calibration({"some": scale}).facts())
    predicted, value = draw(4000)
    reach = calibration.reach(predicted, "some")
    inside = np.abs(value - predicted) <= reach
    assert inside.mean() == pytest.approx(0.9, abs=0.02)
    assert inside.mean(axis=0) == pytest.approx(np.full(5, 0.9), abs=0.03)
    for level in np.array_split(np.argsort(predicted.ravel()), 5):
        assert inside.ravel()[level].mean() == pytest.approx(0.9, abs=0.04)
    assert np.isnan(calibration.reach(predicted, "none")).all()


def test_too_few_entries_give_no_bound():
    predicted = np.zeros((1, 4))
    scale = scale_of(predicted, predicted + 1, np.ones((1, 4), bool))
    assert scale.quantile == np.inf


def test_a_learner_without_held_out_predictions_has_no_interval():
    value, mask = np.zeros((3, 2)), np.array(["a", "a", "b"], object)
    assert calibrate(object(), value, np.isfinite(value), mask) is None

    class Odd:
        held_out = np.zeros((2, 2))

    with pytest.raises(ValueError, match=r"\(2, 2\) where the validation rows have \(3, 2\)"):
        calibrate(Odd(), value, np.isfinite(value), mask)


def test_groups_of_tissues_are_those_that_go_together():
    rng = np.random.default_rng(4)
    factor = rng.normal(0, 1, (500, 3))
    value = np.repeat(factor, 5, axis=1) + rng.normal(0, 0.4, (500, 15))
    order = rng.permutation(15)
    names = [f"t{i:02d}" for i in range(15)]
    holes = value.copy()
    holes[rng.random(value.shape) < 0.2] = np.nan
    groups = tissue_groups(holes[:, order], [names[i] for i in order])
    of = dict(zip(order.tolist(), groups.tolist(), strict=True))
    assert [of[i] for i in range(15)] == [0] * 5 + [1] * 5 + [2] * 5
    frame = pd.DataFrame(holes)
    assert correlations(holes) == pytest.approx(frame.corr().to_numpy(), abs=0.02)


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """Runs of two methods on a simulated table, one of them a simple method that wins."""
    import sys
    from io import StringIO

    from benchmarks.runs.plans import RunOptions
    from benchmarks.runs.progress import Progress
    from benchmarks.runs.runner import run
    from tests.benchmarks.conftest import FAKES
    from tests.builders.tables import build_table, simulated_table

    folder = tmp_path_factory.mktemp("two")
    names, contig, tss, strand, log = simulated_table(90)
    store = build_table(folder, names, contig, tss, strand, 2**log - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        learners = ["imputing_fakes:TissueMean", "imputing_fakes:Worse", "imputing_fakes:Fails"]
        masks = ("whole-profile", "entries-20", "low-expression")
        options = RunOptions(
            learners, task="imputation", masks=masks, out=folder / "runs", bootstrap=200
        )
        run(store, options, Progress(0, StringIO()))
        sys.modules.pop("imputing_fakes")
    return folder / "runs"


def test_methods_are_ranked_and_compared_mask_by_mask(two_runs):
    from benchmarks.runs.files import read_runs
    from benchmarks.scores.compare import compare
    from benchmarks.scores.leaderboard import leaderboard, render_text

    runs = read_runs(two_runs)
    board = leaderboard(runs)
    tables = {run.label: run.predictions for run in runs if run.predictions is not None}
    ok = board[board["status"] == "ok"]
    assert len(ok) == 6
    for row in ok.to_dict(orient="records"):
        part = tables[row["method"]]
        part = part[part["mask"] == row["mask"]]
        assert row["mse"] == pytest.approx(
            ((part["y_true"] - part["y_pred"]) ** 2).mean(), rel=1e-6
        )
        assert row["mse_low"] < row["mse"] < row["mse_high"]
    for _, rows in ok.groupby("mask"):
        assert rows["method"].tolist() == ["fake_tissue_mean", "fake_worse"]
    assert board.loc[board["status"] != "ok", "status"].tolist() == ["failed: RuntimeError: always"]
    text = render_text(board)
    assert "mask low-expression" in text
    assert "SIMULATED" in text
    pairs = compare(runs, metric="mse", bootstrap=300).pairs
    fine = pairs[pairs["status"] == "ok"]
    assert len(fine) == 3
    for row in fine.to_dict(orient="records"):
        mask = row["split"].rpartition(" ")[2]
        a, b = (
            tables[row[name]][tables[row[name]]["mask"] == mask]
            for name in ("method_a", "method_b")
        )
        errors = [((one["y_true"] - one["y_pred"]) ** 2).mean() for one in (a, b)]
        assert row["pooled_difference"] == pytest.approx(errors[0] - errors[1], rel=1e-5)
        assert row["ci_low"] < row["pooled_difference"] < row["ci_high"] < 0
        assert row["verdict"].endswith("interval excludes zero")
        assert row["better"] == "fake_tissue_mean"
    assert set(pairs.loc[pairs["status"] != "ok", "status"]) == {"failed"}


def test_the_report_shows_masks_gains_and_failures(two_runs, monkeypatch):
    from benchmarks.report import imputation
    from benchmarks.report.html import render_report
    from benchmarks.runs.files import read_runs

    runs = read_runs(two_runs)
    page = render_report(runs, bootstrap=50)
    for told in (
        "Masks × methods", "Over the distance-based methods", "Do the intervals hold?", "Examples",
        "On whole-profile, fake_tissue_mean has the least error", "RuntimeError: always",
        "Error against distance to the nearest reference gene", "Tissue by tissue",
        "simulated data",
    ):  # fmt: skip
        assert told in page, told
    assert "a simple method wins" not in page
    monkeypatch.setattr(imputation, "SIMPLE", frozenset({"fake_tissue_mean"}))
    assert "whole-profile: a simple method wins, fake_tissue_mean" in render_report(
        runs, bootstrap=50
    )


def test_tables_for_docs_say_what_the_predictions_say(two_runs, capsys):
    from benchmarks.report.imputation_tables import main
    from benchmarks.runs.files import read_runs

    main([str(two_runs), "--method", "fake_tissue_mean", "--bootstrap", "100"])
    rows = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in capsys.readouterr().out.splitlines() if line.startswith("| ")
    ]  # fmt: skip
    mine, other = (
        next(r.predictions for r in read_runs(two_runs) if r.label == label)
        for label in ("fake_tissue_mean", "fake_worse")
    )
    head, columns = rows[0], {row[0]: row for row in rows}
    for mask in ("whole-profile", "entries-20", "low-expression"):
        errors = {}
        for name, table in (("mine", mine), ("other", other)):
            part = table[table["mask"] == mask]
            errors[name] = ((part["y_true"] - part["y_pred"]) ** 2).mean()
        at = head.index(f"`{mask}`")
        assert columns["`fake_tissue_mean`"][at] == f"{errors['mine']:.3f}"
        said = f"{errors['other']:.3f} ({errors['mine'] - errors['other']:+.3f}, -"
        assert columns["`fake_worse`"][at].startswith(said)
        assert columns["`fake_worse`"][at].endswith(")")
        assert "*" not in columns["`fake_worse`"][at]
        part = mine[mine["mask"] == mask]
        far = ((part["y_true"] - part["range_mean"]) ** 2).mean()
        (row,) = [row for row in rows if row[:2] == [f"`{mask}`", "`range_mean`"]]
        assert row[2].startswith(f"{100 * (1 - errors['mine'] / far):.0f} (")
        assert row[3].startswith(f"{100 * (1 - (errors['mine'] / far) ** 0.5):.0f} (")
