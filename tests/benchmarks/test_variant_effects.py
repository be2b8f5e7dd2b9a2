"""β between and within genes: every figure against statsmodels on the same table, nulls and planted truths."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.preprocessing import StandardScaler

from benchmarks.runs.schema import VARIANT_METRICS
from benchmarks.variant_effects.components import bic, choose, components
from benchmarks.variant_effects.fixed import absorbed, demean
from benchmarks.variant_effects.null import permuted
from benchmarks.variant_effects.observed import background, observe
from benchmarks.variant_effects.slope import slope
from benchmarks.variant_effects.table import variant_rows
from benchmarks.variant_effects.within import between_folds, ceiling, design, interval, within
from tests.builders.pairs import pair_table


def fitted(table: pd.DataFrame, columns: np.ndarray):
    """The same model by statsmodels: the slope stands last."""
    exog = np.column_stack([columns, table["delta_pred"]])
    return sm.OLS(table["delta_obs"].to_numpy(), exog)


def codes(table: pd.DataFrame, name: str) -> np.ndarray:
    return pd.factorize(table[name])[0]


@pytest.mark.parametrize("seed", [0, 1])
def test_slope_errors_and_intervals_are_those_of_statsmodels(seed):
    table = pair_table(seed=seed)
    found = within(table)
    others, chosen = design(table)
    assert chosen == {"sim_alba": found.components["sim_alba"]}
    model = fitted(table, others)
    plain = model.fit()
    mine = found.stacked
    assert mine.value == pytest.approx(plain.params[-1], rel=1e-10)
    assert mine.residual == pytest.approx(plain.resid, abs=1e-10)
    assert mine.partial_r2 == pytest.approx(
        plain.tvalues[-1] ** 2 / (plain.tvalues[-1] ** 2 + plain.df_resid), rel=1e-10
    )
    groups = {name: codes(table, name) for name in ("line", "gene")}
    both = np.column_stack(list(groups.values()))
    kinds = {"classical": plain}
    for name, of in {**groups, "two-way": both}.items():
        kinds[name] = model.fit(cov_type="cluster", cov_kwds={"groups": of}, use_t=True)
    for name, oracle in kinds.items():
        error = mine.errors[name]
        assert error.se == pytest.approx(oracle.bse[-1], rel=1e-9), name
        assert (error.low, error.high) == pytest.approx(oracle.conf_int()[-1], rel=1e-9), name
    by_fold = model.fit(cov_type="cluster", cov_kwds={"groups": table["fold"]}, use_t=True)
    assert between_folds(mine, table["fold"].to_numpy()).se == pytest.approx(
        by_fold.bse[-1], rel=1e-9
    )
    widest = max(kinds, key=lambda name: mine.errors[name].high - mine.errors[name].low)
    assert interval(mine) == mine.errors[widest]


@pytest.mark.parametrize("levels", [("gene",), ("line",), ("gene", "line")])
def test_fixed_effects_are_those_of_dummies(levels):
    table = pair_table(240, genes=60, lines=12, seed=3)
    dummies = pd.get_dummies(table[list(levels)], columns=list(levels), dtype=float).to_numpy()
    others, _ = design(table)
    whole = np.column_stack([dummies, others, table["delta_pred"]])
    rank = np.linalg.matrix_rank(whole)
    # A basis of what the dummies and components span, the slope last, so that statsmodels sees full rank.
    left, s, _ = np.linalg.svd(whole[:, :-1], full_matrices=False)
    basis = left[:, s > 1e-9]
    model = sm.OLS(table["delta_obs"].to_numpy(), np.column_stack([basis, table["delta_pred"]]))
    found = within(table).fixed["+".join(levels)]
    assert found.columns == rank
    assert found.value == pytest.approx(model.fit().params[-1], rel=1e-7)
    assert found.errors["classical"].se == pytest.approx(model.fit().bse[-1], rel=1e-7)
    for name in ("line", "gene"):
        oracle = model.fit(cov_type="cluster", cov_kwds={"groups": codes(table, name)}, use_t=True)
        assert found.errors[name].se == pytest.approx(oracle.bse[-1], rel=1e-6)


def test_demeaned_columns_have_no_mean_in_any_level():
    table = pair_table(300, genes=40, lines=9, seed=4)
    columns = table[["delta_obs", "delta_pred"]].to_numpy()
    groups = [codes(table, "gene"), codes(table, "line")]
    left = demean(columns, groups)
    for group in groups:
        means = pd.DataFrame(left).groupby(group).mean()
        assert np.abs(means.to_numpy()).max() < 1e-9
    assert absorbed(groups) == 40 + 9 - 1
    apart = [np.array([0, 0, 1, 1]), np.array([0, 0, 1, 1])]  # two islands
    assert absorbed(apart) == 2


def test_a_gene_offset_that_predictions_follow_biases_the_stacked_slope_and_no_fixed_one():
    table = pair_table(3000, genes=100, x_gene_sd=0.4, gene_sd=0.6, slope=0.3, seed=5)
    found = within(table)
    assert found.stacked.value > 0.7
    for name in ("gene", "gene+line"):
        error = interval(found.fixed[name])
        assert error.low <= 0.3 <= error.high
        assert error.high - error.low < 0.2


def test_hidden_line_factors_are_absorbed_by_the_component_that_follows_them():
    table = pair_table(2000, line_sd=1.0, seed=6)
    found = within(table)
    assert found.components["sim_alba"] >= 1
    raw = slope(
        table["delta_obs"].to_numpy(), table["delta_pred"].to_numpy(), np.ones((len(table), 1)),
        {"line": table["line"].to_numpy(str)},
    )  # fmt: skip
    assert found.stacked.errors["line"].se < 0.7 * raw.errors["line"].se
    error = interval(found.stacked)
    assert error.low <= 0.5 <= error.high


def test_components_are_those_of_prcomp():
    rng = np.random.default_rng(0)
    values = np.log10(1 + rng.lognormal(1, 1, size=(14, 80)))
    values[:, 3] = 0  # a gene that is zero everywhere
    values[2, 5] = np.nan
    kept = np.delete(values, [3, 5], axis=1)
    oracle = PCA(6).fit_transform(StandardScaler().fit_transform(kept)) * np.sqrt(13 / 14)
    mine = components(values, 6)
    assert np.abs(mine) == pytest.approx(np.abs(oracle), abs=1e-9)
    largest = np.abs(mine).argmax(axis=0)
    assert (mine[largest, np.arange(6)] > 0).all()
    assert components(values, 50).shape == (14, 13)
    assert components(values[:1], 5).shape == (1, 0)


def test_the_number_of_components_is_that_of_least_bic():
    table = pair_table(500, seed=8, components=5, line_sd=0.5)
    scores = table[[f"pc{k}" for k in range(1, 6)]].to_numpy()
    y = table["delta_obs"].to_numpy()
    k, tried = choose(y, scores)
    oracle = [
        sm.OLS(y, sm.add_constant(scores[:, :j]) if j else np.ones((500, 1))).fit()
        for j in range(6)
    ]
    # statsmodels leaves the error variance out of the count: one log n, the same for every k.
    assert tried == pytest.approx([fit.bic + np.log(500) for fit in oracle], rel=1e-10)
    assert k == int(np.argmin([fit.bic for fit in oracle]))
    assert bic(10.0, 500, 2) > bic(9.0, 500, 2)


def test_sign_accuracy_and_its_error():
    table = pair_table(400, seed=9)
    table.loc[:49, "delta_pred"] = 0.0
    found = within(table)
    told = table.iloc[50:]
    agree = (np.sign(told["delta_obs"]) == np.sign(told["delta_pred"])).to_numpy(float)
    assert found.sign.value == pytest.approx(agree.mean())
    assert found.sign.n == 350
    oracle = sm.OLS(agree, np.ones(350)).fit(
        cov_type="cluster", cov_kwds={"groups": codes(told, "line")}, use_t=True
    )
    assert found.sign.errors["line"].se == pytest.approx(oracle.bse[0], rel=1e-9)
    weight = np.abs(told["delta_pred"]).to_numpy()
    weighted = sm.WLS(agree, np.ones(350), weight).fit(
        cov_type="cluster", cov_kwds={"groups": codes(told, "gene")}, use_t=True
    )
    assert found.sign_weighted.value == pytest.approx(np.average(agree, weights=weight))
    assert found.sign_weighted.errors["gene"].se == pytest.approx(weighted.bse[0], rel=1e-9)


def test_rows_agree_with_statsmodels_and_scipy_and_carry_known_names():
    pairs = pair_table(seed=10)
    rng = np.random.default_rng(1)
    genes = pd.DataFrame({
        "species": "sim_alba", "gene": [f"SIM{i:04d}" for i in range(90)],
        "family": [f"FAM{i // 3}" for i in range(90)], "y_pred": rng.normal(size=90),
    })  # fmt: skip
    genes["y_true"] = 0.7 * genes["y_pred"] + rng.normal(size=90)
    rows = variant_rows(genes, pairs, bootstrap=200, seed=0)
    assert set(rows["metric"]) <= set(VARIANT_METRICS)
    assert set(rows["scope"]) == {"pooled", "species:sim_alba", "within-species"}
    assert not rows.duplicated(["metric", "scope"]).any()
    pooled = rows[rows["scope"] == "pooled"].set_index("metric")
    oracle = sm.OLS(genes["y_true"], sm.add_constant(genes["y_pred"])).fit()
    assert pooled.loc["beta_between", "value"] == pytest.approx(oracle.params["y_pred"])
    assert pooled.loc["beta_between_se_classical", "value"] == pytest.approx(oracle.bse["y_pred"])
    clustered = sm.OLS(genes["y_true"], sm.add_constant(genes["y_pred"])).fit(
        cov_type="cluster", cov_kwds={"groups": codes(genes, "family")}, use_t=True
    )
    assert pooled.loc["beta_between_se_family", "value"] == pytest.approx(clustered.bse["y_pred"])
    assert pooled.loc["beta_between", "n"] == 90
    assert pooled.loc["beta_within", "n"] == len(pairs)
    rho = stats.spearmanr(pairs["delta_obs"], pairs["delta_pred"]).statistic
    assert pooled.loc["spearman_within", "value"] == pytest.approx(rho)
    for name in ("spearman_within", "partial_r_within", "partial_r2_within", "beta_within"):
        row = pooled.loc[name]
        assert row["ci_low"] < row["value"] < row["ci_high"]
    assert pooled.loc["partial_r2_within", "value"] == pytest.approx(
        pooled.loc["partial_r_within", "value"] ** 2
    )
    assert pooled.loc["beta_within_null_p", "value"] == pytest.approx(1 / 201)
    pd.testing.assert_frame_equal(rows, variant_rows(genes, pairs, bootstrap=200, seed=0))


def test_species_are_stacked_with_an_intercept_and_components_each():
    one = pair_table(500, seed=1, slope=0.5)
    two = pair_table(500, seed=2, slope=0.5, species="sim_nigra")
    two["delta_obs"] += 5.0
    both = pd.concat([one, two], ignore_index=True)
    found = within(both)
    assert set(found.components) == {"sim_alba", "sim_nigra"}
    parts = [within(one).stacked, within(two).stacked]
    spread = [part.x @ part.x for part in parts]
    weighted = sum(w * p.value for w, p in zip(spread, parts, strict=True)) / sum(spread)
    assert found.stacked.value == pytest.approx(weighted)


def test_only_private_pairs_count_and_a_constant_prediction_has_no_slope():
    table = pair_table(300, seed=11)
    table["private"] = np.arange(300) % 3 > 0
    found = within(table)
    assert found.stacked.n == 200
    flat = within(table.assign(delta_pred=0.0))
    assert np.isnan(flat.stacked.value)
    assert flat.sign.n == 0
    assert within(table.assign(private=False)) is None
    empty = variant_rows(
        pd.DataFrame({"species": ["a"], "family": ["f"], "y_true": [1.0], "y_pred": [1.0]}),
        table.iloc[:0], bootstrap=10, seed=0,
    )  # fmt: skip
    assert set(empty["metric"]) == {
        "beta_between", "beta_between_se_family", "beta_between_se_classical",
    }  # fmt: skip


def test_the_permutation_null_rejects_at_its_level_where_noise_follows_the_prediction():
    """Genes that are noisy and predicted to change much would fool a test on the bare slope."""
    rng = np.random.default_rng(12)
    p, naive = [], []
    for seed in range(150):
        line = np.repeat(np.arange(8), 30)
        x = rng.normal(size=240)
        y = rng.normal(size=240) * (0.2 + np.abs(x))
        y -= np.array([y[line == i].mean() for i in range(8)])[line]
        fitted = np.array([x[line == i].mean() for i in range(8)])[line]
        p.append(permuted(y, x, fitted, line, draws=199, seed=seed).p)
        naive.append(2 * stats.norm.sf(abs(slope(y, x, np.ones((240, 1))).value)
                                       / slope(y, x, np.ones((240, 1))).errors["classical"].se))  # fmt: skip
    rejected = np.mean(np.array(p) <= 0.05)
    assert rejected < 0.11
    assert np.mean(np.array(naive) <= 0.05) > 2 * rejected


def test_the_ceiling_is_the_share_of_variance_that_haplotypes_make():
    rng = np.random.default_rng(13)
    line = rng.integers(0, 30, 6000)
    effect, noise = rng.normal(size=6000) * 0.6, rng.normal(size=6000) * 0.8
    known = np.full(6000, 0.64)
    known[:100] = np.nan
    value, low, high = ceiling(effect + noise, known, 1, line, replicates=200, seed=0)
    assert low < 0.36 < high
    assert value == pytest.approx(0.36, abs=0.03)
    r2 = slope(effect + noise, effect, np.ones((6000, 1))).partial_r2
    assert r2 == pytest.approx(value, abs=0.03)  # what the perfect prediction reaches
    nothing = ceiling(noise, np.full(6000, 2.0), 1, line, replicates=0, seed=0)
    assert nothing[0] == 0.0


def test_lines_are_held_against_controls_of_their_own_tissues():
    # gene 0: controls 1 (leaf) and 3 (root); M1 in both, M2 in the root alone.
    log = np.array([[1.0, 1.2, 3.0, 3.4, 1.6, 3.9, 2.7], [0.0] * 6 + [np.nan]])
    tissue = ["leaf", "leaf", "root", "root", "leaf", "root", "root"]
    line = ["C1", "C2", "C1", "C2", "M1", "M1", "M2"]
    control = np.array([True] * 4 + [False] * 3)
    seen = observe(log, tissue, line, control)
    at = {name: i for i, name in enumerate(seen.line)}
    assert seen.baseline[0] == pytest.approx((1.1 + 3.2) / 2)
    assert seen.delta[0, at["M1"]] == pytest.approx(((1.6 - 1.1) + (3.9 - 3.2)) / 2)
    assert seen.delta[0, at["M2"]] == pytest.approx(2.7 - 3.2)
    assert seen.value[0, at["M1"]] == pytest.approx((1.6 + 3.9) / 2)
    assert np.isnan(seen.delta[1, at["M2"]])
    # variance of one control sample: 0.02 in the leaf, 0.08 in the root; 1 line and 2 controls.
    assert seen.noise[0, at["M1"]] == pytest.approx((0.02 * 1.5 + 0.08 * 1.5) / 4)
    assert seen.noise[0, at["M2"]] == pytest.approx(0.08 * 1.5)
    carries = np.array([[False, False, True, False]] * 2)
    assert background(seen.delta, carries, least=3)[0] == pytest.approx(
        np.mean(seen.delta[0, [at["C1"], at["C2"], at["M2"]]] ** 2)
    )
    assert np.isnan(background(seen.delta, carries, least=4)).all()


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="needs R")
def test_slope_is_that_of_lm_in_r(tmp_path):
    table = pair_table(200, seed=14)
    table.to_csv(tmp_path / "t.csv", index=False)
    script = (
        f't <- read.csv("{tmp_path}/t.csv"); m <- lm(delta_obs ~ delta_pred + pc1 + pc2, t); '
        'cat(format(coef(summary(m))["delta_pred", 1:2], digits = 15), BIC(m))'
    )
    done = subprocess.run(["Rscript", "-e", script], capture_output=True, text=True, check=True)
    value, error, criterion = map(float, done.stdout.split())
    others, _ = design(table, {"sim_alba": 2})
    mine = slope(table["delta_obs"].to_numpy(), table["delta_pred"].to_numpy(), others)
    assert (mine.value, mine.errors["classical"].se) == pytest.approx((value, error))
    assert bic(float(mine.residual @ mine.residual), 200, 4) == pytest.approx(criterion)
