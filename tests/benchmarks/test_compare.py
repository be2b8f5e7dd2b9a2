"""Comparison and leaderboard, on runs whose scores are known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy import stats as sps
from sklearn.metrics import r2_score

from benchmarks.scores.compare import compare
from benchmarks.scores.leaderboard import leaderboard, render_text
from benchmarks.scores.methods import group_runs
from featurestore.errors import InputError, UnknownNameError
from tests.builders.runs import population, predictions_of, write_benchmark, write_run

PAIR = (("xgboost", "kmer", 0.40, {}), ("ridge", "kmer", 0.20, {}))


@pytest.fixture(scope="module")
def five_by_five(tmp_path_factory):
    """Two methods of clearly different skill and an equal of the better one, 5 × 5."""
    methods = (*PAIR, ("lightgbm", "kmer", 0.40, {}))
    folder = tmp_path_factory.mktemp("five")
    return write_benchmark(folder, seeds=5, n_genes=900, methods=methods)


def row_of(pairs, a, b):
    found = pairs[(pairs["method_a"] == a) & (pairs["method_b"] == b)]
    assert len(found) == 1
    return found.iloc[0]


def test_a_real_lead_is_claimed_and_a_tie_is_not(five_by_five):
    pairs = compare(five_by_five, bootstrap=200).pairs
    assert len(pairs) == 3
    lead = pairs[(pairs["method_b"] == "ridge@kmer") & (pairs["method_a"] == "xgboost@kmer")].iloc[
        0
    ]
    assert lead["claim"]
    assert lead["better"] == "xgboost@kmer"
    assert lead["ci_low"] > 0
    assert (lead["n_repeats"], lead["n_folds"], lead["df"]) == (5, 5, 24)
    tie = pairs[~pairs["method_a"].eq("ridge@kmer") & ~pairs["method_b"].eq("ridge@kmer")].iloc[0]
    assert not tie["claim"]
    assert tie["verdict"] == "no difference shown"


def test_numbers_of_a_pair_are_those_of_a_calculation_by_hand(five_by_five):
    by_label: dict[str, list] = {}
    for run in five_by_five:
        by_label.setdefault(run.label, []).append(run)
    scores = {
        label: np.array([
            r2_score(part["y_true"], part["y_pred"])
            for run in runs for _, part in run.predictions.groupby("fold")
        ])
        for label, runs in by_label.items()
    }  # fmt: skip
    d = scores["xgboost@kmer"] - scores["ridge@kmer"]
    n_train, n_test = 648, 180  # of the run files: 72 % and a fifth of 900
    t = d.mean() / np.sqrt((1 / 25 + n_test / n_train) * d.var(ddof=1))
    row = row_of(compare(five_by_five, bootstrap=50).pairs, "xgboost@kmer", "ridge@kmer")
    assert row["mean_difference"] == pytest.approx(d.mean())
    assert row["t"] == pytest.approx(t)
    assert row["p_value"] == pytest.approx(2 * sps.t.sf(abs(t), 24))
    pooled = [
        np.mean([r2_score(r.predictions["y_true"], r.predictions["y_pred"]) for r in by_label[m]])
        for m in ("xgboost@kmer", "ridge@kmer")
    ]
    assert row["pooled_difference"] == pytest.approx(pooled[0] - pooled[1])


def test_for_errors_lower_is_better(five_by_five):
    pairs = compare(five_by_five, metric="rmse", baseline="ridge@kmer", bootstrap=50).pairs
    assert set(pairs["method_b"]) == {"ridge@kmer"}
    assert (pairs["mean_difference"] < 0).all()
    assert set(pairs["better"]) == {"xgboost@kmer", "lightgbm@kmer"}
    assert set(pairs["unit"]) == {"log10(1+TPM)"}


def test_fewer_repeats_are_descriptive_in_words(tmp_path):
    runs = write_benchmark(tmp_path, seeds=3, methods=PAIR)
    found = compare(runs, bootstrap=50)
    assert not found.pairs["claim"].any()
    assert found.pairs["verdict"].iloc[0].startswith("descriptive: 3 × 5")
    text = found.render_text()
    assert "Descriptive: 3 repeats × 5 folds" in text
    assert "better" not in text.splitlines()[-1]


def test_other_seeds_on_the_same_folds_are_no_repeats(tmp_path):
    """Leave-one-species-out is one partition, however many seeds it is fitted with."""
    genes = population(300)
    runs = []
    for learner, r2 in (("xgboost", 0.4), ("ridge", 0.2)):
        for seed in range(5):
            table = predictions_of(genes, r2=r2, seed=0, noise_seed=seed + int(100 * r2))
            runs.append(
                write_run(tmp_path, learner, seed=seed, genes=genes,
                          predictions=table.assign(repeat=seed))
            )  # fmt: skip
    row = compare(runs, bootstrap=50).pairs.iloc[0]
    assert row["n_repeats"] == 1
    assert row["verdict"].startswith("descriptive")


def test_folds_of_other_genes_are_not_paired(tmp_path):
    genes = population(300)
    a = write_run(tmp_path, "ridge", genes=genes)
    other = predictions_of(genes, r2=0.3, seed=9).assign(repeat=0)
    b = write_run(tmp_path, "knn", genes=genes, predictions=other, split_digest="e" * 64)
    row = compare([a, b], bootstrap=20).pairs.iloc[0]
    assert row["status"] == "missing"
    assert "folds hold other genes" in row["verdict"]
    assert np.isnan(row["mean_difference"])


@pytest.mark.parametrize(
    "other",
    [{"labels": "a" * 64}, {"target": "max"}, {"split": "leave-one-species-out"}, {"task": "x"}],
)
def test_what_may_not_be_compared_stands_in_groups_of_its_own(tmp_path, other):
    runs = [write_run(tmp_path, "ridge"), write_run(tmp_path, "knn", **other)]
    assert len(group_runs(runs)) == 2
    found = compare(runs, bootstrap=20)
    assert found.pairs.empty
    assert "Nothing to compare" in found.render_text()


def test_observed_values_that_differ_are_refused(tmp_path):
    genes = population(200)
    a = write_run(tmp_path, "ridge", genes=genes)
    b = write_run(tmp_path, "knn", genes=genes.assign(y_true=genes["y_true"] + 1))
    with pytest.raises(InputError, match="observed values"):
        compare([a, b], bootstrap=20)


def test_genes_of_one_method_only_are_left_out_and_counted(tmp_path):
    genes = population(300)
    table = predictions_of(genes, r2=0.3)
    a = write_run(tmp_path, "ridge", genes=genes, predictions=table)
    b = write_run(tmp_path, "knn", genes=genes, predictions=table.iloc[10:].assign(y_pred=1.0))
    row = compare([a, b], bootstrap=20).pairs.iloc[0]
    assert row["n_genes"] == 290
    assert "10 predictions stand in one of the two only" in row["note"]


def test_failed_and_missing_runs_are_rows(tmp_path):
    runs = write_benchmark(tmp_path, seeds=2, n_genes=200, methods=PAIR)
    runs = runs[:-1]  # ridge lacks seed 1
    runs.append(write_run(tmp_path, "deepcre", "onehot", failed="out of memory"))
    board = leaderboard(runs, bootstrap=20)
    gaps = board[board["status"] == "missing"]
    assert set(gaps["features"]) == {"kmer"}, "a feature of one learner is no shared column"
    runs.append(write_run(tmp_path, "knn", "onehot", failed="out of memory"))
    board = leaderboard(runs, bootstrap=20)
    status = board.set_index("method")["status"].to_dict()
    assert status["deepcre@onehot"] == "failed: MemoryError: out of memory"
    assert status["ridge@onehot"] == status["xgboost@onehot"] == "missing"
    assert board.set_index("method")["note"]["ridge@kmer"] == "seed 1 missing"
    scores = [name for name in board if name.startswith(("r2", "pearson", "rmse"))]
    gone = board[board["status"] != "ok"]
    assert gone[scores].isna().all().all()
    text = render_text(board)
    assert "failed: MemoryError: out of memory" in text
    assert "missing (never run): " in text
    pairs = compare(runs, bootstrap=20).pairs
    failed = pairs[pairs["status"] == "failed"]
    assert len(failed) >= 2
    assert failed["verdict"].str.contains("no finished run of (?:deepcre|knn)@onehot").all()
    assert failed["mean_difference"].isna().all()


def test_one_learner_with_two_parameters_is_two_methods(tmp_path):
    runs = [
        write_run(tmp_path, "ridge", params={"alpha": a, "scale": True}, r2=r2)
        for a, r2 in ((1.0, 0.2), (10.0, 0.3))
    ]
    labels = [method.label for method in group_runs(runs)[0].methods]
    assert labels == ["ridge@kmer (alpha=1.0)", "ridge@kmer (alpha=10.0)"]
    assert len(compare(runs, bootstrap=20).pairs) == 1


def test_seeds_run_under_two_versions_are_two_methods(tmp_path):
    genes = population(100)
    runs = [
        write_run(tmp_path, seed=seed, versions={"xgboost": version}, genes=genes, bootstrap=0)
        for version in ("3.1", "3.2")
        for seed in range(3)
    ]
    methods = group_runs(runs)[0].methods
    assert [len(method.runs) for method in methods] == [3, 3]
    for method in methods:
        assert len({run.identity["versions"]["xgboost"] for run in method.runs}) == 1
        assert method.label == f"ridge@kmer [{method.runs[0].run['identity_digest'][:8]}]"


def test_features_of_other_content_are_another_method_of_one_group(tmp_path):
    runs = [
        write_run(tmp_path, "ridge", seed=seed, store={"digest": digit * 64}, r2=r2)
        for seed, digit, r2 in ((0, "a", 0.2), (1, "b", 0.3))
    ]
    (group,) = group_runs(runs)
    labels = [method.label for method in group.methods]
    assert labels == ["ridge@kmer (store=aaaaaaaa)", "ridge@kmer (store=bbbbbbbb)"]


def test_unknown_names_are_told(five_by_five):
    with pytest.raises(UnknownNameError, match="Did you mean 'ridge@kmer'"):
        compare(five_by_five, baseline="rigde@kmer")
    with pytest.raises(UnknownNameError, match="metric 'r3'"):
        compare(five_by_five, metric="r3")
    with pytest.raises(InputError, match="no runs"):
        compare([])


def test_json_is_valid_and_undefined_is_null(tmp_path):
    runs = [write_run(tmp_path, "ridge"), write_run(tmp_path, "knn", failed="gone")]
    told = json.loads(compare(runs, bootstrap=20).to_json(), parse_constant=pytest.fail)
    assert told["pairs"][0]["mean_difference"] is None
    assert told["claim_needs"] == {"repeats": 5, "folds": 5}


def test_leaderboard_is_the_mean_over_repeats_best_first(tmp_path):
    genes = population(400)
    extra = (("family_mean", "", 0.05, {"control": True}),)
    runs = write_benchmark(
        tmp_path, seeds=3, n_genes=400, methods=(*PAIR[::-1], *extra), leakage=True
    )
    runs.append(
        write_run(tmp_path, "ridge", "pc", r2=0.6, genes=genes, contamination={"pc": ["sim_alba"]})
    )
    board = leaderboard(runs, bootstrap=100)
    ok = board[board["status"] == "ok"]
    assert list(ok["method"]) == ["ridge@pc", "xgboost@kmer", "ridge@kmer", "family_mean"]
    row = ok.set_index("method").loc["xgboost@kmer"]
    mine = [run for run in runs if run.label == "xgboost@kmer"]
    expected = [r2_score(r.predictions["y_true"], r.predictions["y_pred"]) for r in mine]
    assert row["r2"] == pytest.approx(np.mean(expected))
    assert row["r2_low"] < row["r2"] < row["r2_high"]
    folds = [
        r2_score(part["y_true"], part["y_pred"])
        for run in mine for _, part in run.predictions.groupby("fold")
    ]  # fmt: skip
    assert row["r2_fold_sd"] == pytest.approx(np.std(folds, ddof=1))
    assert (row["n_genes"], row["n_families"], row["n_repeats"], row["n_folds"]) == (400, 134, 3, 5)
    assert row["leakage"] == "allowed"
    assert ok.set_index("method")["contaminated"]["ridge@pc"] == "sim_alba"
    text = render_text(board)
    assert "leakage allowed" in text
    assert "SIMULATED DATA" in text
    assert "pre-trained on sim_alba" in text


def test_leaderboard_sorts_by_error_lowest_first(tmp_path):
    runs = write_benchmark(tmp_path, seeds=1, n_genes=200, methods=PAIR)
    board = leaderboard(runs, sort_by="rmse")
    assert board["rmse"].is_monotonic_increasing
    with pytest.raises(UnknownNameError, match="score"):
        leaderboard(runs, sort_by="r")
