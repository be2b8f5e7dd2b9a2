"""Trials over Dask workers: the same search as here, from a journal that only this process writes."""

from __future__ import annotations

from io import StringIO

import pandas as pd
import pytest

from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run

pytestmark = [
    # Dask's own, while its workers come and go.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.xdist_group("dask"),
]


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as one:
        yield one


@pytest.fixture
def tunable(fakes):
    import tuning_fakes

    return tuning_fakes


def options(tmp_path, name: str, **changes) -> RunOptions:
    return RunOptions(
        [f"tuning_fakes:{name}"],
        out=tmp_path,
        bootstrap=0,
        split="families-3fold",
        tune=10,
        **changes,
    )


def test_trials_on_workers_are_those_of_this_process(fakes, tunable, tmp_path, cluster):
    store, said = fakes.make_store(), StringIO()
    there = options(tmp_path / "there", "FailsFlipped", scheduler=cluster.scheduler_address)
    (spread,) = run(store, there, Progress(0, said))
    (here,) = run(store, options(tmp_path / "here", "FailsFlipped"), Progress(0, StringIO()))
    assert spread.state == here.state == "ok", spread.error
    one, other = read_run(spread.path), read_run(here.path)
    assert spread.name == here.name
    pd.testing.assert_frame_equal(one.predictions, other.predictions)
    pd.testing.assert_frame_equal(
        one.trials.drop(columns="seconds"), other.trials.drop(columns="seconds")
    )
    assert (one.trials["state"] == "failed").any()
    assert "fold 2: trial" in said.getvalue()
    assert len(list((spread.path / "tuning").glob("*.journal"))) == 3


def test_a_search_goes_on_over_workers_where_it_stood_here(fakes, tunable, tmp_path, cluster):
    store = fakes.make_store()
    (whole,) = run(store, options(tmp_path / "whole", "Tunable"), Progress(0, StringIO()))
    journal = whole.path / "tuning" / "0-1.journal"
    begun = tmp_path / "begun" / whole.name / "tuning"
    begun.mkdir(parents=True)
    lines = journal.read_bytes().splitlines(keepends=True)
    (begun / journal.name).write_bytes(b"".join(lines[:6]) + lines[6][:30])
    tunable.Tunable.seen.clear()
    said = StringIO()
    resumed = options(tmp_path / "begun", "Tunable", scheduler=cluster.scheduler_address)
    (outcome,) = run(store, resumed, Progress(0, said))
    assert outcome.state == "ok"
    told = [line for line in said.getvalue().splitlines() if "fold 1: trial" in line]
    assert len(told) == 10 - 5  # five were in the journal, the sixth was torn
    pd.testing.assert_frame_equal(
        read_run(outcome.path).predictions, read_run(whole.path).predictions
    )


def test_every_trial_failing_is_a_failed_run(fakes, tunable, tmp_path, cluster):
    asked = options(tmp_path, "AlwaysFails", scheduler=cluster.scheduler_address)
    (outcome,) = run(fakes.make_store(), asked, Progress(0, StringIO()))
    assert outcome.state == "failed"
    assert "out of luck" in outcome.error["message"]
