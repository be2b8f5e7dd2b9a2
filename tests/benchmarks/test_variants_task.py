"""``bench run --task variants`` on a store built from the simulated sample, against tables read by hand."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.inputs.features import PooledSource
from benchmarks.report.html import render_report
from benchmarks.runs.files import METRIC_COLUMNS, read_run, read_runs
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from benchmarks.runs.schema import VARIANT_METRICS
from benchmarks.scores.compare import compare
from benchmarks.scores.leaderboard import leaderboard
from benchmarks.scores.methods import group_runs
from benchmarks.tasks.haplotypes import Copies, HaplotypeSource, haplotype_sources, mean_of_copies
from featurestore.build.engine import build
from featurestore.errors import InputError, UnknownNameError
from featurestore.sample import write_sample
from featurestore.sequence.iupac import one_hot
from featurestore.store.reader import open_store
from learners.batch import ArraySource, Block, FeatureBatch
from learners.linear import Ridge

SPECIES = "simulated_alpha"
FAKES = Path(__file__).parent / "fakes"


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """The sample with heterozygous calls as IUPAC codes, and the same with two haplotypes."""
    folder = tmp_path_factory.mktemp("variants")
    write_sample(folder / "sample", seed=3, genes=40, lines=6)
    text = (folder / "sample" / "dataset.toml").read_text()
    plain = 'variants.mutants = "simulated_alpha.mutants.vcf"'
    assert plain in text
    found = {}
    for mode in ("iupac", "haplotypes"):
        path = folder / "sample" / f"{mode}.toml"
        table = f'{{ file = "simulated_alpha.mutants.vcf", heterozygous = "{mode}" }}'
        path.write_text(text.replace(plain, f"variants.mutants = {table}"))
        build(path, folder / f"{mode}.zarr")
        found[mode] = open_store(folder / f"{mode}.zarr")
    return found


@pytest.fixture(scope="module")
def sample(stores):
    return Path(stores["iupac"].path).parent / "sample"


@pytest.fixture(scope="module")
def runs(stores, tmp_path_factory):
    """Runs of two learners on either store, by mode and learner."""
    folder = tmp_path_factory.mktemp("runs")
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        for mode, store in stores.items():
            learners = ["ridge@kmer", "variant_fakes:GcOfCodes", "species_mean"]
            options = RunOptions(
                learners if mode == "iupac" else learners[:2], task="variants", bootstrap=30,
                split="families-3fold", out=folder / mode,
            )  # fmt: skip
            for outcome in run(store, options, Progress(0, StringIO())):
                assert outcome.error is None, outcome.error
                found[mode, outcome.label.partition("@")[0]] = read_run(outcome.path)
    return found


def observed_by_hand(sample: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Mean over tissues of log10(1 + TPM) of lines, and minus controls; genes × lines."""
    tpm = pd.read_csv(sample / f"{SPECIES}.tpm.tsv", sep="\t", comment="#", index_col="gene")
    about = pd.read_csv(
        sample / f"{SPECIES}.samples.tsv", sep="\t", comment="#", index_col="sample"
    )
    log = np.log10(1 + tpm.astype("float32").astype(float))
    by_tissue = log.T.groupby([about["line"], about["tissue"]]).mean()
    wild = about["control"].astype(str) == "1"
    controls = log.T[wild].groupby(about["tissue"][wild]).mean()
    value = by_tissue.groupby(level="line").mean().T
    return value, value.sub(controls.mean(), axis=0)


def test_rows_hold_what_the_tables_say(runs, sample):
    table = runs["iupac", "ridge"].predictions
    value, delta = observed_by_hand(sample)
    genes = table[table["haplotype"] == ""]
    assert genes["gene"].is_unique
    assert len(genes) == 80
    pairs = table[table["haplotype"] != ""]
    assert not pairs.duplicated(["gene", "line"]).any()
    assert set(pairs["species"]) == {SPECIES}
    for row in pairs.itertuples():
        assert row.y_true == pytest.approx(value.loc[row.gene, row.line], abs=1e-5)
        assert row.delta_obs == pytest.approx(delta.loc[row.gene, row.line], abs=1e-5)
    known = genes.set_index("gene")["y_pred"]
    assert (pairs["y_pred"] - pairs["gene"].map(known)).to_numpy() == pytest.approx(
        pairs["delta_pred"].to_numpy()
    )
    fold = genes.set_index("gene")["fold"]
    assert (pairs["gene"].map(fold) == pairs["fold"]).all()


def test_pairs_are_those_that_a_variant_touches_and_private_where_no_line_shares_one(runs, sample):
    truth = pd.read_csv(sample / "truth" / "mutants.tsv", sep="\t", comment="#")
    truth = truth.set_index(["gene", "line"])
    pairs = runs["iupac", "ridge"].predictions.query("haplotype != ''").set_index(["gene", "line"])
    assert set(pairs.index) == set(truth.index)
    alone = truth[truth["private"] == 1].index  # all variants private: so is the haplotype
    assert pairs.loc[alone, "private"].all()
    assert not pairs["private"].all()


@pytest.mark.parametrize("mode", ["iupac", "haplotypes"])
def test_haplotypes_are_predicted_by_the_model_that_never_saw_the_gene(runs, stores, mode):
    """By hand: the saved model of the fold, the store's own overlay, copies as amounts."""
    store, result = stores[mode], runs[mode, "ridge"]
    view = store.variants(SPECIES, "mutants")
    pairs = result.predictions.query("haplotype != ''")
    assert pairs["zygosity"].isin(["homozygous", "heterozygous", "mixed"]).all()
    two = pairs["haplotype"].str.contains("/")
    assert two.any() if mode == "haplotypes" else (two.mean() < 0.1)
    models = {fold: Ridge.load(result.path / "model" / f"0-{fold}") for fold in range(3)}
    for row in pairs.sample(25, random_state=0).itertuples():
        gene = int(store.rows(SPECIES, [row.gene])[0])
        copies = []
        for copy in (1, 2):
            haplotype = view.haplotype_of(gene, row.line, copy)
            values = view.features("kmer", np.array([gene]), np.array([haplotype]))
            copies.append(_ridge(models[row.fold], values))
        expected = np.log10((10 ** copies[0] + 10 ** copies[1]) / 2)
        assert row.y_pred == pytest.approx(float(expected), abs=1e-4)


def _ridge(model, values) -> float:
    one = np.array(["x"])
    block = Block(ArraySource(values, kind="bins"), np.array([0]))
    return float(model.predict(FeatureBatch({"kmer": block}, one, one, one))[0, 0])


def test_codes_learners_read_the_changed_bases(runs, stores):
    store, result = stores["iupac"], runs["iupac", "gc_of_codes"]
    pairs = result.predictions.query("haplotype != ''")
    for row in pairs.head(20).itertuples():
        a, b = json.loads((result.path / "model" / f"0-{row.fold}" / "line.json").read_text())
        copies = [
            store.variant_features(SPECIES, "mutants", "onehot", row.gene, row.line, copy=copy)
            for copy in (1, 2)
        ]
        gc = [one_hot(codes)[..., 1:3].sum() / codes.size for codes in copies]
        expected = np.log10(np.mean([10 ** (a + b * share) for share in gc]))
        assert row.y_pred == pytest.approx(expected, abs=1e-5)


def test_iupac_and_two_haplotypes_differ_where_calls_are_heterozygous_alone(runs):
    one, two = (
        runs[mode, "gc_of_codes"].predictions.query("haplotype != ''").set_index(["gene", "line"])
        for mode in ("iupac", "haplotypes")
    )
    assert set(one.index) == set(two.index)
    difference = (one["y_pred"] - two.loc[one.index, "y_pred"]).abs()
    same = one["zygosity"] == "homozygous"
    assert same.any()
    assert difference[same].max() < 1e-9
    assert (
        difference[~same].max() < 1e-3
    )  # the mean of logs, and the log of the mean, of small changes
    assert one["zygosity"].equals(two.loc[one.index, "zygosity"])


def test_metrics_have_their_scopes_and_a_learner_without_features_has_no_slope_within(runs):
    for (mode, learner), result in runs.items():
        metrics = result.metrics
        assert list(metrics.columns)[: len(METRIC_COLUMNS)] == list(METRIC_COLUMNS)
        assert not metrics.duplicated(["metric", "scope"]).any()
        pooled = metrics[metrics["scope"] == "pooled"].set_index("metric")
        assert set(VARIANT_METRICS) <= set(pooled.index)
        assert {"r2", "pearson", "rmse"} <= set(pooled.index)
        if learner == "species_mean":
            assert np.isnan(pooled.loc["beta_within", "value"])
        else:
            row = pooled.loc["beta_within"]
            assert row["ci_low"] < row["value"] < row["ci_high"]
            assert 0 <= pooled.loc["partial_r2_ceiling_controls", "value"] <= 1
        assert result.identity["variants"]["heterozygous"] == {SPECIES: mode}
        assert set(metrics["scope"]) >= {
            "within-species",
            f"species:{SPECIES}",
            "species:simulated_beta",
        }


def test_the_tools_that_read_runs_take_these(runs, stores):
    folder = runs["iupac", "ridge"].path.parent
    found = read_runs(folder)
    assert len(group_runs(found)) == 1
    board = leaderboard(found, bootstrap=10)
    assert set(board["status"]) == {"ok"}
    assert (board["n_genes"] == 80).all()
    pairs = compare(found, bootstrap=10).pairs
    assert (pairs["n_genes"] == 80).all()
    page = render_report(found, bootstrap=10)
    assert "slope of calibration" in page
    assert "β within" in page
    again = run(
        stores["iupac"],
        RunOptions(
            ["ridge@kmer"], task="variants", bootstrap=30, split="families-3fold", out=folder
        ),
        Progress(0, StringIO()),
    )
    assert [one.state for one in again] == ["already there"]
    other = read_runs(runs["haplotypes", "ridge"].path.parent)
    assert {run.run["run"] for run in other}.isdisjoint({run.run["run"] for run in found})


def test_sources_give_what_the_store_overlays(stores):
    store = stores["haplotypes"]
    view = store.variants(SPECIES, "mutants")
    copies = Copies(view)
    rows = np.random.default_rng(0).permutation(len(copies))[:30]
    gene, haplotype = copies.gene[rows], copies.first[rows]
    for feature in ("kmer", "onehot"):
        source = HaplotypeSource(
            view, feature, store.feature_source(SPECIES, feature), gene, haplotype
        )
        assert len(source) == 30
        whole = source.read(np.arange(30))
        np.testing.assert_array_equal(
            whole, view.features(feature, gene, haplotype).reshape(whole.shape)
        )
        np.testing.assert_array_equal(source.read(np.array([7, 3])), whole[[7, 3]])
    pooled = haplotype_sources(store, view, "kmer:pooled", gene, haplotype)["kmer:pooled"]
    assert isinstance(pooled, PooledSource)
    assert pooled.read(np.arange(3)).shape == (3, 2, 84)
    with pytest.raises(ValueError, match="another gene"):
        HaplotypeSource(
            view, "kmer", store.feature_source(SPECIES, "kmer"), np.array([int(gene[0]) + 1]),
            np.array([np.flatnonzero(view.haplotype_gene == gene[0])[0]]),
        )  # fmt: skip


def test_copies_know_both_haplotypes_of_a_line(stores):
    view = stores["haplotypes"].variants(SPECIES, "mutants")
    copies = Copies(view)
    assert (np.diff(copies.gene) >= 0).all()
    for i in range(0, len(copies), 7):
        line = str(view.line[copies.line[i]])
        assert view.haplotype_of(int(copies.gene[i]), line, 1) == copies.first[i]
        assert view.haplotype_of(int(copies.gene[i]), line, 2) == copies.second[i]
        assert copies.first[i] >= 0 or copies.second[i] >= 0


@pytest.mark.parametrize(
    ("unit", "base", "one"), [("log10(1+TPM)", 10, 1), ("log2", 2, 0), ("ln(x)", np.e, 0)]
)
def test_copies_add_up_as_amounts(unit, base, one):
    first, second = 30.0, 6.0
    logs = [np.log(one + amount) / np.log(base) for amount in (first, second)]
    found = mean_of_copies(np.array(logs[:1]), np.array(logs[1:]), unit)
    assert found[0] == pytest.approx(np.log(one + (first + second) / 2) / np.log(base))
    same = np.array([0.1, 1 / 3])
    assert (mean_of_copies(same, same, unit) == same).all()


def options(tmp_path, **changes):
    changes.setdefault("learners", ["species_mean"])
    return RunOptions(task=changes.pop("task", "variants"), out=tmp_path / "runs", bootstrap=5,
                      split="families-3fold", **changes)  # fmt: skip


def test_a_tissue_and_named_lines_are_another_run(stores, tmp_path, sample):
    (tmp_path / "good.txt").write_text("sim_M01  # passed\n\nsim_M02\nsim_M04\n")
    chosen = options(
        tmp_path, target="tissue:leaf", lines=tmp_path / "good.txt", variants="mutants"
    )
    (outcome,) = run(stores["iupac"], chosen, Progress(0, StringIO()))
    table = read_run(outcome.path).predictions.query("haplotype != ''")
    assert set(table["line"]) == {"sim_M01", "sim_M02", "sim_M04"}
    tpm = pd.read_csv(sample / f"{SPECIES}.tpm.tsv", sep="\t", comment="#", index_col="gene")
    row = table.iloc[0]
    log = np.log10(1 + tpm.loc[row["gene"]].astype(float))
    expected = log[f"{row['line']}_leaf"] - log[["sim_C1_leaf", "sim_C2_leaf"]].mean()
    assert row["delta_obs"] == pytest.approx(expected, abs=1e-5)


def test_mistakes_are_told_before_anything_is_fitted(stores, tmp_path):
    store = stores["iupac"]
    (tmp_path / "bad.txt").write_text("sim_M91\n")
    (tmp_path / "empty.txt").write_text("# none\n")
    for changes, error, message in [
        ({"target": "each"}, InputError, "tissue:NAME"),
        ({"target": "sample:sim_C1_leaf"}, InputError, "tissue:NAME"),
        ({"variants": "mutant"}, UnknownNameError, "mutants"),
        ({"species": ["simulated_beta"]}, InputError, "no variant set"),
        ({"lines": tmp_path / "bad.txt"}, UnknownNameError, "sim_M"),
        ({"lines": tmp_path / "empty.txt"}, InputError, "names no line"),
        ({"task": "expression", "variants": "mutants"}, InputError, "not for task expression"),
    ]:
        with pytest.raises(error, match=message):
            run(store, options(tmp_path, **changes), Progress(0, StringIO()))
    assert not (tmp_path / "runs").exists()


def test_the_command_takes_the_set_and_the_lines(stores, tmp_path):
    from click.testing import CliRunner

    from benchmarks.cli import bench

    (tmp_path / "good.txt").write_text("sim_M01\nsim_M02\nsim_M03\n")
    words = [
        "run",
        "--store",
        str(stores["iupac"].path),
        "--task",
        "variants",
        "--learner",
        "xgboost@kmer",
    ]
    words += [
        "--rounds",
        "5",
        "--variants",
        "mutants",
        "--lines",
        str(tmp_path / "good.txt"),
        "--json",
    ]
    words += [
        "--split",
        "families-3fold",
        "--bootstrap",
        "5",
        "--out",
        str(tmp_path),
        "--threads",
        "1",
    ]
    done = CliRunner().invoke(bench, words)
    assert done.exit_code == 0, done.output
    (told,) = json.loads(done.stdout)
    assert np.isfinite(told["pooled"]["beta_within"])
    result = read_run(Path(told["path"]))
    assert result.identity["variants"]["lines"]
    assert result.predictions["line"].nunique() == 4  # three lines, and none for the controls
