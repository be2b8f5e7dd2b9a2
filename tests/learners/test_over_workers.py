"""Fits over Dask workers: trees on shares of the rows, folds one by one; each as on one machine."""

from __future__ import annotations

import json
import os
import pickle
import signal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import featurestore
from benchmarks.cli import bench
from featurestore.build.engine import build
from featurestore.errors import ClusterError, InputError
from learners.base import Budget
from learners.batch import Block, FeatureBatch, join_sources
from learners.linear import Ridge
from learners.targets import TargetGroup
from learners.trees.distributed import parts_of
from learners.trees.lgbm import LightGBM
from learners.trees.xgb import XGBoost
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species

pytestmark = [
    # Dask's own, while its processes come and go.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.xdist_group("dask"),
]


@pytest.fixture(scope="module")
def cluster():
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    ) as one:
        yield one


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("over")
    species = [
        random_species(name, genes=220, contigs=6, seed=seed)
        for seed, name in enumerate(["alpha", "beta"])
    ]
    path = folder / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.schema.SHARD_GENES", 32)
        build(write_dataset(folder / "in", *species), path)
    return path


@pytest.fixture
def sides(built) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    """Train, valid, test over both species; the labels follow from the features of the store."""
    store = featurestore.open(built)
    source = join_sources([store.feature_source(one, "kmer") for one in store.species])
    names = [store.genes(one) for one in store.species]
    rows = np.arange(len(source), dtype=np.int64)
    values = source.read(rows).astype(np.float64).reshape(len(rows), -1)
    rng = np.random.default_rng(0)
    signal = values[:, :40] @ rng.normal(size=40)
    signal = (signal - signal.mean()) / signal.std()
    gene = np.concatenate([one.gene for one in names])
    whole = FeatureBatch(
        blocks={"kmer": Block(source, rows)},
        gene=gene,
        species=np.repeat(np.array(store.species), [len(one.gene) for one in names]),
        family=gene,
        targets=np.stack([signal, -signal + rng.normal(0, 0.1, len(rows))], axis=1),
    )
    order = rng.permutation(len(rows))
    cuts = np.split(order.astype(np.int64), [260, 340])
    return tuple(whole.take(cut) for cut in cuts)  # type: ignore[return-value]


def fitted(learner, sides, **budget):
    learner.fit(*sides[:2], seed=3, budget=Budget(threads=1, rounds=12, **budget))
    return learner


def test_xgboost_over_two_workers_is_that_of_one_machine(cluster, sides, tmp_path):
    # Counts of k-mers have fewer values than bins, so the edges are the same; without drawing
    # rows, which each worker would draw from its own, so is every tree.
    def make() -> XGBoost:
        return XGBoost(subsample=1.0, learning_rate=0.3, max_bin=512)

    one = fitted(make(), sides)
    two = fitted(make(), sides, scheduler=cluster.scheduler_address)
    assert one.rounds == two.rounds
    assert np.allclose(one.predict(sides[2]), two.predict(sides[2]), atol=1e-4)
    for here, there in zip(one.learning_curve, two.learning_curve, strict=True):
        assert here == pytest.approx(there, rel=1e-4)
    two.save(tmp_path)
    assert np.array_equal(XGBoost.load(tmp_path).predict(sides[2]), two.predict(sides[2]))


@pytest.mark.parametrize("make", [XGBoost, LightGBM])
def test_over_two_workers_it_learns_as_well(cluster, sides, make):
    one = fitted(make(learning_rate=0.3), sides)
    two = fitted(make(learning_rate=0.3), sides, scheduler=cluster.scheduler_address)
    truth = sides[2].require_targets()

    def error(learner):
        return np.sqrt(((learner.predict(sides[2]) - truth) ** 2).mean())

    assert error(two) < 1.1 * error(one)
    assert error(two) < 0.9 * truth.std()
    # The error on all training rows, though each worker saw half of them.
    assert two.learning_curve[0] == pytest.approx(one.learning_curve[0], rel=0.05)


def test_row_numbers_travel_and_features_do_not(sides):
    group = TargetGroup(np.array([0, 1]), *sides[:2])
    parts = parts_of(group, 2, share_validation=True)
    block = sides[0].blocks["kmer"]
    for part in parts:
        sent = pickle.dumps(part)
        for row in block.rows.tolist():
            assert block.source.read(np.array([row]))[0].tobytes() not in sent
        back = pickle.loads(sent)  # noqa: S301 - made above
        assert np.array_equal(back.group.train.array(), part.group.train.array())


@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("workers", [1, 3, 1000])
def test_parts_hold_every_row_once_and_few_shards_twice(sides, workers, share):
    train, valid = sides[0], sides[1].take(np.arange(7))
    parts = parts_of(TargetGroup(np.array([0, 1]), train, valid), workers, share_validation=share)
    assert len(parts) == min(workers, len(train))
    held = np.concatenate([part.group.train.gene for part in parts])
    assert sorted(held.tolist()) == sorted(train.gene.tolist())
    both = np.concatenate([part.both.gene for part in parts])
    assert sorted(both.tolist()) == sorted([*train.gene.tolist(), *valid.gene.tolist()])
    whole = not share or len(parts) > len(valid)
    for part in parts:
        assert (len(part.group.valid) == len(valid)) == (whole or len(parts) == 1)
        assert (part.train_rows, part.all_rows) == (len(train), len(train) + len(valid))
    start = train.blocks["kmer"].source.shard_start
    shards = [
        set(np.searchsorted(start, part.group.train.blocks["kmer"].rows, side="right").tolist())
        for part in parts
    ]
    assert sum(map(len, shards)) <= len(set().union(*shards)) + len(parts) - 1


class Dies(XGBoost):
    """Kills the second worker when it is asked to fit."""

    def fit_part(self, part, parameters, budget):
        from xgboost import collective

        if collective.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit_part(part, parameters, budget)


@pytest.mark.nightly
def test_a_worker_that_dies_is_an_error_and_no_wait(sides):
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
        ) as own,
        pytest.raises(ClusterError, match="was lost during the fit"),
    ):
        fitted(Dies(), sides, scheduler=own.scheduler_address)


def test_what_cannot_be_is_said(sides, monkeypatch):
    monkeypatch.setattr("learners.workers.CONNECT_SECONDS", 1)
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        fitted(XGBoost(), sides, scheduler="tcp://127.0.0.1:1")
    with pytest.raises(InputError, match="clock"):
        fitted(LightGBM(), sides, scheduler="tcp://127.0.0.1:1", seconds=3.0)


def run(built, out, *options):
    words = ["run", "--store", str(built), "--out", str(out), "--features", "kmer", "--threads", "1",
             "--bootstrap", "20", "--split", "families-3fold", "--json", *options]  # fmt: skip
    return CliRunner().invoke(bench, words)


def tables(out: Path) -> dict[str, pd.DataFrame]:
    return {
        f"{file.parent.name}/{file.name}": pd.read_parquet(file)
        for file in sorted(out.glob("*/*.parquet"))
    }


def test_folds_over_workers_give_the_results_of_one_machine(built, cluster, tmp_path):
    learners = ["--learner", "ridge", "--learner", "lightgbm", "--learner", "species_mean", "--rounds", "20"]  # fmt: skip
    here = run(built, tmp_path / "here", *learners)
    there = run(built, tmp_path / "there", *learners, "--scheduler", cluster.scheduler_address)
    assert here.exit_code == there.exit_code == 0, there.output
    one, two = tables(tmp_path / "here"), tables(tmp_path / "there")
    assert one.keys() == two.keys()
    assert len(one) == 3 * 4
    for name, table in one.items():
        pd.testing.assert_frame_equal(table, two[name])
    for file in (tmp_path / "there").glob("*/run.json"):
        assert json.loads(file.read_text())["status"] == "ok"
        assert len(list((file.parent / "model").iterdir())) == 3
    again = run(built, tmp_path / "there", *learners, "--scheduler", cluster.scheduler_address)
    assert {one["state"] for one in json.loads(again.stdout)} == {"already there"}


def test_rows_over_workers_by_command(built, cluster, tmp_path):
    options = ["--learner", "lightgbm", "--rounds", "10", "--spread", "rows"]
    done = run(built, tmp_path, *options, "--scheduler", cluster.scheduler_address)
    assert done.exit_code == 0, done.output
    (file,) = tmp_path.glob("*/run.json")
    record = json.loads(file.read_text())
    assert record["identity"]["learner"]["params"]["budget.workers"] == 2
    refused = run(built, tmp_path, "--learner", "ridge", "--spread", "rows", "--scheduler", cluster.scheduler_address)  # fmt: skip
    assert refused.exit_code == 2
    assert "ridge cannot spread one fit" in refused.stderr
    refused = run(built, tmp_path, "--learner", "xgboost", "--spread", "rows")
    assert "--scheduler" in refused.stderr


def test_started_by_torchrun_it_says_what_to_do(built, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    refused = run(built, tmp_path, "--learner", "ridge")
    assert refused.exit_code == 2
    assert "started once" in refused.stderr


def test_one_machine_is_told_of_no_scheduler():
    assert Budget().scheduler is None
    assert Ridge.info.distributed is False
    assert XGBoost.info.distributed
    assert LightGBM.info.distributed
