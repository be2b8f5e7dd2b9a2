"""Features of the same say: against scikit-learn, and against plain ridge on a planted signal."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

import learners.linear
from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.concat import Concat, block_scale
from learners.linear import Ridge

BUDGET = Budget(threads=1)


def sides(wide: int, genes: int = 420, seed: int = 0) -> list[FeatureBatch]:
    """Ten columns that tell the label, beside ``wide`` that tell nothing."""
    rng = np.random.default_rng(seed)
    told = rng.normal(2.0, 3.0, size=(genes, 10)).astype(np.float32)
    noise = rng.normal(size=(genes, wide)).astype(np.float32)
    signal = told @ rng.normal(size=10)
    labels = signal / signal.std() + rng.normal(0, 0.5, genes)
    rows = np.arange(genes, dtype=np.int64)
    names = rows.astype(str)
    whole = FeatureBatch(
        {"a": Block(ArraySource(told), rows), "b": Block(ArraySource(noise), rows)},
        gene=names, species=np.repeat("s", genes), family=names, targets=labels[:, None],
    )  # fmt: skip
    return [whole.take(rows[:240]), whole.take(rows[240:300]), whole.take(rows[300:])]


def fitted(learner, parts):
    learner.fit(parts[0], parts[1], seed=0, budget=BUDGET)
    return learner.predict(parts[2].without_targets())[:, 0]


@pytest.mark.parametrize("streamed", [False, True], ids=["held", "wide"])
@pytest.mark.parametrize("wide", [60, 700], ids=["primal", "dual"])
def test_it_is_sklearns_ridge_on_columns_scaled_by_feature(wide, streamed, monkeypatch):
    if streamed:
        monkeypatch.setattr(learners.linear, "WIDE", 1)
    train, valid, _ = parts = sides(wide)
    mine = fitted(Concat(penalty=55.0, balance=0.7), parts)
    scale = np.repeat(np.array([10.0, wide]) ** -0.35, [10, wide])
    scale *= np.sqrt((10 + wide) / (scale**2).sum())
    standard = StandardScaler().fit(train.array(np.float64))
    x = [standard.transform(part.array(np.float64)) * scale for part in parts]
    oracle = SklearnRidge(alpha=55.0).fit(
        np.concatenate(x[:2]), np.r_[train.targets[:, 0], valid.targets[:, 0]]
    )
    np.testing.assert_allclose(mine, oracle.predict(x[2]), rtol=2e-4, atol=2e-4)


def test_few_columns_that_tell_are_not_swamped_by_many_that_do_not():
    parts = sides(1500)
    plain, even = (r2_score(parts[2].targets, fitted(x, parts)) for x in (Ridge(), Concat()))
    assert even > plain + 0.3
    assert even > 0.6  # of 0.8 that the noise leaves


def test_one_feature_or_no_balance_is_ridge():
    parts = sides(60)
    np.testing.assert_allclose(
        fitted(Concat(balance=0.0), parts), fitted(Ridge(), parts), rtol=1e-9, atol=1e-9
    )
    np.testing.assert_array_equal(block_scale([17], 1.0), np.ones(17))
    scale = block_scale([4, 400], 1.0)
    assert (scale[:4] ** 2).sum() == pytest.approx((scale[4:] ** 2).sum())
    assert (scale**2).sum() == pytest.approx(404)
    with pytest.raises(InputError, match="between 0 and 2"):
        Concat(balance=3)
