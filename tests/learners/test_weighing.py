"""Several predictions in one."""

from __future__ import annotations

import numpy as np
import pytest

from learners.weighing import weigh


def test_weights_are_those_of_another_library() -> None:
    from sklearn.linear_model import LinearRegression

    rng = np.random.default_rng(1)
    truth = rng.normal(size=(90, 2))
    predicted = (
        truth[:, None, :] + rng.normal(size=(90, 4, 2)) * np.array([0.3, 0.6, 1, 9])[:, None]
    )
    known = rng.random((90, 2)) > 0.2
    weight, intercept = weigh(
        predicted.transpose(1, 0, 2), np.where(known, truth + 3, np.nan), known
    )
    for column in range(2):
        rows = known[:, column]
        model = LinearRegression(positive=True)
        model.fit(predicted[rows, :, column], truth[rows, column] + 3)
        assert weight[:, column] == pytest.approx(model.coef_, abs=1e-8)
        assert intercept[column] == pytest.approx(model.intercept_, abs=1e-8)


def test_a_member_that_learned_nothing_has_no_weight() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=(90, 1))
    good, flat = truth + rng.normal(size=(90, 1)), 0.5 + 1e-4 * truth
    weight, intercept = weigh(np.stack([good, flat]), truth, np.ones((90, 1), bool))
    alone, _ = weigh(good[None], truth, np.ones((90, 1), bool))
    assert weight[:, 0] == pytest.approx([alone[0, 0], 0.0], abs=1e-9)
    weight, intercept = weigh(np.stack([flat, flat]), truth, np.ones((90, 1), bool))
    assert not weight.any()
    assert intercept == pytest.approx(truth.mean(axis=0))


def test_of_a_target_that_nobody_measured_all_weigh_the_same() -> None:
    weight, intercept = weigh(np.ones((4, 3, 1)), np.full((3, 1), np.nan), np.zeros((3, 1), bool))
    assert (weight == 0.25).all()
    assert not intercept.any()
