"""A trained run applied: the right fold, the same features, nothing executed, nothing dropped."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import featurestore
from benchmarks.cli import bench
from benchmarks.predict.apply import Matched, predict_genes, predict_lines
from benchmarks.predict.inputs import differences
from benchmarks.predict.output import read_about, write_predictions
from benchmarks.predict.trained import TrainedRun
from benchmarks.splits.artefact import Split, read_split, write_split
from featurestore.errors import InputError, UnknownNameError
from featurestore.sequence.iupac import decode

CONSTANT = "bench_grammar:MeanOfFold"


def bench_predict(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(bench, ["predict", *map(str, words)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def store(trained):
    return featurestore.open(trained[0] / "store.zarr")


@pytest.fixture(scope="module")
def constants(trained) -> TrainedRun:
    return TrainedRun(trained[1]["mean_of_fold"], CONSTANT)


def constant_of(run: TrainedRun) -> dict[int, float]:
    """What the model of each fold says, from its file."""
    return {
        fold: json.loads((run.path / "model" / f"0-{fold}" / "mean.json").read_text())
        for fold in run.folds
    }


def test_a_gene_of_the_run_is_predicted_by_the_fold_that_tested_it(store, constants):
    said = constant_of(constants)
    assert len(set(said.values())) == 5  # the folds can be told apart
    table = predict_genes(Matched.of(constants, store, store.species))
    split = pd.read_parquet(constants.path / "split.parquet")
    fold = split.set_index(["species", "gene"])["fold"].to_dict()
    for row in table.itertuples():
        assert row.prediction == said[fold[row.species, row.gene]]
        assert row.folds == str(fold[row.species, row.gene])
    assert table["sd"].isna().all()
    assert set(table["note"]) == {"trained on"}
    assert constants.fold_of(table["gene"][0]) == fold[table["species"][0], table["gene"][0]]
    assert constants.fold_of("no such gene") is None


@pytest.mark.parametrize("name", ["ridge", "saw_the_grammar"])
def test_predictions_are_those_of_the_run(trained, store, name):
    learner = "bench_grammar:SawTheGrammar" if name == "saw_the_grammar" else None
    run = TrainedRun(trained[1][name], learner)
    table = predict_genes(Matched.of(run, store, store.species))
    known = pd.read_parquet(run.path / "predictions.parquet")
    both = table.merge(known, on=["species", "gene"], validate="1:1")
    assert len(both) == 120
    np.testing.assert_allclose(both["prediction"], both["y_pred"], atol=1e-12)


def test_a_new_gene_takes_the_fold_that_knew_nothing_of_its_family(constants):
    said = constant_of(constants)
    split = pd.read_parquet(constants.path / "split.parquet")
    family, fold = split["family"][0], int(split["fold"][0])
    mine = constants.choose("new", "elsewhere", family, has_family=True)
    assert (mine.folds, mine.note) == ((fold,), "family trained on")
    other = constants.choose("new", "elsewhere", "NEVERSEEN", has_family=True)
    assert (other.folds, other.note) == ((0, 1, 2, 3, 4), "unseen family")
    none = constants.choose("new", "elsewhere", "elsewhere:new", has_family=False)
    assert (none.folds, none.note) == ((0, 1, 2, 3, 4), "no family known")
    values = np.array(list(said.values()))
    assert values.std(ddof=1) > 0


def test_families_of_a_data_set_decide_and_new_ones_get_the_mean_of_all_folds(
    trained, constants, tmp_path
):
    """The same genomes under other gene ids and species names: nobody is known but by family."""
    data = trained[0] / "data"
    split = pd.read_parquet(constants.path / "split.parquet")
    fold = split.set_index("family")["fold"].to_dict()
    for file in ("simulated_beta.fa", "simulated_beta.gff3", "families.tsv"):
        text = (data / file).read_text()
        (tmp_path / file).write_text(text.replace("simB", "newB"))
    lines = (tmp_path / "families.tsv").read_text().splitlines()
    dropped = [x.split("\t")[0] for x in lines if x.startswith("newB")][:7]
    (tmp_path / "families.tsv").write_text(
        "\n".join(x for x in lines if x.split("\t")[0] not in dropped) + "\n"
    )
    (tmp_path / "dataset.toml").write_text(
        '[species.new_beta]\ngenome = "simulated_beta.fa"\nannotation = "simulated_beta.gff3"\n'
        'families = "families.tsv"\n'
    )
    code, said = bench_predict(
        tmp_path, "--model", constants.path, "--learner", CONSTANT, "--out", tmp_path / "p.parquet"
    )
    assert code == 0, said
    table = pd.read_parquet(tmp_path / "p.parquet").set_index("gene")
    constant = constant_of(constants)
    every = np.array(list(constant.values()))
    assert len(table) == 60
    for gene, row in table.iterrows():
        if gene in dropped:
            assert row["note"] == "no family known"
            assert row["prediction"] == pytest.approx(every.mean())
            assert row["sd"] == pytest.approx(every.std(ddof=1))
        else:
            assert row["note"] == "family trained on"
            assert row["prediction"] == constant[fold[row["family"]]]
    assert not list(tmp_path.glob(".predict-*"))  # the work folder is gone
    assert read_about(tmp_path / "p.parquet")["run"] == constants.name


def test_a_data_set_and_sequences_give_what_the_store_gives(trained, store, tmp_path):
    run = trained[1]["ridge"]
    assert (
        bench_predict("--model", run, "--store", store.path, "--out", tmp_path / "s.parquet")[0]
        == 0
    )
    wanted = pd.read_parquet(tmp_path / "s.parquet").set_index(["species", "gene"])["prediction"]
    code, said = bench_predict(
        trained[0] / "data", "--model", run, "--species", "simulated_beta", "--keep-store",
        tmp_path / "kept.zarr", "--out", tmp_path / "d.csv",
    )  # fmt: skip
    assert code == 0, said
    found = pd.read_csv(tmp_path / "d.csv").set_index(["species", "gene"])["prediction"]
    np.testing.assert_allclose(found, wanted.loc[found.index])
    kept = featurestore.open(tmp_path / "kept.zarr")
    assert kept.species == ["simulated_beta"]
    assert kept.variant_sets("simulated_beta") == []
    genes = store.genes("simulated_alpha").gene[:8].tolist()
    codes = store.features("simulated_alpha", "onehot", genes)
    files = []
    for i, region in enumerate(("promoter", "terminator")):
        file = tmp_path / f"{region}.fa"
        file.write_text(
            "".join(f">{g}\n{decode(c[i])}\n" for g, c in zip(genes, codes, strict=True))
        )
        files += ["--fasta", f"{region}={file}"]
    code, said = bench_predict(
        "--model", run, *files, "--species", "simulated_alpha", "--out", tmp_path / "f.tsv"
    )
    assert code == 0, said
    found = pd.read_csv(tmp_path / "f.tsv", sep="\t").set_index(["species", "gene"])["prediction"]
    np.testing.assert_allclose(found, wanted.loc[found.index])
    assert set(found.index.get_level_values("gene")) == set(genes)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ('bin = 250', "bins are 125 bp, in the run 250 bp"),
        ('promoter   = { anchor = "tss", upstream = 1000', "promoter tss −1250"),
        ('[species.simulated_alpha]', r"parameters.k is [1, 2], in the run [1, 2, 3]"),
    ],
    ids=["bin", "region", "setting"],
)  # fmt: skip
def test_a_store_of_other_features_is_refused_by_name(trained, tmp_path, change, told):
    data = tmp_path / "data"
    shutil.copytree(trained[0] / "data", data, ignore=shutil.ignore_patterns("truth"))
    new = {
        "bin = 250": "bin = 125",
        'promoter   = { anchor = "tss", upstream = 1000': 'promoter   = { anchor = "tss", upstream = 1250',
        "[species.simulated_alpha]": "[embedders.kmer]\nk = [1, 2]\n\n[species.simulated_alpha]",
    }[change]
    text = (data / "dataset.toml").read_text()
    assert change in text
    (data / "dataset.toml").write_text(
        text.replace(change, new).partition("[species.simulated_beta]")[0]
    )
    from featurestore.build.engine import build

    build(data / "dataset.toml", tmp_path / "o.zarr", embedders=["kmer"])
    code, said = bench_predict(
        "--model", trained[1]["ridge"], "--store", tmp_path / "o.zarr", "--out", tmp_path / "x.csv"
    )
    assert code == 2
    assert told in said
    assert not (tmp_path / "x.csv").exists()


def test_a_data_set_that_declares_another_embedder_of_the_name_is_refused(trained, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(trained[0] / "data", data, ignore=shutil.ignore_patterns("truth"))
    text = (data / "dataset.toml").read_text()
    (data / "dataset.toml").write_text(text + "\n[embedders.kmer]\ncanonical = true\n")
    code, said = bench_predict(data, "--model", trained[1]["ridge"], "--out", tmp_path / "x.csv")
    assert code == 2
    assert "parameters.canonical is True, in the run False" in said


def test_other_library_versions_and_names_of_equal_weights_make_no_difference():
    wanted = {
        "type": "pc",
        "digest": "abc",
        "checkpoint": "a",
        "packages": {"torch": "2"},
        "batch": 4,
    }
    assert (
        differences(wanted, {**wanted, "packages": {"torch": "3"}, "checkpoint": "b", "batch": 8})
        == []
    )
    # What an older version did not record yet was the default.
    assert differences(wanted, {**wanted, "positions": 0, "span_bp": None}) == []
    assert differences(wanted, {**wanted, "positions": 5}) == ["positions is 5, in the run 0"]
    assert differences(wanted, {**wanted, "digest": "abd"}) == ["digest is 'abd', in the run 'abc'"]


def test_lines_of_a_variant_set(trained, store):
    run = TrainedRun(trained[1]["ridge"])
    matched = Matched.of(run, store, store.species)
    table = predict_lines(matched, "mutants")
    plain = predict_genes(matched).set_index("gene")["prediction"]
    np.testing.assert_allclose(table["reference"], table["gene"].map(plain), atol=1e-12)
    np.testing.assert_allclose(table["delta"], table["prediction"] - table["reference"], atol=1e-12)
    assert (table["delta"] != 0).mean() > 0.5
    # Each by hand, through another reader, from the weights of its fold.
    for row in table.iloc[::17].itertuples():
        weights = run.learner(int(row.folds))
        ends = []
        for copy in (1, 2):
            x = store.variant_features(
                "simulated_alpha", "mutants", "kmer", row.gene, row.line, copy=copy
            )
            ends.append(
                float(x.astype(float).ravel() @ weights._weight[:, 0] + weights._intercept[0])
            )
        wanted = np.log10((10 ** ends[0] + 10 ** ends[1]) / 2)
        assert row.prediction == pytest.approx(wanted, abs=1e-9)
    with pytest.raises(UnknownNameError, match="variant set"):
        predict_lines(matched, "mutant")


def test_lines_of_a_data_set_and_of_its_store_agree(trained, store, tmp_path):
    for name, source in (("d", [trained[0] / "data"]), ("s", ["--store", store.path])):
        code, said = bench_predict(
            *source, "--model", trained[1]["ridge"], "--variants", "mutants", "--out", tmp_path / f"{name}.parquet"
        )  # fmt: skip
        assert code == 0, said
    pd.testing.assert_frame_equal(
        pd.read_parquet(tmp_path / "d.parquet"), pd.read_parquet(tmp_path / "s.parquet")
    )


def test_a_gene_without_usable_features_has_a_row_that_says_why(trained, tmp_path):
    run, genes = trained[1]["ridge"], {"good": "ACGT" * 375, "empty": "N" * 1500}
    files = []
    for region in ("promoter", "terminator"):
        file = tmp_path / f"{region}.fa"
        file.write_text("".join(f">{g}\n{s}\n" for g, s in genes.items()))
        files += ["--fasta", f"{region}={file}"]
    code, said = bench_predict(
        "--model", run, *files, "--species", "x", "--out", tmp_path / "p.csv"
    )
    assert code == 0, said
    table = pd.read_csv(tmp_path / "p.csv").set_index("gene")
    assert np.isfinite(table.loc["good", "prediction"])
    assert np.isnan(table.loc["empty", "prediction"])
    assert table.loc["empty", "note"].startswith("not predicted: kmer: ")
    assert "1 not predicted" in said


def test_one_region_alone_is_refused(trained, tmp_path):
    (tmp_path / "p.fa").write_text(">g\n" + "ACGT" * 300 + "\n")
    for given, told in (
        (f"promoter={tmp_path}/p.fa", "terminator"),
        (f"{tmp_path}/p.fa", "REGION=FILE"),
    ):
        code, said = bench_predict("--model", trained[1]["ridge"], "--fasta", given, "--out", tmp_path / "x.csv")  # fmt: skip
        assert code == 2
        assert told in said


def test_a_run_made_before_its_inputs_were_recorded_says_so(trained, store, tmp_path):
    old = tmp_path / "old"
    shutil.copytree(trained[1]["ridge"], old)
    body = json.loads((old / "run.json").read_text())
    del body["inputs"]
    (old / "run.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match="run it again"):
        Matched.of(TrainedRun(old), store, store.species)


@pytest.mark.parametrize("damage", ["split", "model", "learner", "failed"])
def test_a_run_whose_files_do_not_belong_together_is_refused(trained, tmp_path, damage):
    run = tmp_path / "run"
    shutil.copytree(trained[1]["ridge"], run)
    body = json.loads((run / "run.json").read_text())
    if damage == "split":
        split = read_split(run / "split.parquet")
        write_split(Split(split.table.assign(fold=0), split.recipe), run / "split.parquet")
    elif damage == "model":
        shutil.rmtree(run / "model")
    elif damage == "learner":
        body["identity"]["learner"]["name"] = "os:system"
    else:
        body["status"] = "failed"
    (run / "run.json").write_text(json.dumps(body))
    with pytest.raises(InputError, match=r"run it again|learner 'os|so it has no models"):
        TrainedRun(run).split  # noqa: B018


def test_a_table_is_no_spreadsheet_formula(tmp_path):
    table = pd.DataFrame({"gene": ["=1+1", "AT1"], "prediction": [-1.5, np.nan]})
    write_predictions(tmp_path / "t.csv", table, {})
    rows = list(csv.reader((tmp_path / "t.csv").read_text().splitlines()))
    assert rows == [["gene", "prediction"], ["'=1+1", "-1.5"], ["AT1", ""]]
    with pytest.raises(InputError, match="parquet"):
        write_predictions(tmp_path / "t.xlsx", table, {})


def test_one_source_is_asked_for(trained, tmp_path):
    for words in ([], [trained[0] / "data", "--store", trained[0] / "store.zarr"]):
        code, said = bench_predict(
            *words, "--model", trained[1]["ridge"], "--out", tmp_path / "x.csv"
        )
        assert code == 2
        assert "give one of DATASET, --store" in said


def test_roles_spelt_out_and_species_left_out_choose_clean_folds(constants, tmp_path):
    """A gene that only ever trained is said to be known; families kept out of training are clean."""
    table = pd.DataFrame({
        "gene": ["a", "b", "a", "b", "c"], "species": "s", "family": ["F1", "F2", "F1", "F2", "F1"],
        "repeat": 0, "fold": [0, 0, 1, 1, 1], "role": ["test", "train", "train", "test", "train"],
    })  # fmt: skip
    run = object.__new__(TrainedRun)
    run.folds, run.repeat, run.path = [0, 1], 0, Path("x")
    run.__dict__["split"] = Split(table, {"name": "file"})
    assert run.choose("a", "s", "F1", has_family=True).folds == (0,)
    # c is of a's family: fold 1 trained on it, fold 0 did not.
    assert run.choose("c", "s", "F1", has_family=True).folds == (0,)
    assert run.choose("new", "s", "F2", has_family=True).folds == (1,)
    left_out = pd.DataFrame({
        "gene": ["a", "b", "c"], "species": ["s", "t", "u"], "family": ["F1", "F1", "F2"],
        "repeat": 0, "fold": [0, 1, 2],
    })  # fmt: skip
    run = object.__new__(TrainedRun)
    run.folds, run.repeat, run.path = [0, 1, 2], 0, Path("x")
    run.__dict__["split"] = Split(left_out, {"name": "loso", "exclude_test_families": True})
    assert run.choose("new", "v", "F1", has_family=True).folds == (0, 1)
    run = object.__new__(TrainedRun)
    run.folds, run.repeat, run.path = [0, 1, 2], 0, Path("x")
    run.__dict__["split"] = Split(left_out, {"name": "loso"})
    chosen = run.choose("new", "v", "F1", has_family=True)
    assert chosen.folds == (0, 1, 2)
    assert chosen.note == "family trained on: no fold is without it"
