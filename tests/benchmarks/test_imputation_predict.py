"""``bench predict`` with imputation runs: nothing dropped, measured as given, files and store agree."""

from __future__ import annotations

import json
import shutil
import sys
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import featurestore
from benchmarks.cli import bench
from benchmarks.imputation.conformal import Calibration
from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from featurestore.cli import cli as fs
from featurestore.store.verify import verify
from tests.benchmarks.conftest import FAKES
from tests.builders.tables import TISSUES, build_table, simulated_table, write_dataset

FAKE = "imputing_fakes:TissueMean"


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A table with holes, its store, and a run on it."""
    folder = tmp_path_factory.mktemp("predict")
    names, contig, tss, strand, log = simulated_table(80)
    tpm = np.round(2**log - 1, 4)
    tpm[3, 1] = tpm[10, :4] = np.nan
    tpm[20] = np.nan
    store = build_table(folder, names, contig, tss, strand, tpm)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FAKES))
        masks = ("whole-profile", "entries-20")
        options = RunOptions(
            [FAKE], task="imputation", masks=masks, out=folder / "runs", bootstrap=0
        )
        (outcome,) = run(store, options, Progress(0, StringIO()))
        assert outcome.state == "ok", outcome.error
        yield folder, outcome.path, names, tpm
        sys.modules.pop("imputing_fakes", None)


def predict(*args):
    result = CliRunner().invoke(bench, ["predict", "--learner", FAKE, *map(str, args)])
    assert result.exit_code == 0, result.output
    return result


def test_the_completed_table_holds_every_entry(fitted, tmp_path):
    folder, path, names, tpm = fitted
    out, wide = tmp_path / "done.parquet", tmp_path / "wide.tsv"
    result = predict("--model", path, folder / "store.zarr", "--out", out, "--wide", wide)
    assert "480 entries" in result.output
    table = pd.read_parquet(out)
    assert list(table.columns) == [
        "species",
        "gene",
        "tissue",
        "value",
        "low",
        "high",
        "provenance",
    ]
    assert len(table) == tpm.size
    assert not table.duplicated(["gene", "tissue"]).any()
    square = table.pivot(index="gene", columns="tissue", values="value").loc[names, list(TISSUES)]
    flags = table.pivot(index="gene", columns="tissue", values="provenance").loc[
        names, list(TISSUES)
    ]
    known = np.isfinite(tpm)
    assert (flags.to_numpy() == np.where(known, "measured", "imputed")).all()
    assert square.to_numpy()[known] == pytest.approx(tpm.astype(np.float32)[known], rel=1e-6)
    measured = table["provenance"] == "measured"
    assert table.loc[measured, ["low", "high"]].isna().all(axis=None)
    rest = table[~measured]
    assert ((rest["low"] <= rest["value"]) & (rest["value"] <= rest["high"])).all()
    assert (rest["low"] >= 0).all()
    again = pd.read_csv(wide, sep="\t", index_col="gene")
    assert again.loc[names, list(TISSUES)].to_numpy() == pytest.approx(square.to_numpy(), rel=1e-5)


def test_the_models_that_complete_are_those_that_have_seen_most(fitted, tmp_path):
    folder, path, names, _ = fitted
    predict("--model", path, "--store", folder / "store.zarr", "--out", tmp_path / "done.tsv")
    table = pd.read_csv(tmp_path / "done.tsv", sep="\t").set_index(["gene", "tissue"])
    means = {
        int(one.name.partition("-")[2]): np.array(json.loads((one / "mean.json").read_text()))
        for one in (path / "model").iterdir()
    }
    facts = {f["fold"]: f for f in read_run(path).run["folds"]}
    # Part of the gene is measured: the model of single entries.
    row = table.loc[(names[3], TISSUES[1])]
    assert row["value"] == pytest.approx(2 ** means[1020][1] - 1, rel=1e-5)
    scale = Calibration.from_facts(facts[1020]["intervals"])
    reach = scale.reach(means[1020][None], "entries-20")[0, 1]
    assert row["high"] == pytest.approx(2 ** (means[1020][1] + reach) - 1, rel=1e-5)
    # Nothing is: the mean over the folds of whole profiles.
    wanted = 2 ** np.mean([means[fold] for fold in range(5)], axis=0) - 1
    for i, tissue in enumerate(TISSUES):
        assert table.loc[(names[20], tissue), "value"] == pytest.approx(wanted[i], rel=1e-5)


def test_the_store_takes_the_table_and_stays_whole(fitted, tmp_path):
    folder, path, *_ = fitted
    store = tmp_path / "store.zarr"
    shutil.copytree(folder / "store.zarr", store)
    before = featurestore.open(store)
    digest = before.content_digest(before.species, [])
    del before
    for _ in range(2):  # a second time it takes the place of the first
        predict("--model", path, store, "--out", tmp_path / "done.tsv", "--into-store")
        assert verify(store).findings == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["done.tsv", "store.zarr"]
    opened = featurestore.open(store)
    assert opened.content_digest(opened.species, []) == digest
    group = opened["simulated_plant"]["imputed"]
    assert group["value"].dims == ("gene", "tissue")
    assert group.attrs["unit"] == "TPM"
    assert group["provenance"].attrs["flag_meanings"] == "measured imputed missing"
    table = pd.read_csv(tmp_path / "done.tsv", sep="\t").set_index(["gene", "tissue"])
    rows = pd.MultiIndex.from_product(
        [group["gene"].values.tolist(), group["tissue"].values.tolist()]
    )
    for name in ("value", "low", "high"):
        assert group[name].values.ravel() == pytest.approx(
            table[name].loc[rows].to_numpy(), rel=1e-5, nan_ok=True
        )
    flags = np.array(["measured", "imputed", "missing"])[group["provenance"].values.ravel()]
    assert flags.tolist() == table["provenance"].loc[rows].tolist()
    told = CliRunner().invoke(fs, ["info", str(store)])
    assert f"imputed: completed table, 80 gene × {len(TISSUES)} tissue, TPM" in told.stdout
    told = CliRunner().invoke(fs, ["info", str(store), "--json"])
    said = json.loads(told.stdout)["species"]["simulated_plant"]["imputed"]
    assert said["shape"] == list(group["value"].shape)
    assert path.name in said["run"]
    assert "imputed" not in CliRunner().invoke(fs, ["info", str(folder / "store.zarr")]).stdout


def test_audit_gives_scores_of_the_masks_that_are_drawn_by_the_split(fitted, tmp_path):
    folder, path, *_ = fitted
    shutil.copytree(path, tmp_path / "runs" / path.name)
    told = CliRunner().invoke(
        bench, ["audit", "--store", str(folder / "store.zarr"), "--runs", str(tmp_path / "runs"), "--json"]
    )  # fmt: skip
    assert told.exit_code == 0, told.output
    (row,) = json.loads(told.stdout)
    assert {score["mask"] for score in row["scores"]} == {"whole-profile"}
    metrics = read_run(path).metrics.set_index(["scope", "metric"])["value"]
    for score in row["scores"]:
        assert score["all"] == pytest.approx(metrics["mask:whole-profile", score["metric"]])
    assert "entries-20 hide by themselves" in row["notes"][-1]


def test_a_data_set_is_built_for_it_and_other_tissues_are_told(fitted, tmp_path):
    _, path, _, _ = fitted
    names, contig, tss, strand, log = simulated_table(40, seed=9)
    columns = [*TISSUES[:4], "moss"]
    tpm = 2 ** log[:, :5] - 1
    tpm[2, 4] = tpm[5, 0] = np.nan
    dataset = write_dataset(tmp_path / "data", names, contig, tss, strand, tpm, columns)
    result = predict("--model", path, dataset, "--out", tmp_path / "done.parquet")
    assert (
        "tissues of the run that the table lacks are imputed whole: seed, pollen" in result.output
    )
    assert "missing entries there stay missing, and are marked so: moss" in result.output
    table = pd.read_parquet(tmp_path / "done.parquet").set_index(["gene", "tissue"])
    assert len(table) == 40 * 7
    assert table.loc[(names[2], "moss"), "provenance"] == "missing"
    assert np.isnan(table.loc[(names[2], "moss"), "value"])
    assert table.loc[(names[5], "root"), "provenance"] == "imputed"
    assert (table.xs("pollen", level="tissue")["provenance"] == "imputed").all()


def test_what_a_completion_does_not_take_is_refused(fitted, tmp_path):
    folder, path, _, _ = fitted
    common = ["predict", "--learner", FAKE, "--model", str(path), "--out", str(tmp_path / "x.tsv")]
    for more, told in (
        (["--fasta", str(folder / "data" / "tpm.tsv")], "completes a table of expression"),
        ([str(folder / "data" / "dataset.toml"), "--into-store"], "--keep-store"),
        ([str(folder / "store.zarr"), "--gene", "g9999"], "g9999"),
    ):
        result = CliRunner().invoke(bench, [*common, *more])
        assert told in f"{result.output} {result.exception}"
