"""Boosted trees on features too wide, or too many, to be held: the same trees, and where they look."""

from __future__ import annotations

import importlib
import tempfile
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.places import Place, places
from learners.trees import lgbm, matrices
from learners.trees.lgbm import LightGBM
from learners.trees.xgb import XGBoost
from tests.learners.generated import GeneratedSource, batch_of

xgboost = pytest.importorskip("xgboost")
pytest.importorskip("lightgbm")

SHORT = Budget(threads=1, rounds=12)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with threadpool_limits(1):
        yield


def _bins(rows: int = 500, targets: int = 1, seed: int = 0) -> FeatureBatch:
    """2 regions × 6 bins × 4 channels; the target follows from bin 4 of the first region alone."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, 2, 6, 4)).astype(np.float16)
    x[:, 1, :, 2] = np.round(x[:, 1, :, 2])  # columns of few values, and of one
    x[:, 1, :, 3] = -3.5
    signal = np.tanh(2 * x[:, 0, 4, 0]) + np.abs(x[:, 0, 4, 1])
    y = signal[:, None] * np.linspace(1, -1, targets) + rng.normal(0, 0.2, (rows, targets))
    coords = {
        "region": np.array(["promoter", "terminator"]),
        "bin_start": np.arange(12).reshape(2, 6) * 50 - 300,
    }
    source = ArraySource(x, kind="bins", coords=coords, shard_rows=37)
    ids = np.array([f"g{i}" for i in range(rows)])
    batch = FeatureBatch({"emb": Block(source, np.arange(rows))}, ids, ids, ids, targets=y)
    return batch.take(rng.permutation(rows))


def _cut(batch: FeatureBatch) -> list[FeatureBatch]:
    n = len(batch)
    cuts = np.split(np.arange(n), [n * 6 // 10, n * 8 // 10])
    return [batch.take(cut) for cut in cuts]


def _fitted(learner: Any, budget: Budget = SHORT, **data: Any) -> tuple[Any, np.ndarray]:
    train, valid, test = _cut(_bins(**data))
    learner.fit(train, valid, seed=1, budget=budget)
    return learner, learner.predict(test.without_targets())


def _few_values(rows: int = 500) -> list[FeatureBatch]:
    batch = _bins(rows)
    values = np.round(batch.blocks["emb"].source.values)  # type: ignore[attr-defined]
    source = ArraySource(values, kind="bins", shard_rows=37)
    return _cut(replace(batch, blocks={"emb": Block(source, batch.blocks["emb"].rows)}))


def test_of_few_values_each_is_a_bin_as_xgboost_has_it(monkeypatch) -> None:
    """Bins are then the same, however edges were found, and so is every tree."""
    train, valid, test = _few_values()
    found = []
    for columns in (512, 5):
        monkeypatch.setattr(matrices, "COLUMNS_AT_ONCE", columns)
        learner = XGBoost(max_bin=32)
        learner.fit(train, valid, seed=1, budget=SHORT)
        found.append((learner.predict(test).tolist(), learner.learning_curve))
    assert found[0] == found[1]


def test_of_many_values_every_bin_holds_as_many_rows(monkeypatch) -> None:
    monkeypatch.setattr(matrices, "COLUMNS_AT_ONCE", 5)
    train = _cut(_bins(1000))[0]
    matrix = matrices.binned_matrix(train, None, max_bin=16, threads=1, sketched_rows=None)
    pointer, cuts = matrix.get_quantile_cut()
    x = train.array(np.float32)
    for column in range(x.shape[1]):
        edges = cuts[pointer[column] : pointer[column + 1]]
        distinct = np.unique(x[:, column])
        count = np.histogram(x[:, column], [-np.inf, *edges[1:-1], np.inf])[0]
        if len(distinct) <= 16:
            assert edges[1:-1].tolist() == distinct[1:].tolist()
        else:
            assert len(count) == 16
            # As many but for those that share a float16.
            most = np.unique(x[:, column], return_counts=True)[1].max()
            assert np.ptp(count) <= 1 + 2 * most


def test_edges_of_a_sample_of_rows_learn_as_well(monkeypatch) -> None:
    monkeypatch.setattr(matrices, "COLUMNS_AT_ONCE", 5)
    errors = []
    for sketched in (None, 100):
        learner = XGBoost(sketched_rows=sketched, learning_rate=0.3, colsample_bytree=1.0)
        train, valid, test = _cut(_bins(1500))
        learner.fit(train, valid, seed=1, budget=Budget(threads=1, rounds=40))
        errors.append(float(np.std(learner.predict(test) - test.require_targets())))
    assert errors[1] == pytest.approx(errors[0], rel=0.1)
    assert errors[1] < 0.5 * float(np.std(test.require_targets()))


def test_external_memory_gives_the_trees_of_memory_and_leaves_nothing(
    monkeypatch, tmp_path
) -> None:
    _, expected = _fitted(XGBoost())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(matrices, "PAGE_VALUES", 64 * 48)
    there: list[int] = []
    train = XGBoost._train

    def spied(self: XGBoost, *args: Any) -> Any:
        there.extend(file.stat().st_size for file in tmp_path.glob("meristem-xgboost-*/*"))
        return train(self, *args)

    monkeypatch.setattr(XGBoost, "_train", spied)
    # Too little memory for any bins: they go to disk by themselves.
    _, predicted = _fitted(XGBoost(), Budget(threads=1, rounds=12, memory=1))
    assert np.allclose(predicted, expected, atol=1e-6)
    # Only what is fitted is there: the bins of the search are gone when those of the refit are made.
    assert len(there) == 1
    assert there[0] > 400 * 48
    assert not list(tmp_path.iterdir())
    _fitted(XGBoost(external_memory=False), Budget(threads=1, rounds=12, memory=1))
    assert len(there) == 1

    def broken(self: XGBoost, *args: Any) -> Any:
        raise RuntimeError("no trees today")

    monkeypatch.setattr(XGBoost, "_train", broken)
    with pytest.raises(RuntimeError, match="no trees today"):
        _fitted(XGBoost(external_memory=True))
    assert not list(tmp_path.iterdir())


def test_vector_leaves_are_those_of_xgboost(tmp_path: Path) -> None:
    learner, predicted = _fitted(
        XGBoost(multi_strategy="multi_output_tree", subsample=1.0), targets=3
    )
    train, valid, test = _cut(_bins(targets=3))
    order = np.lexsort(
        [np.arange(400), np.concatenate([b.blocks["emb"].rows // 37 for b in (train, valid)])]
    )
    x = np.concatenate([train.array(), valid.array()])[order]
    y = np.concatenate([train.require_targets(), valid.require_targets()])[order]
    names = (
        "learning_rate",
        "max_depth",
        "min_child_weight",
        "colsample_bytree",
        "reg_lambda",
        "max_bin",
    )
    settings = {name: XGBoost.info.defaults[name] for name in names}
    settings |= {
        "multi_strategy": "multi_output_tree",
        "seed": 1,
        "tree_method": "hist",
        "nthread": 1,
    }
    matrix = xgboost.QuantileDMatrix(x, y, max_bin=128)
    booster = xgboost.train(settings, matrix, learner.rounds[0])
    assert np.allclose(predicted, booster.inplace_predict(test.array()), atol=1e-5)
    assert learner.rounds == [learner.rounds[0]] * 3
    learner.save(tmp_path)
    assert np.array_equal(XGBoost.load(tmp_path).predict(test), predicted)
    with pytest.raises(InputError, match="one_output_per_tree"):
        next(learner.contributions(test))
    with pytest.raises(InputError, match="multi_output_tree"):
        XGBoost(multi_strategy="both")  # type: ignore[arg-type]


def test_columns_of_a_saved_learner_are_held_against_its_targets(tmp_path: Path) -> None:
    learner, _ = _fitted(XGBoost(), targets=2)
    learner.save(tmp_path)
    file = tmp_path / "learner.json"
    file.write_text(file.read_text().replace('"columns"', '"other"'))
    test = _cut(_bins(targets=2))[2]
    assert np.array_equal(XGBoost.load(tmp_path).predict(test), learner.predict(test))
    file.write_text(file.read_text().replace('"other": [', '"columns": [["../../x"], '))
    with pytest.raises(InputError):
        XGBoost.load(tmp_path)


@pytest.mark.parametrize("make", [XGBoost, LightGBM])
def test_shap_values_add_up_and_find_the_planted_bin(make: Any) -> None:
    train, valid, test = _cut(_bins(1200, targets=2))
    learner = make(learning_rate=0.2)
    learner.fit(train, valid, seed=1, budget=Budget(threads=1, rounds=40))
    predicted = learner.predict(test)
    found, starts = places(test)
    size = np.zeros((2, len(found)))
    seen = np.zeros(predicted.shape)
    for part in learner.contributions(test):
        total = part.values.sum(axis=1) + part.base
        assert np.allclose(total, predicted[part.index, part.target], atol=1e-4)
        size[part.target] += np.abs(np.add.reduceat(part.values, starts, axis=1)).sum(axis=0)
        seen[part.index, part.target] += 1
    assert (seen == 1).all()
    for target in range(2):
        best = found[int(size[target].argmax())]
        assert best == Place("emb", "promoter", 4, -100.0)
        assert size[target].max() > 5 * np.sort(size[target])[-2]


def test_places_are_those_of_the_columns() -> None:
    """A column whose value names its place comes out under that name."""
    valid = np.ones((3, 2, 3), bool)
    valid[:, 1, 1] = False
    region, bin_, channel = np.indices((2, 3, 5))
    values = np.stack([100.0 * region + 10 * bin_ + channel] * 3).astype(np.float32)
    coords = {"region": np.array(["up", "down"])}
    blocks = {
        "bins": Block(ArraySource(values, kind="bins", bin_valid=valid, coords=coords), np.arange(3)),
        "flat": Block(ArraySource(np.full((3, 7), -1.0), kind="tabular"), np.arange(3)),
        "codes": Block(ArraySource(np.zeros((3, 1, 4), np.uint8), kind="codes"), np.arange(3)),
    }  # fmt: skip
    ids = np.array(["a", "b", "c"])
    batch = FeatureBatch(blocks, ids, ids, ids)
    found, starts = places(batch)
    row = batch.array(np.float32)[0]
    ends = [*starts[1:].tolist(), batch.columns]
    assert len(found) == 5 + 1 + 4
    for place, first, end in zip(found, starts.tolist(), ends, strict=True):
        if place.feature == "bins":
            number = 100 * ["up", "down"].index(place.region) + 10 * place.bin
            assert row[first:end].tolist() == [number + i for i in range(5)]
            assert (place.region, place.bin) != ("down", 1)
        else:
            assert end - first == {"flat": 7, "codes": 4}[place.feature]
    assert [place.bin for place in found[-4:]] == [0, 1, 2, 3]


@pytest.mark.parametrize("make", [XGBoost, LightGBM])
def test_who_watches_ends_the_search(make: Any) -> None:
    told: list[tuple[int, float]] = []

    def watch(step: int, error: float) -> bool:
        told.append((step, error))
        return step == 4

    learner, predicted = _fitted(make(), Budget(threads=1, on_step=watch), targets=2)
    assert [step for step, _ in told] == [1, 2, 3, 4]
    assert [point["valid"] for point in learner.learning_curve] == [error for _, error in told]
    assert np.isfinite(predicted).all()
    # Watching alone changes nothing.
    _, watched = _fitted(make(), Budget(threads=1, rounds=12, on_step=lambda step, error: False))
    assert np.array_equal(watched, _fitted(make())[1])


@pytest.mark.parametrize(("make", "held"), [(XGBoost, 0.5), (LightGBM, 0.7)])
def test_features_are_never_held_whole(monkeypatch, make: Any, held: float) -> None:
    """Peak of what Python holds, features drawn as they are read: four times the rows, hardly more."""
    monkeypatch.setattr(matrices, "COLUMNS_AT_ONCE", 64)
    monkeypatch.setattr(matrices, "ROUND_VALUES", 1 << 16)
    monkeypatch.setattr(lgbm, "SAMPLED_ROWS", 200)
    monkeypatch.setattr(importlib.import_module("learners.batch"), "_CELLS", 1 << 16)
    monkeypatch.setattr(lgbm, "_VALUES_AT_ONCE", 1 << 15)
    further = {"sketched_rows": 200} if make is XGBoost else {}
    peaks = []
    for rows in (1_500, 6_000):
        source = GeneratedSource(rows, 200)
        parts = np.split(np.arange(rows), [rows * 9 // 10])
        train, valid = (batch_of(source, part) for part in parts)
        tracemalloc.start()
        make(**further).fit(train, valid, seed=0, budget=Budget(threads=1, rounds=2))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 2 * peaks[0]
    assert peaks[1] < held * 6_000 * 200 * 4


def test_lightgbm_without_cuda_says_so_once() -> None:
    train, valid, _ = _cut(_bins())
    with pytest.raises(InputError, match="its wheel has no CUDA"):
        LightGBM().fit(train, valid, seed=0, budget=Budget(device="cuda"))
