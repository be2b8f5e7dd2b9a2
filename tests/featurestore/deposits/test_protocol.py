"""The EMPRES protocol from the deposit to the scores, by the commands that docs/empres.md gives."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr

from benchmarks.cli import bench
from benchmarks.runs.files import read_runs
from featurestore.cli import cli
from tests.builders.deposits import genes, write_arrays, write_data_csv

ROWS = genes(90, seed=3)


def call(group, *arguments):
    told = CliRunner().invoke(group, [str(x) for x in arguments])
    assert told.exit_code == 0, told.output
    return told.output


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store of EMPRES's arrays, small, in which one channel tells expression."""
    folder = tmp_path_factory.mktemp("protocol")
    arrays = write_arrays(folder / "deposit", ROWS, channels=(4, 3))
    signal = np.log10(1 + arrays["TPM"])
    arrays["tss_embeddings_PlantCad"][:, 2] = (signal - signal.mean())[:, None]
    np.save(folder / "deposit" / "tss_embeddings_PlantCad.npy", arrays["tss_embeddings_PlantCad"])
    write_data_csv(folder / "data.csv", ROWS)
    call(cli, "import", "empres", folder / "deposit", "--table", folder / "data.csv",
         "--store", folder / "empres.zarr")  # fmt: skip
    call(bench, "run", "--store", folder / "empres.zarr", "--split", "empres", "--bootstrap", "50",
         "--learner", "ridge@plantcaduceus+a2z.accessibility", "--learner", "species_mean",
         "--out", folder / "runs", "--threads", "1")  # fmt: skip
    return folder


def test_the_groups_of_the_deposit_are_the_folds_and_the_target_is_that_of_empres(place):
    group = {row.gene: int(row.group) for row in ROWS}
    tpm = {row.gene: float(row.tpm) for row in ROWS}
    for result in read_runs(place / "runs"):
        recipe = result.identity["split"]["recipe"]
        assert recipe["groups"] == "fold column of the data set"
        assert recipe["validation"] == {"rule": "previous fold"}
        assert result.identity["unit"] == "log10(1+TPM)"
        table = result.predictions
        assert len(table) == 90
        assert table["fold"].tolist() == [group[g] for g in table["gene"]]
        wanted = [np.log10(1 + tpm[g]) for g in table["gene"]]
        assert np.allclose(table["y_true"], wanted, atol=1e-6)


def test_pooled_within_per_species_and_per_fold_with_intervals_and_marks(place):
    (result,) = (r for r in read_runs(place / "runs") if r.label.startswith("ridge"))
    table = result.metrics[result.metrics["metric"] == "pearson"].set_index("scope")
    predictions = result.predictions
    by_species = {
        name: pearsonr(part["y_true"], part["y_pred"])[0]
        for name, part in predictions.groupby("species")
    }
    whole = pearsonr(predictions["y_true"], predictions["y_pred"])[0]
    assert table.loc["pooled", "value"] == pytest.approx(whole)
    assert table.loc["within-species", "value"] == pytest.approx(np.mean(list(by_species.values())))
    for name, value in by_species.items():
        assert table.loc[f"species:{name}", "value"] == pytest.approx(value)
    folds = [f"repeat:0/fold:{i}" for i in range(1, 6)]
    for scope in ("pooled", "within-species", *(f"species:{s}" for s in by_species), *folds):
        assert table.loc[scope, "ci_low"] < table.loc[scope, "value"] < table.loc[scope, "ci_high"]
    assert whole > 0.8  # the planted channel was found
    # PlantCaduceus has seen two of the three genomes, a2z all three.
    seen = table["pretrained_species"]
    assert seen["species:zea_mays"] == "zea_mays"
    assert seen["pooled"] == "arabidopsis_thaliana, brachypodium_distachyon, zea_mays"
    assert result.run["contamination"]["a2z.accessibility"] == seen["pooled"].split(", ")


def test_unseen_species_by_the_command_of_the_page(place):
    call(bench, "run", "--store", place / "empres.zarr", "--split",
         "species:arabidopsis_thaliana,zea_mays->brachypodium_distachyon", "--keep-test-families",
         "--allow-leakage", "--learner", "ridge@plantcaduceus", "--bootstrap", "20",
         "--out", place / "kept", "--threads", "1")  # fmt: skip
    (result,) = read_runs(place / "kept")
    assert set(result.predictions["species"]) == {"brachypodium_distachyon"}
    assert result.metrics["test_families_kept"].all()
    # Every family of this deposit spans the three species: without relatives nothing is left.
    told = CliRunner().invoke(bench, [
        "run", "--store", str(place / "empres.zarr"), "--learner", "ridge@plantcaduceus",
        "--split", "species:arabidopsis_thaliana->zea_mays", "--out", str(place / "none"),
    ])  # fmt: skip
    assert told.exit_code == 2
    assert "no gene to train" in told.output


def test_the_table_by_species(place):
    out = json.loads(call(bench, "leaderboard", place / "runs", "--by-species", "--json"))
    table = pd.DataFrame(out)
    assert set(table["species"]) == {
        "arabidopsis_thaliana", "brachypodium_distachyon", "zea_mays", "within-species", "pooled",
    }  # fmt: skip
