"""The command bench: facts as JSON, messages and exit codes, a quick --help."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from benchmarks.cli import bench
from benchmarks.splits.artefact import read_split
from featurestore.errors import DamagedStoreError


@pytest.fixture
def call(fakes, monkeypatch, tmp_path):
    """Runs bench on a fake store; ``call.store`` is the store."""
    store = fakes.make_store()
    monkeypatch.setattr("featurestore.store.reader.open_store", lambda path: store)
    monkeypatch.chdir(tmp_path)

    def run(*args: str):
        return CliRunner().invoke(bench, list(args), prog_name="bench")

    run.store = store
    return run


RUN = ("run", "--store", "s.zarr", "--bootstrap", "20")


def test_run_compare_leaderboard_report(call, tmp_path):
    found = call(*RUN, "--learner", "bench_fakes:Linear", "--learner", "bench_fakes:NoFeatures",
                 "--seeds", "2", "--json")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    facts = json.loads(found.stdout)
    assert [one["method"] for one in facts] == ["fake_linear@kmer"] * 2 + ["no_features"] * 2
    assert {one["state"] for one in facts} == {"ok"}
    assert facts[0]["pooled"]["r2"] > 0.8
    assert found.stderr.count("fold") >= 20
    again = call(*RUN, "--learner", "bench_fakes:Linear", "--seeds", "2")
    assert again.exit_code == 0
    assert again.stdout.count("already there") == 2
    board = call("leaderboard", "runs", "--json")
    assert board.exit_code == 0, board.stderr
    assert [row["method"] for row in json.loads(board.stdout)] == [
        "fake_linear@kmer",
        "no_features",
    ]
    pairs = call("compare", "runs", "--json")
    assert pairs.exit_code == 0, pairs.stderr
    assert json.loads(pairs.stdout)["pairs"][0]["better"] == "fake_linear@kmer"
    assert "fake_linear@kmer" in call("compare", "runs").stdout
    written = call("report", "runs", "--json")
    assert written.exit_code == 0, written.stderr
    assert (tmp_path / "runs" / "report.html").stat().st_size == json.loads(written.stdout)["bytes"]


def test_a_failed_learner_ends_with_1_after_the_others(call):
    found = call(*RUN, "--learner", "bench_fakes:PredictsNaN", "--learner", "bench_fakes:Linear",
                 "--json")  # fmt: skip
    assert found.exit_code == 1
    assert [one["state"] for one in json.loads(found.stdout)] == ["failed", "ok"]
    assert "Traceback" not in found.stderr


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("--learner", "ridg"), 2, "Did you mean 'ridge'"),
        (("--learner", "ridge", "--features", "kmre"), 2, "Did you mean 'kmer'"),
        (("--learner", "ridge", "--task", "imputing"), 2, "unknown task 'imputing'"),
        (("--learner", "ridge", "--target", "tissue:lef"), 2, "Did you mean 'leaf'"),
        (("--learner", "ridge", "--split", "families-200fold"), 2, "200 folds"),
        (("--learner", "ridge", "--split", "random-5fold"), 4, "--allow-leakage"),
        (("--learner", "bench_fakes:CodesOnly", "--features", "kmer"), 2, "--features onehot"),
        ((), 2, "--learner"),
        (("--learner", "ridge", "--seeds", "0"), 2, "--seeds"),
    ],
)
def test_mistakes_have_their_exit_code_and_no_traceback(call, args, code, message):
    found = call(*RUN, *args)
    assert found.exit_code == code, found.output
    assert message in found.stderr
    assert "Traceback" not in found.output
    assert not found.stdout


def test_a_damaged_store_ends_with_3(call, monkeypatch):
    def refuse(path):
        raise DamagedStoreError("s.zarr/zarr.json: cut short; mend it with: fs repair s.zarr")

    monkeypatch.setattr("featurestore.store.reader.open_store", refuse)
    found = call(*RUN, "--learner", "ridge")
    assert found.exit_code == 3
    assert found.stderr == "Error: s.zarr/zarr.json: cut short; mend it with: fs repair s.zarr\n"


def test_leakage_allowed_is_said_on_the_leaderboard(call):
    found = call(*RUN, "--learner", "bench_fakes:Linear", "--split", "random-5fold",
                 "--allow-leakage")  # fmt: skip
    assert found.exit_code == 0, found.stderr
    (row,) = json.loads(call("leaderboard", "runs", "--json").stdout)
    assert row["leakage"] == "allowed"


def test_split_writes_an_artefact_that_run_takes(call, tmp_path):
    found = call("split", "--store", "s.zarr", "--repeats", "2", "--out", "x/my.parquet", "--json")
    assert found.exit_code == 0, found.stderr
    facts = json.loads(found.stdout)
    assert facts["leaks"] is False
    assert sum(row["genes"] for row in facts["folds"]) == 240
    split = read_split(tmp_path / "x" / "my.parquet")
    assert split.digest == facts["digest"]
    done = call(*RUN, "--learner", "bench_fakes:Linear", "--split", "x/my.parquet", "--seeds", "2",
                "--json")  # fmt: skip
    assert done.exit_code == 0, done.stderr
    for seed, one in enumerate(json.loads(done.stdout)):
        table = pd.read_parquet(f"{one['path']}/predictions.parquet")
        want = split.table[split.table["repeat"] == seed].set_index("gene")["fold"]
        assert (table.set_index("gene")["fold"] == want.reindex(table["gene"])).all()
    text = call("split", "--store", "s.zarr", "--split", "random-5fold").stdout
    assert "stand on two sides" in text


def test_planted_leak_in_a_file_refuses(call, tmp_path):
    genes = call.store.genes("alpha")
    fold = np.array([int(f[1:]) % 3 for f in genes.family])
    table = pd.DataFrame({"gene": genes.gene, "fold": fold})
    table.to_csv("clean.tsv", sep="\t", index=False)
    assert call(*RUN, "--learner", "bench_fakes:Linear", "--split", "file:clean.tsv").exit_code == 0
    family = genes.family[0]
    table.loc[np.flatnonzero(genes.family == family)[-1], "fold"] += 1
    table.to_csv("leaky.tsv", sep="\t", index=False)
    found = call(*RUN, "--learner", "bench_fakes:Linear", "--split", "file:leaky.tsv")
    assert found.exit_code == 4
    assert "1 gene families stand on two sides of a fold" in found.stderr
    assert f"family {family} " in found.stderr


def test_audit_of_a_split_and_of_runs(call, tmp_path):
    found = call("audit", "--store", "s.zarr", "--out", "genes.tsv", "--json")
    assert found.exit_code == 0, found.stderr
    facts = json.loads(found.stdout)
    assert facts["tested"] == 120
    listed = pd.read_csv(tmp_path / "genes.tsv", sep="\t")
    assert (listed["overlap"] > 0).sum() == facts["reasons"]["overlap"]["genes"]
    assert call(*RUN, "--learner", "bench_fakes:Linear").exit_code == 0
    text = call("audit", "--store", "s.zarr", "--runs", "runs")
    assert text.exit_code == 0, text.stderr
    assert "without those concerned by overlap" in text.stdout
    (row,) = json.loads(call("audit", "--store", "s.zarr", "--runs", "runs", "--json").stdout)
    assert len(row["scores"]) == 12


def test_learners_lists_what_there_is(call):
    found = call("learners", "--json")
    assert found.exit_code == 0, found.stderr
    rows = {row["name"]: row for row in json.loads(found.stdout)}
    assert rows["ridge"]["available"]
    assert rows["species_mean"]["control"]
    assert "ridge" in call("learners").stdout


def test_check_ends_with_1_where_the_contract_is_broken(call):
    fine = call("check", "species_mean", "--json")
    assert fine.exit_code == 0, fine.output
    facts = json.loads(fine.stdout)
    assert facts["passed"]
    assert all(one["passed"] for one in facts["checks"])
    broken = call("check", "bench_fakes:PredictsNaN")
    assert broken.exit_code == 1
    assert "FAILED" in broken.stdout
    assert call("check", "ridgee").exit_code == 2


def test_unknown_command_has_a_suggestion(call):
    found = call("leaderbord")
    assert found.exit_code == 2
    assert "Did you mean 'leaderboard'?" in found.stderr


def test_every_command_is_there_and_has_help(call):
    listed = call("--help").stdout
    for name in ("run", "split", "audit", "learners", "check", "compare", "leaderboard", "report"):
        assert name in listed
        found = call(name, "--help")
        assert found.exit_code == 0, found.output
        assert "--json" in found.stdout


def test_help_imports_nothing_heavy():
    heavy = "numpy pandas scipy sklearn torch transformers xgboost lightgbm zarr xarray dask pyarrow matplotlib"
    script = (
        "import sys, benchmarks.cli\n"
        "try: benchmarks.cli.main()\n"
        "except SystemExit: pass\n"
        f"print('|', [m for m in {heavy.split()!r} if m in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True
    )
    assert found.stdout.endswith("| []\n")
