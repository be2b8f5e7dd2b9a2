"""Tuning: what trials may see, what a kill leaves, what a journal may hold, what is told."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState, create_trial

from benchmarks.report.html import render_report
from benchmarks.runs.files import TRIAL_COLUMNS, read_run, read_runs
from benchmarks.runs.folder import RunFolder
from benchmarks.runs.folds import fold_facts
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import plan_runs, run
from benchmarks.scores.methods import group_runs
from benchmarks.tuning.fold import journal_path, one_by_one, tune_fold
from benchmarks.tuning.journal import Journal
from benchmarks.tuning.plan import Tuning
from benchmarks.tuning.pruning import FIRST_PRUNED, Steps, median_rule
from benchmarks.tuning.study import search
from benchmarks.tuning.trial import Outcome
from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import FeatureBatch
from learners.search import Choice, Range
from learners.unpickled import nothing_unpickled


@pytest.fixture
def tunable(fakes):
    import tuning_fakes

    tuning_fakes.Tunable.ended.clear()
    return tuning_fakes


def options(tmp_path: Path, *learners: str, tune: int | None = 8, **changes) -> RunOptions:
    names = [x if ":" in x else f"tuning_fakes:{x}" for x in learners or ["Tunable"]]
    changes.setdefault("bootstrap", 10)
    changes.setdefault("split", "families-3fold")
    changes.setdefault("out", tmp_path / "runs")
    return RunOptions(names, tune=tune, **changes)


def quiet() -> Progress:
    return Progress(0, StringIO())


def fits(tmp_path: Path) -> int:
    log = tmp_path / "fits.log"
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_a_tuned_run_tells_its_search_and_fits_the_winner(fakes, tunable, tmp_path):
    store = fakes.make_store()
    (outcome,) = run(store, options(tmp_path), quiet())
    assert outcome.state == "ok"
    result = read_run(outcome.path)
    assert result.label == outcome.label == "tunable@kmer (tuned 8)"
    told = result.identity["tuning"]
    assert told["trials"] == 8
    assert told["space"]["penalty"] == {"low": 0.01, "high": 1e4, "log": True, "integer": False}
    trials = result.trials
    assert tuple(trials.columns) == TRIAL_COLUMNS
    assert len(trials) == 3 * 8
    for (_, fold), part in trials.groupby(["repeat", "fold"]):
        best = np.fmin.accumulate(part["value"].to_numpy())
        np.testing.assert_array_equal(part["best"], best)
        facts = result.run["folds"][fold]["tuning"]
        winner = part.loc[part["value"].idxmin()]
        assert facts["winner"] == winner["trial"]
        assert facts["valid_rmse"] == winner["value"] == best[-1]
        assert facts["params"] == json.loads(winner["params"])
        assert facts["untuned_valid_rmse"] == part["value"].iloc[0]
        assert json.loads(part["params"].iloc[0]) == {"penalty": 1.0, "flip": False}
        # The fold is what an untuned run with the winner's parameters makes of it.
        params = [f"{key}={json.dumps(value)}" for key, value in facts["params"].items()]
        (plain,) = run(store, options(tmp_path, tune=None, params=params), quiet())
        mine, same = (
            table[table["fold"] == fold].reset_index(drop=True)
            for table in (result.predictions, read_run(plain.path).predictions)
        )
        pd.testing.assert_frame_equal(mine, same)
        assert plain.path != outcome.path


def test_a_trial_is_scored_on_families_that_its_fit_has_not_seen(fakes, tunable, tmp_path):
    store = fakes.make_store()
    (plan,) = plan_runs(store, options(tmp_path))
    _, sides = fold_facts(plan, 1)
    seen = {}

    def evaluate(data):
        seen["data"] = data
        return one_by_one(plan.learner, plan.seed, Budget())(data)

    folder = RunFolder(tmp_path / "one", plan.digest)
    tuned = tune_fold(plan, 1, sides, folder, evaluate, lambda text: None)
    (data,), batch = seen["data"], plan.data.batch
    families = [set(part.family) for part in (data.train, data.stop, data.score)]
    assert not families[0] & families[1]
    assert not families[0] & families[2]
    assert not families[1] & families[2]
    assert set(data.score.gene) == set(batch.gene[sides.valid])
    assert set(data.train.gene) | set(data.stop.gene) == set(batch.gene[sides.train])
    assert 0.05 < len(data.stop) / len(sides.train) < 0.25
    # The error by numpy alone.
    values = store.feature_source("alpha", "kmer").values.reshape(120, -1).astype(float)
    x = dict(zip(store.genes("alpha").gene, values, strict=True))

    def design(part):
        return np.column_stack([np.ones(len(part)), [x[g] for g in part.gene]])

    for one in tuned.outcomes:
        if one.value is None:
            continue
        a, y = design(data.train), data.train.targets
        weight = np.linalg.solve(a.T @ a + one.params["penalty"] * np.eye(a.shape[1]), a.T @ y)
        sign = -1 if one.params["flip"] else 1
        error = sign * design(data.score) @ weight - data.score.targets
        assert one.value == pytest.approx(np.sqrt((error**2).mean()))


def _reachable(thing, found, seen):
    """Every array and text that one can get at from a thing, but what features are read from."""
    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    if isinstance(thing, np.ndarray):
        found.append(thing)
        _reachable(thing.base, found, seen)
    elif isinstance(thing, dict):
        for one in thing.values():
            _reachable(one, found, seen)
    elif isinstance(thing, (list, tuple, set)):
        for one in thing:
            _reachable(one, found, seen)
    elif dataclasses.is_dataclass(thing) and not isinstance(thing, type):
        for one in dataclasses.fields(thing):
            if one.name != "source":
                _reachable(getattr(thing, one.name), found, seen)


def test_nothing_of_the_genes_under_test_is_in_reach_of_the_tuner(
    fakes, tunable, tmp_path, monkeypatch
):
    store = fakes.make_store()
    (plan,) = plan_runs(store, options(tmp_path))
    facts, sides = fold_facts(plan, 0)
    batch, source = plan.data.batch, store.feature_source("alpha", "kmer")
    hidden_genes = set(batch.gene[sides.test].tolist())
    hidden_families = set(batch.family[sides.test].tolist())
    hidden_labels = set(batch.targets[sides.test].ravel().tolist())
    assert len(hidden_labels) > 30
    assert facts["n_test"] == len(sides.test)
    read: list[int] = []
    original = source.read
    source.read = lambda rows: (read.extend(np.atleast_1d(rows).tolist()), original(rows))[1]
    handed = []

    fit, predict = tunable.Tunable.fit, tunable.Tunable.predict

    def spied_fit(self, train, valid, *, seed, budget):
        handed.extend([train, valid, budget.on_step])
        fit(self, train, valid, seed=seed, budget=budget)

    def spied_predict(self, rows):
        handed.append(rows)
        assert rows.targets is None
        return predict(self, rows)

    monkeypatch.setattr(tunable.Tunable, "fit", spied_fit)
    monkeypatch.setattr(tunable.Tunable, "predict", spied_predict)

    def evaluate(data):
        handed.append(data)
        return one_by_one(plan.learner, plan.seed, Budget())(data)

    folder = RunFolder(tmp_path / "one", plan.digest)
    tuned = tune_fold(plan, 0, sides, folder, evaluate, lambda text: None)
    assert len(handed) > 3 * 8
    found: list[np.ndarray] = []
    _reachable(handed, found, {})
    _reachable(tuned, found, {})
    assert found
    for array in found:
        values = set(array.ravel().tolist())
        if array.dtype.kind == "U":
            assert not values & (hidden_genes | hidden_families)
        elif array.dtype.kind == "f":
            assert not values & hidden_labels
    rows = [
        block.rows
        for one in handed
        if isinstance(one, FeatureBatch)
        for block in one.blocks.values()
    ]
    assert not set(np.concatenate(rows).tolist()) & set(sides.test.tolist())
    assert read
    assert not set(read) & set(sides.test.tolist())


def test_inner_folds_score_every_training_gene_once_by_fits_without_its_family(
    fakes, tunable, tmp_path
):
    store = fakes.make_store()
    (plan,) = plan_runs(store, options(tmp_path, tune=3, tune_folds=4))
    _, sides = fold_facts(plan, 0)
    seen = {}

    def evaluate(data):
        seen["data"] = data
        return one_by_one(plan.learner, plan.seed, Budget())(data)

    folder = RunFolder(tmp_path / "one", plan.digest)
    tuned = tune_fold(plan, 0, sides, folder, evaluate, lambda text: None)
    batch, parts = plan.data.batch, seen["data"]
    everyone = sorted(batch.gene[np.concatenate([sides.train, sides.valid])])
    assert sorted(g for part in parts for g in part.score.gene) == everyone
    for part in parts:
        families = [set(side.family) for side in (part.train, part.stop, part.score)]
        assert not families[0] & families[1]
        assert not (families[0] | families[1]) & families[2]
        assert sorted([*part.train.gene, *part.stop.gene, *part.score.gene]) == everyone
    # The untuned trial, by hand.
    squares = []
    for part in parts:
        learner = tunable.Tunable()
        learner.fit(part.train, part.stop, seed=0, budget=Budget())
        squares.append((learner.predict(part.score) - part.score.targets) ** 2)
    assert tuned.outcomes[0].value == pytest.approx(np.sqrt(np.concatenate(squares).mean()))
    (one,) = run(store, options(tmp_path, tune=3), quiet())
    (other,) = run(store, options(tmp_path, tune=3, tune_folds=4), quiet())
    assert read_run(other.path).identity["tuning"]["folds"] == 4
    assert one.path != other.path
    (group,) = group_runs(read_runs(tmp_path / "runs"))
    assert [m.label for m in group.methods] == [
        "tunable@kmer (tuned 3) (tune-folds=1)", "tunable@kmer (tuned 3) (tune-folds=4)",
    ]  # fmt: skip


SCRIPT = """
from pathlib import Path
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.runner import run
import bench_fakes
options = RunOptions(["tuning_fakes:DiesInTrial"], out=Path({out!r}), bootstrap=10, tune=8,
                     split="families-3fold")
run(bench_fakes.make_store(), options)
"""


def test_a_search_that_was_killed_ends_as_one_never_killed(fakes, tunable, tmp_path):
    paths = [str(Path(fakes.__file__).parent), str(Path(__file__).parents[2])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "BENCH_FAKES_DIE": "14"}
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(out=str(tmp_path / "runs"))],
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert fits(tmp_path) == 14  # fold 0: 8 trials and its fit; fold 1: 5 trials
    store = fakes.make_store()
    (resumed,) = run(store, options(tmp_path, "DiesInTrial"), quiet())
    assert resumed.state == "ok"
    assert fits(tmp_path) == 3 * (8 + 1)  # none is fitted twice
    whole = options(tmp_path, "DiesInTrial", out=tmp_path / "other")
    (never_killed,) = run(store, whole, quiet())
    one, other = read_run(resumed.path), read_run(never_killed.path)
    for name in ("predictions.parquet", "metrics.parquet"):
        assert (resumed.path / name).read_bytes() == (never_killed.path / name).read_bytes()
    pd.testing.assert_frame_equal(
        one.trials.drop(columns="seconds"), other.trials.drop(columns="seconds")
    )
    assert set(one.trials["state"]) >= {"complete"}


TUNING = Tuning(
    12, {"a": Range(1e-3, 1e3, log=True), "n": Range(1, 9, integer=True), "c": Choice(["x", None])},
    {"a": 1.0, "n": 2, "c": None},
)  # fmt: skip


def quadratic(asked) -> float:
    """Least at a = 20, n = 6, c = "x"."""
    p = asked.params
    return np.log10(p["a"] / 20) ** 2 + 0.05 * (p["n"] - 6) ** 2 + (p["c"] is None)


def evaluate_all(trials, rule):
    for asked in trials:
        yield Outcome(asked.number, asked.params, "complete", quadratic(asked), {1: 1.0}, 0.1)


def test_draws_do_not_depend_on_the_order_in_which_trials_come_back(tmp_path):
    def backwards(trials, rule):
        yield from reversed(list(evaluate_all(trials, rule)))

    first = search(TUNING, Journal(tmp_path / "a", "s", TUNING), evaluate_all, seed=(0, 0))
    second = search(TUNING, Journal(tmp_path / "b", "s", TUNING), backwards, seed=(0, 0))
    assert [dict(x.params) for x in first.outcomes] == [dict(x.params) for x in second.outcomes]
    other = search(TUNING, Journal(tmp_path / "c", "s", TUNING), evaluate_all, seed=(0, 1))
    assert dict(other.outcomes[1].params) != dict(first.outcomes[1].params)
    assert dict(first.outcomes[0].params) == TUNING.start


def test_the_first_trial_is_the_learner_untuned_even_outside_its_space(tmp_path):
    outside = dataclasses.replace(TUNING, start={"a": None, "n": 2, "c": "x"})

    def evaluate(trials, rule):
        for asked in trials:
            value = 0.0 if not asked.params else 1.0 + quadratic(asked)
            yield Outcome(asked.number, asked.params, "complete", value)

    found = search(outside, Journal(tmp_path / "j", "s", outside), evaluate, seed=(0,))
    assert dict(found.params) == {}
    assert found.facts["winner"] == 0
    assert [one.number for one in found.outcomes] == list(range(12))
    fitted = []
    again = search(
        outside, Journal(tmp_path / "j", "s", outside), lambda *a: fitted.append(a), seed=(0,)
    )
    assert again.facts == found.facts
    assert not fitted


def test_the_sampler_comes_near_a_planted_optimum(tmp_path):
    many = dataclasses.replace(TUNING, trials=60)
    found = search(many, Journal(tmp_path / "j", "s", many), evaluate_all, seed=(3,))
    assert found.params["c"] == "x"
    assert found.params["n"] in (5, 6, 7)
    assert 4 < found.params["a"] < 100
    drawn = [one.value for one in found.outcomes]
    assert np.mean(drawn[30:]) < np.mean(drawn[1:11])  # it has learned where to look


def test_every_trial_is_on_disk_before_the_next_is_fitted(tmp_path):
    journal = tmp_path / "j"
    lines = []

    def evaluate(trials, rule):
        for outcome in evaluate_all(trials, rule):
            lines.append(len(journal.read_text().splitlines()))
            yield outcome

    search(TUNING, Journal(journal, "s", TUNING), evaluate, seed=(0,))
    assert lines == list(range(1, 13))  # the study, then a line for each trial


def broken(tmp_path: Path, change) -> Path:
    path = tmp_path / "j"
    search(TUNING, Journal(path, "s", TUNING), evaluate_all, seed=(0,))
    path.write_bytes(change(path.read_bytes()))
    return path


def edit(name, value, line=3):
    def change(raw: bytes) -> bytes:
        lines = raw.splitlines()
        told = json.loads(lines[line])
        told[name] = value
        lines[line] = json.dumps(told).encode()
        return b"\n".join(lines) + b"\n"

    return change


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: b"garbage\n" + raw,
        lambda raw: raw.replace(b'"op_code":4', b'"op_code":"four"', 1),
        lambda raw: b"[1, 2]\n" + raw,
        lambda raw: b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}\n" + raw,
        lambda raw: b"\x80\x04\x95." + raw,
        edit("op_code", 99),
        edit("state", 77),
        edit("params", {"a": "much"}),
        edit("params", []),
        edit("distributions", {"a": '{"name": "os.system", "attributes": {}}'}),
        edit("user_attrs", {"meristem:number": 4000, "meristem:seconds": 1}),
        edit("user_attrs", {}),
        edit("intermediate_values", {"x": 1}),
        edit("datetime_start", "yesterday"),
    ],
    ids=range(14),
)
def test_a_journal_of_wrong_content_is_one_error_that_names_it(tmp_path, change):
    path = broken(tmp_path, change)
    with nothing_unpickled(), pytest.raises(InputError, match=r"j: .*delete it and run again"):
        search(TUNING, Journal(path, "s", TUNING), evaluate_all, seed=(0,))


def test_another_runs_journal_and_other_trials_are_refused(tmp_path):
    path = broken(tmp_path, lambda raw: raw)
    with pytest.raises(InputError, match="another run"):
        Journal(path, "t", TUNING)
    with pytest.raises(InputError, match="somebody else's trials"):
        search(TUNING, Journal(path, "s", TUNING), evaluate_all, seed=(1,))


def test_a_line_torn_by_a_kill_is_cut_off_and_its_trial_fitted_again(tmp_path):
    path = broken(tmp_path, lambda raw: raw[:-40])
    again = []

    def evaluate(trials, rule):
        again.extend(asked.number for asked in trials)
        yield from evaluate_all(trials, rule)

    with nothing_unpickled():
        found = search(TUNING, Journal(path, "s", TUNING), evaluate, seed=(0,))
    assert again == [11]
    whole = search(TUNING, Journal(tmp_path / "k", "s", TUNING), evaluate_all, seed=(0,))
    assert [x.params for x in found.outcomes] == [x.params for x in whole.outcomes]
    assert path.read_bytes().endswith(b"\n")


def test_the_median_rule_is_that_of_optuna():
    rng = np.random.default_rng(0)
    agreed = {True: 0, False: 0}
    for _ in range(60):
        finished = [
            {step: float(v) for step, v in enumerate(rng.random(rng.integers(2, 9)), 1)}
            for _ in range(rng.integers(FIRST_PRUNED, 9))
        ]
        rule = median_rule(finished)
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=FIRST_PRUNED, n_warmup_steps=int(np.ceil(rule.warm_up))
        )
        study = optuna.create_study(pruner=pruner)
        for steps in finished:
            study.add_trial(
                create_trial(state=TrialState.COMPLETE, value=1.0, intermediate_values=steps)
            )
        trial, mine = study.ask(), Steps(rule)
        for step, error in enumerate(rng.random(8), 1):
            trial.report(float(error), step)
            theirs = trial.should_prune()
            assert mine(step, float(error)) == theirs
            agreed[theirs] += 1
            if theirs:
                break
    assert min(agreed.values()) > 20


def test_too_few_trials_end_none_and_steps_told_grow_apart():
    assert median_rule([{1: 1.0}] * (FIRST_PRUNED - 1)) is None
    assert median_rule([{}] * 9) is None
    steps = Steps(None)
    assert not any(steps(step, 1.0) for step in range(1, 2001))
    assert len(steps.errors) < 90
    assert list(steps.errors)[:10] == list(range(1, 11))
    assert not steps(1, 0.5)  # the next target of the same fit
    assert 0.5 not in steps.errors.values()
    assert not Steps(None)(1, float("nan"))


def test_hopeless_trials_are_ended_early_and_never_win(fakes, tunable, tmp_path):
    (outcome,) = run(fakes.make_store(), options(tmp_path, tune=24), quiet())
    result = read_run(outcome.path)
    trials = result.trials
    assert tunable.Tunable.ended  # some fits were ended
    pruned = trials[trials["state"] == "pruned"]
    assert len(pruned) == len(tunable.Tunable.ended)
    assert pruned["value"].isna().all()
    assert (pruned["last_step"] < tunable.Tunable.steps).any()
    told = [fold["tuning"] for fold in result.run["folds"]]
    assert sum(one["pruned"] for one in told) == len(pruned)
    assert all(one["params"]["flip"] is False for one in told)


def test_failed_trials_are_told_and_the_others_go_on(fakes, tunable, tmp_path):
    said = StringIO()
    (outcome,) = run(fakes.make_store(), options(tmp_path, "FailsFlipped"), Progress(0, said))
    assert outcome.state == "ok"
    result = read_run(outcome.path)
    failed = result.trials[result.trials["state"] == "failed"]
    assert len(failed)
    assert set(failed["error"]) == {"RuntimeError: a flipped fit is no fit"}
    assert "a flipped fit is no fit" in said.getvalue()
    assert sum(f["tuning"]["failed"] for f in result.run["folds"]) == len(failed)
    (outcome,) = run(fakes.make_store(), options(tmp_path, "AlwaysFails"), quiet())
    assert outcome.state == "failed"
    assert "none of 8 trials came out: RuntimeError: out of luck" in outcome.error["message"]


def test_learners_without_a_space_are_refused_alone_and_said_beside_others(
    fakes, tunable, tmp_path
):
    store = fakes.make_store()
    with pytest.raises(InputError, match="fake_linear has no search space"):
        run(store, options(tmp_path, "bench_fakes:Linear"), quiet())
    with pytest.raises(InputError, match="nothing left to tune"):
        run(store, options(tmp_path, params=["penalty=3", "flip=true"]), quiet())
    assert fits(tmp_path) == 0
    said = StringIO()
    both = options(tmp_path, "bench_fakes:Linear", "Tunable", params=["tunable.flip=false"])
    plain, tuned = run(store, both, Progress(0, said))
    assert "fake_linear has no search space and runs untuned" in said.getvalue()
    assert "tuning" not in read_run(plain.path).identity
    assert read_run(plain.path).trials is None
    assert list(read_run(tuned.path).identity["tuning"]["space"]) == ["penalty"]


def test_a_space_that_names_no_parameter_is_refused(fakes, tunable, tmp_path, monkeypatch):
    monkeypatch.setattr(tunable.Tunable, "search_space", {"penality": Range(0, 1)})
    with pytest.raises(InputError, match=r"penality.*no parameter"):
        run(fakes.make_store(), options(tmp_path), quiet())
    for wrong in (lambda: Range(1, 1), lambda: Range(0, 1, log=True), lambda: Choice([1])):
        with pytest.raises(ValueError, match=r"Range\(|Choice\("):
            wrong()


def test_tuned_and_untuned_are_methods_of_their_own_and_the_report_shows_the_search(
    fakes, tunable, tmp_path
):
    store = fakes.make_store()
    for tune in (None, 5):
        run(store, options(tmp_path, tune=tune), quiet())
    runs = read_runs(tmp_path / "runs")
    (group,) = group_runs(runs)
    assert [m.label for m in group.methods] == ["tunable@kmer", "tunable@kmer (tuned 5)"]
    page = render_report(runs, bootstrap=10)
    assert "<h2>Tuning</h2>" in page
    assert "rmse, validation families" in page
    winner = read_run(group.methods[1].runs[0].path).run["folds"][0]["tuning"]
    assert f"{winner['params']['penalty']:.3g}" in page


def test_the_journal_lies_in_the_run_and_optuna_reads_it(fakes, tunable, tmp_path):
    (outcome,) = run(fakes.make_store(), options(tmp_path, tune=5), quiet())
    path = journal_path(outcome.path, 0, 2)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    (name,) = optuna.get_all_study_names(storage)
    study = optuna.load_study(study_name=name, storage=storage)
    told = read_run(outcome.path).run["folds"][2]["tuning"]
    assert study.best_value == told["valid_rmse"]
    assert study.best_params == told["params"]
