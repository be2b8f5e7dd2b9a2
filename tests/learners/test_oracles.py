"""Built-in learners against independent truths: scikit-learn, pandas, the libraries themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from threadpoolctl import threadpool_limits

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.controls import FamilyMean, ShuffledLabels, SpeciesMean
from learners.linear import Ridge
from learners.neighbours import NEIGHBOURS, NearestNeighbours

ONE = Budget(threads=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """References too: many threads on small data only wait for each other."""
    with threadpool_limits(1):
        yield


def _table(
    rows: int, columns: int, seed: int, targets: int = 2, dtype: type = np.float64
) -> FeatureBatch:
    """Correlated columns of very different means and scales, one constant, rows of shards mixed."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(rows, 4))
    x = hidden @ rng.normal(size=(4, columns)) + 0.5 * rng.normal(size=(rows, columns))
    x = x * 10.0 ** rng.integers(-2, 3, columns) + rng.normal(0, 100, columns)
    x[:, 1] = 7.25
    y = hidden[:, :targets] * 3 + 5 + rng.normal(0, 0.5, (rows, targets))
    ids = np.array([f"g{i}" for i in range(rows)])
    source = ArraySource(x.astype(dtype), shard_rows=37)
    order = rng.permutation(rows)
    batch = FeatureBatch({"x": Block(source, np.arange(rows))}, ids, ids, ids, targets=y)
    return batch.take(order)


def _cut(batch: FeatureBatch) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    n = len(batch)
    a, b = n * 6 // 10, n * 8 // 10
    return tuple(batch.take(np.arange(*ends)) for ends in ((0, a), (a, b), (b, n)))  # type: ignore[return-value]


@pytest.mark.parametrize("columns", [12, 180, 5000])
def test_ridge_is_scikit_learns(columns: int) -> None:
    """Primal (12), dual (180, and 5,000 in two blocks of columns): same weights, same penalty."""
    from sklearn.linear_model import Ridge as Reference

    train, valid, test = _cut(_table(200, columns, 3))
    learner = Ridge(grid=17)
    learner.fit(train, valid, seed=0, budget=ONE)
    deviation = train.array(np.float64).std(axis=0)
    deviation[1] = np.inf  # the constant column
    x = [b.array(np.float64) / deviation for b in (train, valid, test)]
    y = [b.require_targets() for b in (train, valid)]
    grid = np.logspace(-4, 4, 17) * max(len(train), columns)
    for target in range(2):
        losses = [
            (
                (Reference(alpha=a).fit(x[0], y[0][:, target]).predict(x[1]) - y[1][:, target]) ** 2
            ).mean()
            for a in grid
        ]
        best = grid[int(np.argmin(losses))]
        assert learner.penalty[target] == pytest.approx(best)
        both = Reference(alpha=best).fit(np.concatenate(x[:2]), np.concatenate(y)[:, target])
        found = learner.predict(test)[:, target]
        assert np.allclose(found, both.predict(x[2]), rtol=1e-6, atol=1e-6)


def test_ridge_at_a_given_penalty_and_with_missing_targets() -> None:
    from sklearn.linear_model import Ridge as Reference

    train, valid, test = _cut(_table(150, 10, 4))
    mask = np.random.default_rng(1).random((len(train), 2)) > [0.0, 0.4]
    labels = np.where(mask, train.require_targets(), np.nan)
    learner = Ridge(penalty=30.0)
    learner.fit(train.with_targets(labels).with_mask(mask), valid, seed=0, budget=ONE)
    for target in range(2):
        seen = train.array(np.float64)[mask[:, target]]
        deviation = seen.std(axis=0)
        deviation[1] = np.inf
        x = np.concatenate([seen, valid.array(np.float64)]) / deviation
        y = [labels[mask[:, target], target], valid.require_targets()[:, target]]
        expected = Reference(alpha=30.0).fit(x, np.concatenate(y))
        found = learner.predict(test)[:, target]
        assert np.allclose(found, expected.predict(test.array(np.float64) / deviation), rtol=1e-6)


def test_shuffled_labels_are_a_ridge_on_other_labels() -> None:
    train, valid, test = _cut(_table(300, 10, 5, targets=1))
    predictions = {}
    for seed in (0, 1):
        learner = ShuffledLabels()
        learner.fit(train, valid, seed=seed, budget=ONE)
        predictions[seed] = learner.predict(test)[:, 0]
        assert abs(np.corrcoef(predictions[seed], test.require_targets()[:, 0])[0, 1]) < 0.35
        # Permuting keeps the mean; the ridge keeps it in turn.
        everything = np.concatenate([train.require_targets(), valid.require_targets()])
        assert predictions[seed].mean() == pytest.approx(everything.mean(), abs=0.5)
    assert not np.allclose(predictions[0], predictions[1])
    plain = Ridge()
    plain.fit(train, valid, seed=0, budget=ONE)
    assert np.corrcoef(plain.predict(test)[:, 0], test.require_targets()[:, 0])[0, 1] > 0.9


def test_means_are_those_of_pandas() -> None:
    rng = np.random.default_rng(2)
    n = 400
    species = rng.choice(["a", "b", "c"], n)
    family = np.array([f"f{i}" for i in rng.integers(0, 60, n)])
    y = rng.normal(size=(n, 2))
    mask = rng.random((n, 2)) > 0.2
    ids = np.array([f"g{i}" for i in range(n)])
    batch = FeatureBatch({}, ids, species, family, targets=y, mask=mask)
    train, valid = batch.take(np.arange(200)), batch.take(np.arange(200, 240))
    test = batch.take(np.arange(240, 400)).without_targets()
    unseen = FeatureBatch({}, ids[:2], np.array(["z", "z"]), np.array(["f1", "new"]))

    frame = pd.DataFrame(np.where(mask, y, np.nan)[:240], columns=[0, 1])
    frame["species"], frame["family"] = species[:240], family[:240]
    within = frame.groupby(["species", "family"]).mean()
    by_family = frame.groupby("family")[[0, 1]].mean()
    by_species = frame.groupby("species")[[0, 1]].mean()
    overall = frame[[0, 1]].mean()

    def first_known(*values: float) -> float:
        return next(v for v in values if not np.isnan(v))

    def look(table: pd.DataFrame, key: object, target: int) -> float:
        return float(table[target].get(key, np.nan))

    for learner, chain in ((SpeciesMean(), "s"), (FamilyMean(), "wfs")):
        learner.fit(train, valid, seed=0, budget=ONE)
        for part in (test, unseen):
            found = learner.predict(part)
            for row, (s, f) in enumerate(zip(part.species, part.family, strict=True)):
                for t in range(2):
                    steps = {
                        "w": look(within, (s, f), t),
                        "f": look(by_family, f, t),
                        "s": look(by_species, s, t),
                    }
                    expected = first_known(*[steps[c] for c in chain], float(overall[t]))
                    assert found[row, t] == pytest.approx(expected, rel=1e-12)


def test_neighbours_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA
    from sklearn.neighbors import KNeighborsRegressor

    train, valid, test = _cut(_table(200, 30, 6))
    learner = NearestNeighbours(components=8)
    learner.fit(train, valid, seed=0, budget=ONE)
    x = [b.array(np.float64) for b in (train, valid, test)]
    y = [b.require_targets() for b in (train, valid)]
    deviation = x[0].std(axis=0)
    deviation[1] = np.inf
    z = [(part - x[0].mean(axis=0)) / deviation for part in x]
    pca = PCA(8, svd_solver="full").fit(z[0])
    z = [pca.transform(part) for part in z]
    losses = {
        k: ((KNeighborsRegressor(k).fit(z[0], y[0]).predict(z[1]) - y[1]) ** 2).mean()
        for k in NEIGHBOURS
    }
    assert learner.neighbours == min(losses, key=losses.__getitem__)
    expected = KNeighborsRegressor(learner.neighbours)
    expected.fit(np.concatenate(z[:2]), np.concatenate(y))
    assert np.allclose(learner.predict(test), expected.predict(z[2]), rtol=1e-5)


def _single_precision(seed: int = 7) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    return _cut(_table(400, 20, seed, targets=1, dtype=np.float32))


def test_streamed_xgboost_is_xgboost_in_memory() -> None:
    xgboost = pytest.importorskip("xgboost")
    from learners.trees.xgb import XGBoost

    train, valid, test = _single_precision()
    learner = XGBoost(rounds=300)
    learner.fit(train, valid, seed=3, budget=ONE)
    settings = {k: v for k, v in XGBoost.info.defaults.items() if k not in ("rounds", "patience")}
    settings |= {"objective": "reg:squarederror", "seed": 3, "nthread": 1}
    seen = xgboost.QuantileDMatrix(*_in_order(train), max_bin=128)
    held_out = xgboost.QuantileDMatrix(*_in_order(valid), ref=seen, max_bin=128)
    search = xgboost.train(
        settings, seen, 300, evals=[(held_out, "v")], early_stopping_rounds=50, verbose_eval=False
    )
    rounds = round((search.best_iteration + 1) * (len(train) + len(valid)) / len(train))
    assert learner.rounds == [rounds]
    curve = [point["valid"] for point in learner.learning_curve]
    assert min(curve) == pytest.approx(search.best_score)
    both = _both(train, valid)
    expected = xgboost.train(settings, xgboost.QuantileDMatrix(*both, max_bin=128), rounds)
    matrix = xgboost.DMatrix(test.array(np.float32))
    assert np.array_equal(learner.predict(test)[:, 0], expected.predict(matrix).astype(float))


def test_streamed_lightgbm_is_lightgbm_in_memory() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    from learners.trees.lgbm import LightGBM

    train, valid, test = _single_precision()
    learner = LightGBM(rounds=300)
    learner.fit(train, valid, seed=3, budget=ONE)
    settings = {k: v for k, v in LightGBM.info.defaults.items() if k not in ("rounds", "patience")}
    settings |= {"bagging_freq": 1, "seed": 3, "num_threads": 1, "deterministic": True}
    settings |= {"force_col_wise": True, "verbosity": -1, "feature_pre_filter": False}
    seen = lightgbm.Dataset(*_in_order(train, np.float64))
    held_out = lightgbm.Dataset(*_in_order(valid, np.float64), reference=seen)
    stop = lightgbm.early_stopping(50, verbose=False)
    search = lightgbm.train(settings, seen, 300, [held_out], callbacks=[stop])
    rounds = round(search.best_iteration * (len(train) + len(valid)) / len(train))
    assert learner.rounds == [rounds]
    both = lightgbm.Dataset(*_both(train, valid, np.float64))
    expected = lightgbm.train(settings, both, rounds)
    assert np.array_equal(learner.predict(test)[:, 0], expected.predict(test.array(np.float64)))


def _in_order(batch: FeatureBatch, dtype: type = np.float32) -> tuple[np.ndarray, np.ndarray]:
    """Rows by shard of 37, as they stream; boosting samples rows by their place."""
    rows = batch.blocks["x"].rows
    order = np.lexsort([np.arange(len(rows)), rows // 37])
    return batch.array(dtype)[order], batch.require_targets()[order, 0]


def _both(
    train: FeatureBatch, valid: FeatureBatch, dtype: type = np.float32
) -> tuple[np.ndarray, np.ndarray]:
    rows = np.concatenate([train.blocks["x"].rows, valid.blocks["x"].rows])
    order = np.lexsort([np.arange(len(rows)), rows // 37])
    x = np.concatenate([train.array(dtype), valid.array(dtype)])
    y = np.concatenate([train.require_targets(), valid.require_targets()])
    return x[order], y[order, 0]


def test_plain_trees_predict_what_scikit_learn_predicts() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from learners.trees.histogram import PlainTrees

    batch = _table(400, 12, 8, targets=1)
    x, y = batch.array(np.float64), batch.require_targets()[:, 0]
    model = HistGradientBoostingRegressor(max_iter=40, early_stopping=False, random_state=1)
    model.fit(x[:300], y[:300])
    trees = PlainTrees.of(model)
    # On bin edges too: ≤ goes left.
    edges = np.tile(trees.threshold[np.isfinite(trees.threshold)][:50, None], (1, 12))
    for rows in (x, edges):
        assert np.allclose(trees.predict(rows), model.predict(rows), rtol=1e-12, atol=1e-12)
    again = PlainTrees.of_arrays(trees.arrays())
    assert np.array_equal(again.predict(x), trees.predict(x))


def test_histogram_boosting_is_scikit_learns_at_the_rounds_it_found() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    from learners.trees.histogram import HistGradientBoosting

    train, valid, test = _cut(_table(300, 12, 9, targets=1))
    learner = HistGradientBoosting(rounds=120, patience=15)
    learner.fit(train, valid, seed=2, budget=ONE)
    settings = HistGradientBoosting.info.defaults
    settings = {k: v for k, v in settings.items() if k not in ("rounds", "patience")}
    x = np.concatenate([train.array(np.float64), valid.array(np.float64)])
    y = np.concatenate([train.require_targets(), valid.require_targets()])[:, 0]
    search = HistGradientBoostingRegressor(
        **settings, max_iter=120, early_stopping=False, random_state=2
    ).fit(x[:180], y[:180])
    errors = [((p - y[180:]) ** 2).mean() for p in search.staged_predict(x[180:])]
    stop = next((i for i in range(120) if i - int(np.argmin(errors[: i + 1])) >= 15), 119)
    best = int(np.argmin(errors[: stop + 1])) + 1
    assert learner.rounds == [round(best * 240 / 180)]
    expected = HistGradientBoostingRegressor(
        **settings, max_iter=learner.rounds[0], early_stopping=False, random_state=2
    ).fit(x, y)
    assert np.allclose(learner.predict(test)[:, 0], expected.predict(test.array(np.float64)))


@pytest.mark.parametrize("module", ["xgb:XGBoost", "lgbm:LightGBM"])
def test_boosting_keeps_to_its_budget(module: str) -> None:
    import importlib

    file, name = module.split(":")
    pytest.importorskip({"xgb": "xgboost", "lgbm": "lightgbm"}[file])
    cls = getattr(importlib.import_module(f"learners.trees.{file}"), name)
    train, valid, test = _single_precision()
    few = cls()
    few.fit(train, valid, seed=0, budget=Budget(threads=1, rounds=6))
    assert len(few.learning_curve) == 6
    assert few.rounds[0] <= round(6 * 320 / 240)
    at_once = cls()
    at_once.fit(train, valid, seed=0, budget=Budget(threads=1, seconds=0.0))
    assert len(at_once.learning_curve) == 1
    assert np.isfinite(at_once.predict(test)).all()


def test_cuda_without_the_cuda_wheel_is_told_which_to_install() -> None:
    xgboost = pytest.importorskip("xgboost")
    if xgboost.build_info().get("USE_CUDA"):
        pytest.skip("this XGBoost has CUDA")
    from learners.trees.xgb import XGBoost

    train, valid, _ = _single_precision()
    with pytest.raises(InputError, match="pip install xgboost"):
        XGBoost().fit(train, valid, seed=0, budget=Budget(device="cuda"))


def test_other_features_and_other_learners_are_refused(tmp_path: Path) -> None:
    train, valid, _ = _cut(_table(100, 10, 4))
    learner = Ridge()
    learner.fit(train, valid, seed=0, budget=ONE)
    other = _table(20, 11, 4)
    with pytest.raises(InputError, match=r"fitted on x \(10,\) .* this batch has x \(11,\)"):
        learner.predict(other)
    learner.save(tmp_path)
    with pytest.raises(InputError, match="holds 'ridge', not 'knn'"):
        NearestNeighbours.load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no saved learner"):
        Ridge.load(tmp_path / "nowhere")
    (tmp_path / "learner.json").write_text("{")
    with pytest.raises(InputError, match="not readable"):
        Ridge.load(tmp_path)
    mask = np.zeros(valid.require_targets().shape, bool)
    with pytest.raises(InputError, match="no observed validation row"):
        Ridge().fit(train, valid.with_mask(mask), seed=0, budget=ONE)
    empty = FeatureBatch({}, train.gene, train.gene, train.gene, targets=train.targets)
    with pytest.raises(InputError, match="at least one feature"):
        Ridge().fit(empty, empty, seed=0, budget=ONE)
