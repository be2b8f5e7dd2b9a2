"""Ridge on many columns and rows: the same regression, in the memory of one matrix."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from scipy.linalg import solve
from threadpoolctl import threadpool_limits

import learners.linear as linear
import learners.linear_wide as wide
import learners.symmetric as symmetric
from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.linear import Ridge
from learners.symmetric import NotPositiveError, SymmetricMatrix
from tests.learners.generated import GeneratedSource, batch_of

ONE = Budget(threads=1)


@pytest.fixture(autouse=True)
def _everything_is_wide(monkeypatch) -> Iterator[None]:
    """Small data in the way of large: several panels of columns, several blocks of rows."""
    monkeypatch.setattr(linear, "WIDE", 1)
    monkeypatch.setattr(wide, "CELLS", 3000)
    monkeypatch.setattr(symmetric, "_PANEL", 17)
    with threadpool_limits(1):
        yield


def _sides(rows: int, columns: int, dtype: type) -> list[FeatureBatch]:
    """Columns of very different means and scales, one of them constant; rows of shards mixed."""
    rng = np.random.default_rng(7)
    hidden = rng.normal(size=(rows, 4))
    x = hidden @ rng.normal(size=(4, columns)) + 0.5 * rng.normal(size=(rows, columns))
    x = x * 10.0 ** rng.integers(-2, 2, columns) + rng.normal(0, 30, columns)
    x[:, 1] = 7.25
    ids = np.array([f"g{i}" for i in range(rows)])
    y = hidden[:, :2] * 3 + 5 + rng.normal(0, 0.5, (rows, 2))
    source = ArraySource(x.astype(dtype), shard_rows=37)
    whole = FeatureBatch({"x": Block(source, np.arange(rows))}, ids, ids, ids, targets=y)
    order = rng.permutation(rows)
    cuts = np.split(order, [rows * 6 // 10, rows * 8 // 10])
    return [whole.take(cut) for cut in cuts]


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("columns", [60, 500])
def test_it_is_scikit_learns(columns: int, dtype: type) -> None:
    """Normal equations (60 columns) and kernel (500), products in float32: same penalty, weights to 1e-4."""
    from sklearn.linear_model import Ridge as Reference

    train, valid, test = _sides(300, columns, dtype)
    learner = Ridge(grid=17)
    learner.fit(train, valid, seed=0, budget=ONE)
    deviation = train.array(np.float64).std(axis=0)
    deviation[1] = np.inf  # the constant column
    x = [one.array(np.float64) / deviation for one in (train, valid, test)]
    y = [one.require_targets() for one in (train, valid)]
    for target in range(2):
        losses = {
            a: ((Reference(a).fit(x[0], y[0][:, target]).predict(x[1]) - y[1][:, target]) ** 2).mean()
            for a in np.logspace(-4, 4, 17) * max(len(train), columns)
        }  # fmt: skip
        best = min(losses, key=losses.__getitem__)
        assert learner.penalty[target] == pytest.approx(best)
        both = Reference(best).fit(np.concatenate(x[:2]), np.concatenate(y)[:, target])
        assert np.allclose(learner.predict(test)[:, target], both.predict(x[2]), atol=1e-4)


def test_the_coarse_search_finds_the_best_of_the_grid() -> None:
    """Errors with one minimum, wherever it lies, at every length of the grid: and few are looked at."""
    for length in (2, 3, 5, 12, 33):
        for minimum in range(length):
            grid, seen = np.arange(length, dtype=np.float64), []

            def weights(penalty: float, at: int = minimum, seen: list[float] = seen) -> np.ndarray:
                seen.append(penalty)
                return np.array([[penalty - at]])

            found = wide._search(grid, np.zeros((1, 1)), weights, lambda one: one)
            assert found[0] == minimum
            assert len(seen) == len(set(seen)) <= 5 + 2 * 3


def test_a_penalty_too_small_is_the_worst_in_the_search_and_an_error_alone() -> None:
    def weights(penalty: float) -> np.ndarray:
        if penalty < 3:
            raise NotPositiveError("too small")
        return np.array([[penalty]])

    found = wide._search(np.arange(9.0), np.zeros((1, 1)), weights, lambda one: one)
    assert found[0] == 3
    rows = np.ones((4, 30), np.float32)
    matrix = SymmetricMatrix(30)
    matrix.add_gram(rows)
    with pytest.raises(InputError, match="too small"):
        matrix.solve(np.ones((30, 1)), -1.0)


def test_the_matrix_outlives_its_factors() -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(90, 40)).astype(np.float32)
    matrix = SymmetricMatrix(40)
    matrix.add_gram(rows[:50])
    right = rng.normal(size=(40, 3))
    matrix.solve(right, 2.0)
    matrix.add_gram(rows[50:])
    full = rows.astype(np.float64).T @ rows.astype(np.float64)
    for penalty in (0.5, 300.0):
        expected = solve(full + penalty * np.eye(40), right, assume_a="pos")
        assert np.allclose(matrix.solve(right, penalty), expected, atol=1e-5)
    assert np.allclose(matrix.times(right[:, 0]), full @ right[:, 0], atol=1e-3)
    inside = slice(25, 40)
    right[inside] = 0
    expected = solve(full[:25, :25] + np.eye(25), right[:25], assume_a="pos")
    found = matrix.solve(right, 1.0, absent=inside)
    assert np.allclose(found[:25], expected, atol=1e-5)
    assert not found[25:].any()


def test_memory_does_not_grow_with_rows() -> None:
    """Peak of what Python holds, features drawn as they are read: five times the rows, as much."""
    peaks = []
    for rows in (1_500, 7_500):
        source = GeneratedSource(rows, 300)
        train, valid = (
            batch_of(source, part) for part in np.split(np.arange(rows), [rows * 9 // 10])
        )
        tracemalloc.start()
        Ridge(grid=5).fit(train, valid, seed=0, budget=ONE)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]
    assert peaks[1] < 0.5 * 7_500 * 300 * 2
