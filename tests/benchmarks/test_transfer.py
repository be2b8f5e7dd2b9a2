"""Unseen species: who trains, who is tested, what relatives do, and what stands at each score."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy.stats import pearsonr
from sklearn.metrics import r2_score

from benchmarks.cli import bench
from benchmarks.report.html import render_report
from benchmarks.report.words import held_out
from benchmarks.runs.files import read_run, read_runs
from benchmarks.runs.runner import run
from benchmarks.scores.marks import marked
from benchmarks.scores.methods import group_runs
from benchmarks.scores.transfer import render_text, transfer_table
from benchmarks.splits.artefact import AlignedSplit, make_split, read_split, write_split
from benchmarks.splits.leakage import gate
from featurestore.errors import InputError, LeakageError, UnknownNameError
from tests.benchmarks.test_report import check_offline
from tests.benchmarks.test_runner import options, quiet
from tests.benchmarks.test_splits import frame
from tests.builders.runs import population, predictions_of, write_run

THREE = ["ath", "zma", "bra"] * 40
SHARED = [f"F{i % 50}" for i in range(120)]  # 120 genes of 50 families, which span the species


def sides(name, *, keep=False, families=SHARED, seed=0):
    genes = frame(families, species=THREE)
    split = make_split(genes, name, seeds=[seed], keep_test_families=keep)
    (fold,) = split.folds(seed)
    return genes, split, AlignedSplit(split, genes, seed).sides(fold)


def of(genes, rows, column="species"):
    return set(genes[column].to_numpy()[rows])


@pytest.mark.parametrize("seed", [0, 3])
def test_species_train_and_test_as_named_and_relatives_stay_out(seed):
    genes, split, found = sides("species:ath->zma", seed=seed)
    assert of(genes, found.train) == of(genes, found.valid) == {"ath"}
    assert of(genes, found.test) == {"zma"}
    assert len(found.test) == 40
    tested = of(genes, found.test, "family")
    assert not tested & of(genes, np.concatenate([found.train, found.valid]), "family")
    # Kept out is exactly what has a relative under test; bra is on no side at all.
    with_relative = genes["family"].isin(tested) & (genes["species"] == "ath")
    assert found.excluded.tolist() == np.flatnonzero(with_relative).tolist()
    rest = (genes["species"] == "ath") & ~with_relative
    assert sorted([*found.train, *found.valid]) == np.flatnonzero(rest).tolist()
    assert not gate(split, genes).leaks
    assert any("bra stand on neither side" in note for note in split.notes)


def test_validation_is_whole_families_of_the_training_species():
    genes, _, found = sides("species:ath,bra->zma", families=[f"F{i}" for i in range(120)])
    assert of(genes, found.valid) <= {"ath", "bra"}
    assert 4 <= len(found.valid) <= 12  # a tenth of 80
    own = [f"{'T' if s == 'zma' else 'L'}{i % 20}" for i, s in enumerate(THREE)]
    genes, _, found = sides("species:ath,bra->zma", families=own)
    assert found.valid.size
    assert not of(genes, found.valid, "family") & of(genes, found.train, "family")


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("species:*->zma", {"ath", "bra"}, {"zma"}),
        ("species:ath->*", {"ath"}, {"bra", "zma"}),
        ("species: ath , bra -> zma ", {"ath", "bra"}, {"zma"}),
    ],
)
def test_a_star_is_all_others(name, train, test):
    genes, split, found = sides(name, families=[f"F{i}" for i in range(120)])
    assert of(genes, found.train) == train
    assert of(genes, found.test) == test
    assert split.recipe["train_species"] == sorted(train)
    assert split.recipe["test_species"] == sorted(test)


@pytest.mark.parametrize(
    ("name", "error", "why"),
    [
        ("species:ath->zmay", UnknownNameError, "Did you mean 'zma'"),
        ("species:ath->ath", InputError, "ath cannot be trained on and tested on"),
        ("species:ath", InputError, "in quotes"),
        ("species:ath->", InputError, "in quotes"),
        ("species:*->*", InputError, "in quotes"),
        ("species:ath,bra,zma->*", InputError, "no species is left to test on"),
    ],
)
def test_what_cannot_be_split_so(name, error, why):
    with pytest.raises(error, match=why):
        make_split(frame(SHARED, species=THREE), name)


def test_relatives_are_kept_only_as_declared_and_the_recipe_says_it():
    genes, split, found = sides("species:ath->zma", keep=True)
    assert not found.excluded.size
    assert len(found.train) + len(found.valid) == 40
    assert split.recipe["exclude_test_families"] is False
    with pytest.raises(LeakageError):
        gate(split, genes)
    other = make_split(genes, "species:ath->zma")
    assert other.recipe["exclude_test_families"] is True
    assert other.digest != split.digest


def test_the_artefact_comes_back_as_it_was(tmp_path):
    genes, split, found = sides("species:ath->zma")
    write_split(split, tmp_path / "split.parquet")
    again = AlignedSplit(read_split(tmp_path / "split.parquet"), genes, 0).sides(0)
    for name in ("train", "valid", "test", "excluded"):
        assert getattr(again, name).tolist() == getattr(found, name).tolist()


def test_every_row_of_a_result_says_that_relatives_were_kept(fakes, tmp_path):
    store = fakes.make_store(80, species=2, families=40)
    store.held["beta"].attrs["kmer"] = {"pretraining_species": ["Beta"]}
    asked = options(tmp_path, "Linear", split="species:alpha->beta", keep_test_families=True)
    with pytest.raises(LeakageError):
        run(store, asked, quiet())
    asked = options(
        tmp_path, "Linear", split="species:alpha->beta", keep_test_families=True,
        allow_leakage=True,
    )  # fmt: skip
    (outcome,) = run(store, asked, quiet())
    result = read_run(outcome.path)
    assert result.identity["split"]["recipe"]["exclude_test_families"] is False
    for table in (result.metrics, result.predictions):
        assert table["test_families_kept"].all()
        assert table["leakage_allowed"].all()
    clean = options(tmp_path, "Linear", split="species:alpha->beta")
    (outcome,) = run(store, clean, quiet())
    result = read_run(outcome.path)
    assert "test_families_kept" not in result.metrics
    assert set(result.predictions["species"]) == {"beta"}
    assert result.metrics["pretrained_species"].eq("beta").all()
    told = CliRunner().invoke(bench, ["leaderboard", str(tmp_path / "runs"), "--bootstrap", "0"])
    assert told.output.count("test families kept in training") == 1


def test_one_fold_is_compared_descriptively(fakes, tmp_path):
    store = fakes.make_store(80, species=2, families=40)
    asked = options(tmp_path, "Linear", "NoFeatures", split="species:alpha->beta")
    assert {o.state for o in run(store, asked, quiet())} == {"ok"}
    told = CliRunner().invoke(bench, ["compare", str(tmp_path / "runs"), "--bootstrap", "20"])
    assert told.exit_code == 0
    assert "descriptive" in told.output
    (group,) = group_runs(read_runs(tmp_path / "runs"))
    assert held_out(group) == "genes of species it never saw"


def test_marks_follow_the_species_of_each_scope():
    predictions = pd.DataFrame({"species": ["a", "a", "b", "c"], "repeat": 0, "fold": [0, 0, 1, 1]})
    scopes = ["pooled", "within-species", "species:a", "species:b", "species:c",
              "repeat:0/fold:0", "repeat:0/fold:1", "sample:x"]  # fmt: skip
    told = marked(pd.DataFrame({"scope": scopes}), predictions, {"b", "c", "elsewhere"})
    assert dict(zip(told["scope"], told["pretrained_species"], strict=True)) == {
        "pooled": "b, c", "within-species": "b, c", "species:a": "", "species:b": "b",
        "species:c": "c", "repeat:0/fold:0": "", "repeat:0/fold:1": "b, c", "sample:x": "b, c",
    }  # fmt: skip
    plain = pd.DataFrame({"scope": scopes})
    assert marked(plain, predictions, {"elsewhere"}) is plain  # nothing seen: no column


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two methods on two species; the model of one has seen one of them."""
    folder = tmp_path_factory.mktemp("runs")
    genes = population(240)
    for learner, features, r2, seen in (
        ("ridge", "kmer", 0.3, {}), ("s2e", "pc", 0.5, {"pc": ["sim_alba"]}),
    ):  # fmt: skip
        table = predictions_of(genes, r2=r2, noise_seed=len(learner))
        write_run(folder, learner, features, genes=genes, predictions=table, contamination=seen,
                  bootstrap=100)  # fmt: skip
    return folder


def test_the_transfer_table_holds_the_scores_of_each_species(runs):
    table = transfer_table(read_runs(runs))
    assert table["species"].tolist() == [
        x for x in ("sim_alba", "sim_nigra", "within-species", "pooled") for _ in range(2)
    ]
    for result in read_runs(runs):
        for species in ("sim_alba", "sim_nigra"):
            here = result.predictions[result.predictions["species"] == species]
            row = table[(table["method"] == result.label) & (table["species"] == species)].iloc[0]
            assert row["r2"] == pytest.approx(r2_score(here["y_true"], here["y_pred"]))
            assert row["pearson"] == pytest.approx(pearsonr(here["y_true"], here["y_pred"])[0])
            assert row["r2_low"] < row["r2"] < row["r2_high"]
            assert row["n"] == len(here)
    marks = table.set_index(["method", "species"])["pretrained"]
    assert marks[("s2e@pc", "sim_alba")]
    assert not marks[("s2e@pc", "sim_nigra")]
    assert marks[("s2e@pc", "pooled")]
    assert not marks["ridge@kmer"].any()


def test_the_mark_stands_at_each_score_and_has_its_legend(runs):
    text = render_text(transfer_table(read_runs(runs)))
    lines = [line for line in text.splitlines() if "sim_alba" in line]
    assert sum("sim_alba*" in line and line.count("*") == 3 for line in lines) == 1
    assert not any("*" in line for line in text.splitlines() if "sim_nigra" in line)
    assert "pre-trained on the sequence of this species" in text
    told = CliRunner().invoke(bench, ["leaderboard", str(runs), "--by-species"])
    assert told.exit_code == 0
    assert told.output.strip() == text.strip()
    told = CliRunner().invoke(bench, ["leaderboard", str(runs), "--by-species", "--json"])
    assert len(json.loads(told.stdout)) == 8
    board = CliRunner().invoke(bench, ["leaderboard", str(runs)]).output
    assert "--by-species" in board


def test_the_report_has_the_table_with_its_marks(runs):
    html = render_report(read_runs(runs), bootstrap=50)
    page = check_offline(html)
    section = html.split("From species to species")[1].split("</section>")[0]
    assert section.count('title="pre-trained on this species"') == 6  # alba, within, pooled; R², r
    assert "sim_nigra" in section
    assert "From species to species" in page.text


def test_one_species_alone_needs_no_such_table(tmp_path):
    genes = population(60, species=("sim_alba",))
    write_run(tmp_path, genes=genes, bootstrap=20)
    assert "From species to species" not in render_report(read_runs(tmp_path), bootstrap=20)
