"""Metrics against scipy and scikit-learn, intervals against resampling whole families by hand."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest
from scipy import stats as sps
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from benchmarks.runs.files import METRIC_COLUMNS
from benchmarks.scores.metrics import METRICS, evaluate
from benchmarks.scores.stats import family_weights
from featurestore.errors import InputError
from tests.builders.runs import population, predictions_of

UNIT = "log10(1+TPM)"


def by_library(y, p) -> dict[str, float]:
    return {
        "pearson": sps.pearsonr(y, p).statistic,
        "spearman": sps.spearmanr(y, p).statistic,
        "r2": r2_score(y, p),
        "mse": mean_squared_error(y, p),
        "rmse": mean_squared_error(y, p) ** 0.5,
        "mae": mean_absolute_error(y, p),
    }


def scope(table: pd.DataFrame, name: str, column: str = "value") -> dict[str, float]:
    rows = table[table["scope"] == name]
    assert list(rows["metric"]) == list(METRICS), name
    return dict(zip(rows["metric"], rows[column], strict=True))


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    return predictions_of(population(400), r2=0.3)


def test_every_scope_matches_scipy_and_sklearn(predictions):
    table = evaluate(predictions, unit=UNIT, bootstrap=0)
    assert tuple(table.columns) == METRIC_COLUMNS
    assert scope(table, "pooled") == pytest.approx(
        by_library(predictions["y_true"], predictions["y_pred"]), abs=1e-12
    )
    per_species = []
    for name, part in predictions.groupby("species"):
        expected = by_library(part["y_true"], part["y_pred"])
        per_species.append(expected)
        assert scope(table, f"species:{name}") == pytest.approx(expected, abs=1e-12)
        counted = table[table["scope"] == f"species:{name}"].iloc[0]
        assert (counted["n"], counted["n_families"]) == (len(part), part["family"].nunique())
    mean = {m: np.mean([one[m] for one in per_species]) for m in METRICS}
    assert scope(table, "within-species") == pytest.approx(mean, abs=1e-12)
    for (repeat, fold), part in predictions.groupby(["repeat", "fold"]):
        expected = by_library(part["y_true"], part["y_pred"])
        assert scope(table, f"repeat:{repeat}/fold:{fold}") == pytest.approx(expected, abs=1e-12)


def test_errors_carry_the_unit_and_scores_none(predictions):
    table = evaluate(predictions, unit=UNIT, bootstrap=0)
    units = table.groupby("metric")["unit"].unique().map(list).to_dict()
    assert units == {
        "pearson": ["1"], "spearman": ["1"], "r2": ["1"],
        "mse": [UNIT], "rmse": [UNIT], "mae": [UNIT],
    }  # fmt: skip


def test_repeats_are_scored_each_and_averaged_not_ensembled():
    genes = population(300)
    parts = [predictions_of(genes, r2=0.3, seed=seed) for seed in range(3)]
    table = evaluate(pd.concat(parts), unit=UNIT, bootstrap=0)
    each = [by_library(part["y_true"], part["y_pred"]) for part in parts]
    expected = {m: np.mean([one[m] for one in each]) for m in METRICS}
    assert scope(table, "pooled") == pytest.approx(expected, abs=1e-12)
    assert set(scope(table, "pooled", "n").values()) == {300}
    ensemble = np.mean([part["y_pred"] for part in parts], axis=0)
    assert scope(table, "pooled")["r2"] < r2_score(genes["y_true"], ensemble) - 0.05


def test_constant_predictions_have_no_correlation_and_say_so(predictions):
    table = evaluate(predictions.assign(y_pred=1.0), unit=UNIT, bootstrap=50)
    pooled = scope(table, "pooled")
    assert np.isnan(pooled["pearson"])
    assert np.isnan(pooled["spearman"])
    assert pooled["r2"] == pytest.approx(r2_score(predictions["y_true"], np.ones(400)))
    low = scope(table, "pooled", "ci_low")
    assert np.isnan(low["pearson"])
    assert low["mse"] < pooled["mse"]
    assert len(table) == len(METRICS) * (2 + 2 + 5)  # nothing dropped


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e200])
def test_one_bad_prediction_spoils_its_scopes_only(predictions, bad):
    spoilt = predictions.copy()
    spoilt.loc[spoilt["species"] == "sim_alba", "y_pred"] = bad
    table = evaluate(spoilt, unit=UNIT, bootstrap=50)
    good = evaluate(predictions, unit=UNIT, bootstrap=50)
    assert not np.isfinite(scope(table, "within-species")["pearson"])
    assert scope(table, "species:sim_nigra") == scope(good, "species:sim_nigra")
    assert scope(table, "species:sim_nigra", "ci_low") == scope(good, "species:sim_nigra", "ci_low")
    assert np.isnan(scope(table, "pooled", "ci_low")["pearson"])


def test_genes_without_a_label_are_not_scored(predictions):
    holes = predictions.copy()
    holes.loc[::4, "y_true"] = np.nan
    table = evaluate(holes, unit=UNIT, bootstrap=0)
    kept = holes.dropna(subset="y_true")
    assert scope(table, "pooled") == pytest.approx(by_library(kept["y_true"], kept["y_pred"]))
    assert set(scope(table, "pooled", "n").values()) == {300}


def test_intervals_equal_resampling_families_by_hand(predictions):
    """Rows of each drawn family are really repeated and rescored by the libraries."""
    replicates, seed = 60, 7
    table = evaluate(predictions, unit=UNIT, bootstrap=replicates, seed=seed)
    families = sorted(predictions["family"].unique())
    (weights,) = family_weights(len(families), replicates, seed)
    of = predictions["family"].map({name: i for i, name in enumerate(families)}).to_numpy()
    scores = []
    for drawn in weights.astype(int):
        rows = predictions.iloc[np.repeat(np.arange(len(of)), drawn[of])]
        scores.append(by_library(rows["y_true"], rows["y_pred"]))
    for metric in ("pearson", "r2", "mse", "rmse", "mae"):
        low, high = np.percentile([one[metric] for one in scores], [2.5, 97.5])
        assert scope(table, "pooled", "ci_low")[metric] == pytest.approx(low, abs=1e-10)
        assert scope(table, "pooled", "ci_high")[metric] == pytest.approx(high, abs=1e-10)
    low, high = np.percentile([one["spearman"] for one in scores], [2.5, 97.5])
    width = (
        scope(table, "pooled", "ci_high")["spearman"] - scope(table, "pooled", "ci_low")["spearman"]
    )
    assert width == pytest.approx(high - low, rel=0.15)  # fixed ranks: about 4 % narrower


def test_intervals_within_species_and_of_folds_equal_resampling_by_hand(predictions):
    """Families that span species are drawn as a whole; a fold draws from its own."""
    replicates, seed = 40, 5
    table = evaluate(predictions, unit=UNIT, bootstrap=replicates, seed=seed)

    def drawn_rows(part):
        families = sorted(part["family"].unique())
        (weights,) = family_weights(len(families), replicates, seed)
        of = part["family"].map({name: i for i, name in enumerate(families)}).to_numpy()
        return [
            part.iloc[np.repeat(np.arange(len(of)), drawn[of])] for drawn in weights.astype(int)
        ]

    wanted = {}
    whole = drawn_rows(predictions)
    by_species = [
        [sps.pearsonr(one["y_true"], one["y_pred"]).statistic for _, one in rows.groupby("species")]
        for rows in whole
    ]
    wanted["within-species"] = np.mean(by_species, axis=1)
    for (repeat, fold), part in predictions.groupby(["repeat", "fold"]):
        wanted[f"repeat:{repeat}/fold:{fold}"] = [
            sps.pearsonr(rows["y_true"], rows["y_pred"]).statistic for rows in drawn_rows(part)
        ]
    assert len(wanted) == 6
    for name, values in wanted.items():
        low, high = np.percentile(values, [2.5, 97.5])
        assert scope(table, name, "ci_low")["pearson"] == pytest.approx(low, abs=1e-10)
        assert scope(table, name, "ci_high")["pearson"] == pytest.approx(high, abs=1e-10)


def test_family_intervals_are_wider_than_gene_intervals_where_families_agree():
    genes = population(600, per_family=20)
    table = predictions_of(genes, r2=0.3)
    table["y_pred"] = table.groupby("family")["y_pred"].transform("mean")
    families = evaluate(table, unit=UNIT, bootstrap=400)
    single = evaluate(table.assign(family=table["gene"]), unit=UNIT, bootstrap=400)

    def width(of):
        return scope(of, "pooled", "ci_high")["mse"] - scope(of, "pooled", "ci_low")["mse"]

    assert width(families) > 1.2 * width(single)


def test_missing_family_is_a_family_of_its_own(predictions):
    table = predictions.assign(family=predictions["family"].where(predictions["fold"] > 0))
    lonely = int((predictions["fold"] == 0).sum())
    rest = predictions.loc[predictions["fold"] > 0, "family"].nunique()
    counted = evaluate(table, unit=UNIT, bootstrap=0)
    assert set(scope(counted, "pooled", "n_families").values()) == {lonely + rest}


def test_several_targets_and_masks_have_scopes_of_their_own(predictions):
    both = pd.concat(
        [predictions.assign(target="tissue:leaf"), predictions.assign(target="tissue:root")]
    )
    table = evaluate(both, unit=UNIT, bootstrap=0)
    alone = evaluate(predictions, unit=UNIT, bootstrap=0)
    assert scope(table, "tissue:leaf") == scope(alone, "pooled")
    assert set(scope(table, "pooled", "n").values()) == {800}


def test_row_order_does_not_matter(predictions):
    shuffled = predictions.sample(frac=1, random_state=3)
    a = evaluate(predictions, unit=UNIT, bootstrap=40)
    b = evaluate(shuffled, unit=UNIT, bootstrap=40)
    pd.testing.assert_frame_equal(a, b, rtol=1e-9)


def test_wrong_tables_are_refused(predictions):
    with pytest.raises(InputError, match=r"lack the column.*family"):
        evaluate(predictions.drop(columns="family"), unit=UNIT)
    with pytest.raises(InputError, match="no prediction has a label"):
        evaluate(predictions.iloc[:0], unit=UNIT)


def test_thirty_thousand_genes_take_seconds():
    genes = population(30_000, per_family=4)
    table = predictions_of(genes, r2=0.3)
    start = time.process_time()
    evaluate(table, unit=UNIT, bootstrap=1000)
    assert time.process_time() - start < 15  # about 2 s of CPU on an idle core
