"""Runs: what is written, failures as rows, resume of only what is missing, labels out of reach."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from benchmarks.inputs.features import resolve
from benchmarks.inputs.genes import gene_frame
from benchmarks.runs.files import METRIC_COLUMNS, PREDICTION_COLUMNS, digest_of, read_run, read_runs
from benchmarks.runs.plans import RunOptions, read_params
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from benchmarks.scores.methods import group_runs
from benchmarks.tasks import get_task
from featurestore.errors import DamagedStoreError, InputError, LeakageError, UnknownNameError
from learners.base import Budget

RUN_KEYS = [
    "schema", "run", "status", "error", "identity", "identity_digest", "dataset_digest",
    "device", "threads", "times", "peak_memory_bytes", "contamination", "inputs", "funnel", "folds", "bootstrap",
    "audit", "notes",
]  # fmt: skip
IDENTITY_KEYS = {
    "task", "target", "unit", "simulated", "split", "learner", "features", "seed", "store",
    "labels_digest", "species", "versions",
}  # fmt: skip


def options(tmp_path: Path, *learners: str, **changes) -> RunOptions:
    changes.setdefault("bootstrap", 20)
    return RunOptions([f"bench_fakes:{x}" for x in learners], out=tmp_path / "runs", **changes)


def quiet() -> Progress:
    return Progress(0, StringIO())


def fits(tmp_path: Path) -> int:
    log = tmp_path / "fits.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_run_writes_what_the_contract_says(fakes, tmp_path):
    store = fakes.make_store()
    (outcome,) = run(store, options(tmp_path, "Linear"), quiet())
    assert outcome.state == "ok"
    result = read_run(outcome.path)
    record = result.run
    assert list(record) == RUN_KEYS
    assert set(record["identity"]) == IDENTITY_KEYS
    assert set(record["identity"]["split"]) == {"name", "digest", "recipe", "leakage_allowed"}
    assert set(record["identity"]["learner"]) == {
        "name",
        "params",
        "reference",
        "control",
        "inputs",
    }
    assert record["identity"]["unit"] == "log10(1+TPM)"
    assert record["identity"]["simulated"] is True
    assert record["identity_digest"] == digest_of(record["identity"])
    assert outcome.path.name == (
        f"expression.median.families-5fold.fake_linear@kmer.0.{record['identity_digest'][:8]}"
    )
    assert record["peak_memory_bytes"] > 1_000_000
    assert record["times"]["wall_s"] >= record["times"]["fit_s"] > 0
    assert list(result.metrics.columns) == list(METRIC_COLUMNS)
    assert list(result.predictions.columns[:3]) == ["gene", "species", "family"]
    assert set(PREDICTION_COLUMNS) == set(result.predictions.columns)
    assert len(result.learning) == 5
    assert sorted(p.name for p in (outcome.path / "model").iterdir()) == [
        f"0-{fold}" for fold in range(5)
    ]
    assert not (outcome.path / "folds").exists()
    assert [f["fold"] for f in record["folds"]] == [0, 1, 2, 3, 4]


def test_every_gene_is_predicted_once_by_a_model_that_never_saw_its_family(fakes, tmp_path):
    store = fakes.make_store()
    (outcome,) = run(store, options(tmp_path, "Linear"), quiet())
    predictions = read_run(outcome.path).predictions
    genes = store.genes("alpha")
    assert sorted(predictions["gene"]) == sorted(genes.gene)
    y = np.log10(1 + np.median(store.expression("alpha").value.astype(float), axis=1))
    truth = dict(zip(genes.gene, y, strict=True))
    np.testing.assert_allclose(predictions["y_true"], predictions["gene"].map(truth))
    # Refit each fold by hand from the split artefact, nothing of the runner in between.
    split = pd.read_parquet(outcome.path / "split.parquet")
    fold_of = dict(zip(split["gene"], split["fold"], strict=True))
    for fold, part in predictions.groupby("fold"):
        assert {fold_of[g] for g in part["gene"]} == {fold}
        others = {f for g, f in zip(genes.gene, genes.family, strict=True) if fold_of[g] != fold}
        assert not others & set(part["family"])
    assert r2_score(predictions["y_true"], predictions["y_pred"]) > 0.8
    pooled = read_run(outcome.path).metrics.query("metric == 'r2' and scope == 'pooled'")
    assert pooled["value"].iloc[0] == pytest.approx(
        r2_score(predictions["y_true"], predictions["y_pred"])
    )


def test_saved_models_give_the_predictions_of_their_fold(fakes, tmp_path):
    store = fakes.make_store()
    (outcome,) = run(store, options(tmp_path, "Linear"), quiet())
    predictions = read_run(outcome.path).predictions
    x = store.feature_source("alpha", "kmer").values.reshape(120, -1).astype(float)
    row = {g: i for i, g in enumerate(store.genes("alpha").gene)}
    for fold, part in predictions.groupby("fold"):
        weight = np.load(outcome.path / "model" / f"0-{fold}" / "weight.npy")
        here = x[[row[g] for g in part["gene"]]]
        again = np.concatenate([np.ones((len(here), 1)), here], axis=1) @ weight
        np.testing.assert_allclose(part["y_pred"], again[:, 0], rtol=1e-9)


def test_no_test_label_is_in_the_batch_to_predict(fakes, tmp_path):
    run(fakes.make_store(), options(tmp_path, "Linear"), quiet())
    assert len(fakes.Linear.seen) == 5
    for batch in fakes.Linear.seen:
        assert batch.targets is None
        assert batch.mask is None
        assert len(batch) < 120


def test_seeds_are_runs_with_splits_of_their_own(fakes, tmp_path):
    outcomes = run(fakes.make_store(), options(tmp_path, "Linear", seeds=2), quiet())
    runs = [read_run(o.path) for o in outcomes]
    assert [set(r.predictions["repeat"]) for r in runs] == [{0}, {1}]
    assert runs[0].identity["split"]["digest"] != runs[1].identity["split"]["digest"]
    (group,) = group_runs(runs)
    assert len(group.methods) == 1


def test_finished_runs_are_left_alone(fakes, tmp_path):
    store = fakes.make_store()
    (first,) = run(store, options(tmp_path, "Linear"), quiet())
    before = (first.path / "predictions.parquet").stat().st_mtime_ns
    done = fits(tmp_path)
    (second,) = run(store, options(tmp_path, "Linear"), quiet())
    assert second.state == "already there"
    assert fits(tmp_path) == done == 5
    assert (first.path / "predictions.parquet").stat().st_mtime_ns == before
    (third,) = run(store, options(tmp_path, "Linear", params=["penalty=3"]), quiet())
    assert third.path != first.path
    (fourth,) = run(store, options(tmp_path, "Linear", budget=Budget(rounds=3)), quiet())
    assert fourth.path not in (first.path, third.path)


def test_a_store_that_has_grown_leaves_its_runs_as_they_are(fakes, tmp_path):
    store = fakes.make_store()
    (first,) = run(store, options(tmp_path, "Linear"), quiet())
    # Another species or VCF in dataset.toml: what the run reads of the store is the same.
    store.attrs["meristem"]["dataset_digest"] = "f" * 64
    (second,) = run(store, options(tmp_path, "Linear"), quiet())
    assert (second.state, second.path) == ("already there", first.path)
    assert read_run(first.path).run["dataset_digest"] == "e" * 64
    (other,) = run(store, options(tmp_path, "Linear", params=["penalty=3"]), quiet())
    (group,) = group_runs([read_run(first.path), read_run(other.path)])
    assert len(group.methods) == 2


@pytest.mark.parametrize("leaky", [False, True])
def test_other_replicates_are_drawn_from_the_predictions_that_are_there(fakes, tmp_path, leaky):
    store = fakes.make_store()
    kind = {"split": "random-5fold", "allow_leakage": True} if leaky else {}
    quick = options(tmp_path, "Linear", bootstrap=0, **kind)
    (first,) = run(store, quick, quiet())
    assert read_run(first.path).metrics["ci_low"].isna().all()
    predictions = (first.path / "predictions.parquet").read_bytes()
    (second,) = run(store, replace(quick, bootstrap=50), quiet())
    assert (second.state, second.path) == ("scored again", first.path)
    assert fits(tmp_path) == 5
    assert (first.path / "predictions.parquet").read_bytes() == predictions
    (fresh,) = run(store, replace(quick, bootstrap=50, out=tmp_path / "fresh"), quiet())
    pd.testing.assert_frame_equal(read_run(first.path).metrics, read_run(fresh.path).metrics)
    record, wanted = read_run(first.path).run, read_run(fresh.path).run
    for one in (record, wanted):  # what clocks and meters say
        for name in ("times", "peak_memory_bytes", "folds"):
            one.pop(name)
    assert record == wanted
    (third,) = run(store, replace(quick, bootstrap=50), quiet())
    assert third.state == "already there"


def test_the_digest_of_labels_is_of_labels_alone(fakes):
    def digest(store, features="kmer", target="median"):
        genes = gene_frame(store, ["alpha"])
        task = get_task("expression")
        found = resolve(store, ["alpha"], features)
        return task.prepare(store, ["alpha"], genes, found, target).labels_digest

    store = fakes.make_store()
    first = digest(store)
    assert digest(store, "onehot") == digest(store, "") == first
    store.feature_source("alpha", "kmer").values[:] = 0
    store.held["alpha"].status["kmer"][:9] = False
    assert digest(store) == first
    assert digest(store, target="max") != first
    held = store.held["alpha"]
    back = np.arange(120)[::-1]
    for name in ("gene", "locus", "contig", "family", "strand", "tss", "tts"):
        setattr(held.genes, name, getattr(held.genes, name)[back])
    held.expression.value = held.expression.value[back]
    assert digest(store) == first
    held.expression.value[5] += 1
    assert digest(store) != first


def test_a_failing_learner_is_a_row_and_the_others_go_on(fakes, tmp_path):
    store = fakes.make_store()
    outcomes = run(store, options(tmp_path, "FailsInFold3", "Linear"), quiet())
    assert [o.state for o in outcomes] == ["failed", "ok"]
    failed = read_run(outcomes[0].path)
    assert failed.status == "failed"
    assert failed.predictions is None
    assert failed.metrics is None
    assert failed.run["error"]["type"] == "RuntimeError"
    assert failed.run["error"]["message"] == "the third fold is cursed"
    assert "bench_fakes.py" in failed.run["error"]["traceback"]
    assert [f["status"] for f in failed.run["folds"]] == ["ok", "ok", "failed", "ok", "ok"]
    assert len(read_runs(tmp_path / "runs")) == 2
    before = fits(tmp_path)
    (again,) = run(store, options(tmp_path, "FailsInFold3"), quiet())
    assert again.state == "ok"
    assert fits(tmp_path) == before + 1  # the fourth fit of the process, in the missing fold
    reference = read_run(outcomes[1].path).predictions
    pd.testing.assert_frame_equal(read_run(again.path).predictions, reference)


@pytest.mark.parametrize(
    ("learner", "message"), [("PredictsNaN", "NaN or infinite"), ("PredictsFlat", "shape")]
)
def test_bad_predictions_are_failures(fakes, tmp_path, learner, message):
    (outcome,) = run(fakes.make_store(), options(tmp_path, learner), quiet())
    assert outcome.state == "failed"
    assert message in outcome.error["message"]


SCRIPT = """
from pathlib import Path
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.runner import run
import bench_fakes
options = RunOptions(["bench_fakes:DiesInFold3"], out=Path({out!r}), bootstrap=20)
run(bench_fakes.make_store(), options)
"""


def test_killed_run_resumes_to_the_same_bytes(fakes, tmp_path):
    paths = [str(Path(fakes.__file__).parent), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "BENCH_FAKES_DIE": "1"}
    script = SCRIPT.format(out=str(tmp_path / "runs"))
    killed = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert fits(tmp_path) == 2
    store = fakes.make_store()
    (resumed,) = run(store, options(tmp_path, "DiesInFold3"), quiet())
    assert resumed.state == "ok"
    assert fits(tmp_path) == 5
    whole = replace(options(tmp_path, "DiesInFold3"), out=tmp_path / "other")
    (never_killed,) = run(store, whole, quiet())
    for name in ("predictions.parquet", "metrics.parquet", "learning.parquet", "split.parquet"):
        assert (resumed.path / name).read_bytes() == (never_killed.path / name).read_bytes()


def test_leaving_the_process_mid_way_passes_through_and_resumes(fakes, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_FAKES_STOP", "1")
    store = fakes.make_store()
    with pytest.raises(SystemExit):
        run(store, options(tmp_path, "StopsInFold3"), quiet())
    with pytest.raises(InputError, match="no runs here"):
        read_runs(tmp_path / "runs")
    monkeypatch.delenv("BENCH_FAKES_STOP")
    said = StringIO()
    (outcome,) = run(store, options(tmp_path, "StopsInFold3"), Progress(0, said))
    assert outcome.state == "ok"
    assert fits(tmp_path) == 5
    assert said.getvalue().count("kept from before") == 2


def test_leakage_refuses_unless_allowed_and_then_every_row_says_so(fakes, tmp_path):
    store = fakes.make_store()
    leaky = options(tmp_path, "Linear", split="random-5fold")
    with pytest.raises(LeakageError):
        run(store, leaky, quiet())
    assert fits(tmp_path) == 0
    (outcome,) = run(store, replace(leaky, allow_leakage=True), quiet())
    result = read_run(outcome.path)
    assert result.identity["split"]["leakage_allowed"] is True
    assert result.predictions["leakage_allowed"].all()
    assert result.metrics["leakage_allowed"].all()
    assert any("leakage allowed" in note for note in result.run["notes"])


def test_genes_that_fall_out_are_in_the_funnel_with_their_reason(fakes, tmp_path):
    store = fakes.make_store()
    held = store.held["alpha"]
    held.status["kmer"][:4] = False
    held.expression.value[4:7] = np.nan
    (outcome,) = run(store, options(tmp_path, "Linear"), quiet())
    result = read_run(outcome.path)
    scored = result.run["funnel"][-1]
    assert (scored["stage"], scored["count"]) == ("scored", 113)
    reasons = {one["reason"]: one["count"] for one in scored["lost"]}
    assert reasons == {"kmer: promoter: no_sequence": 4, "no value for target median": 3}
    assert len(result.predictions) == 113


def test_controls_need_no_features_and_defaults_follow_the_learner(fakes, tmp_path):
    store = fakes.make_store()
    outcomes = run(store, options(tmp_path, "Linear", "NoFeatures", "CodesOnly"), quiet())
    assert [o.label for o in outcomes] == [
        "fake_linear@kmer", "no_features", "codes_only@onehot",
    ]  # fmt: skip
    assert {o.state for o in outcomes} == {"ok"}
    with pytest.raises(InputError, match="use --features onehot"):
        run(store, options(tmp_path, "CodesOnly", features="kmer"), quiet())
    own = RunOptions(["bench_fakes:Linear@kmer:pooled"], out=tmp_path / "runs", bootstrap=0)
    (outcome,) = run(store, own, quiet())
    assert outcome.label == "fake_linear@kmer:pooled"
    assert ":" not in outcome.name


def test_several_targets_with_a_learner_of_one(fakes, tmp_path):
    store = fakes.make_store()
    store.held["alpha"].expression.value[:10, 0] = np.nan
    (outcome,) = run(store, options(tmp_path, "Linear", target="each"), quiet())
    result = read_run(outcome.path)
    assert result.predictions.groupby("target").size().to_dict() == {
        "s0": 110, "s1": 120, "s2": 120,
    }  # fmt: skip
    scopes = set(result.metrics["scope"])
    assert {"sample:s0", "sample:s1", "sample:s2"} <= scopes
    assert not any(scope.startswith("tissue:") for scope in scopes)
    assert (outcome.path / "model" / "0-0" / "2").is_dir()


def test_species_are_joined_and_contamination_names_what_a_model_has_seen(fakes, tmp_path):
    store = fakes.make_store(80, species=2, families=40)
    store.held["beta"].attrs["kmer"] = {"pretraining_species": ["Beta", "Zea mays"]}
    (outcome,) = run(store, options(tmp_path, "Linear", split="leave-one-species-out"), quiet())
    result = read_run(outcome.path)
    assert result.run["contamination"] == {"kmer": ["beta"]}
    assert set(result.predictions["species"]) == {"alpha", "beta"}
    assert {"species:alpha", "within-species"} <= set(result.metrics["scope"])
    assert any("kept out of training" in note for note in result.run["notes"])
    (one,) = run(store, options(tmp_path, "Linear", species=["beta"]), quiet())
    assert set(read_run(one.path).predictions["species"]) == {"beta"}


def test_a_species_without_expression_is_named_with_what_to_run_instead(fakes, tmp_path):
    alpha, beta, gamma = (
        fakes.make_species(name, 60, seed=i, prefix=name)
        for i, name in enumerate(("alpha", "beta", "gamma"))
    )
    gamma.expression = None
    loso = options(tmp_path, "Linear", "NoFeatures", split="leave-one-species-out")
    two = fakes.FakeStore({"alpha": alpha, "gamma": gamma})
    with pytest.raises(InputError, match=r"fold alpha: .*gamma has no labelled gene") as told:
        run(two, loso, quiet())
    assert "--species alpha --split families-5fold" in str(told.value)
    assert fits(tmp_path) == 0
    alone = replace(loso, species=["alpha"], split="families-5fold")
    assert {o.state for o in run(two, alone, quiet())} == {"ok"}
    three = fakes.FakeStore({"alpha": alpha, "beta": beta, "gamma": gamma})
    outcomes = run(three, loso, quiet())
    assert {o.state for o in outcomes} == {"ok"}
    result = read_run(outcomes[0].path)
    assert set(result.predictions["species"]) == {"alpha", "beta"}
    assert [f["n_test"] for f in result.run["folds"]] == [60, 60, 0]
    # A tenth of the 60 labelled genes, to whole families of two or so.
    assert all(6 <= f["n_valid"] <= 12 for f in result.run["folds"][:2])


def test_a_damaged_store_is_not_blamed_on_the_learner(fakes, tmp_path):
    store = fakes.make_store()

    def read(rows):
        raise DamagedStoreError("kmer/embedding/c/0: checksum")

    store.feature_source("alpha", "kmer").read = read
    with pytest.raises(DamagedStoreError):
        run(store, options(tmp_path, "Linear"), quiet())


def test_mistakes_are_told_before_anything_is_fitted(fakes, tmp_path):
    store = fakes.make_store()
    with pytest.raises(UnknownNameError, match="expression"):
        run(store, options(tmp_path, "Linear", task="expresion"), quiet())
    with pytest.raises(UnknownNameError, match="Did you mean 'kmer'"):
        run(store, options(tmp_path, "Linear", features="kmr"), quiet())
    with pytest.raises(UnknownNameError, match="penalty"):
        run(store, options(tmp_path, "Linear", params=["penalt=1"]), quiet())
    with pytest.raises(InputError, match="no learner"):
        run(store, options(tmp_path), quiet())
    with pytest.raises(UnknownNameError, match="alpha"):
        run(store, options(tmp_path, "Linear", species=["alpa"]), quiet())
    assert fits(tmp_path) == 0


def test_params_reach_the_learners_they_are_for(fakes):
    info = fakes.Linear.info
    codes = replace(fakes.CodesOnly.info, defaults={})
    found = read_params(["penalty=2", "fake_linear.penalty=3"], {"a": info, "b": codes})
    assert found == {"a": {"penalty": 3}, "b": {}}
    assert read_params(["penalty=none"], {"a": info}) == {"a": {"penalty": None}}
    with pytest.raises(InputError, match="key=value"):
        read_params(["penalty"], {"a": info})
    with pytest.raises(UnknownNameError):
        read_params(["ridge.penalty=3"], {"a": info})


def test_an_edited_learner_is_another_run(tmp_path, fakes, monkeypatch):
    module = tmp_path / "own_learner.py"
    text = "import bench_fakes\nclass Mine(bench_fakes.Linear):\n    pass\n"
    module.write_text(text)
    monkeypatch.chdir(tmp_path)
    one = RunOptions(["own_learner:Mine"], out=tmp_path / "runs", bootstrap=0)
    store = fakes.make_store()
    (first,) = run(store, one, quiet())
    module.write_text(text + "# edited\n")
    (second,) = run(store, one, quiet())
    assert second.state == "ok"
    assert first.path != second.path
    sys.modules.pop("own_learner")


def test_real_learners_run_on_the_fake_store(fakes, tmp_path):
    wanted = RunOptions(
        ["ridge", "shuffled_labels", "species_mean", "family_mean"], out=tmp_path, bootstrap=20
    )
    outcomes = run(fakes.make_store(300, families=80), wanted, quiet())
    assert {o.state for o in outcomes} == {"ok"}, [o.error for o in outcomes]
    r2 = {}
    for outcome in outcomes:
        metrics = read_run(outcome.path).metrics
        rows = metrics[(metrics["metric"] == "r2") & (metrics["scope"] == "pooled")]
        r2[outcome.label] = rows["value"].iloc[0]
    assert r2["ridge@kmer"] > 0.8
    assert abs(r2["shuffled_labels@kmer"]) < 0.15
    assert abs(r2["species_mean"]) < 0.15


def test_run_json_is_strict_json(fakes, tmp_path):
    (outcome,) = run(fakes.make_store(), options(tmp_path, "Linear"), quiet())

    def refuse(constant):
        raise AssertionError(constant)

    json.loads((outcome.path / "run.json").read_text(), parse_constant=refuse)
