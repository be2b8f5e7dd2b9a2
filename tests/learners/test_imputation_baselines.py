"""Imputation without trees or networks, against other libraries and against plain loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.impute import KNNImputer
from sklearn.linear_model import Ridge

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.imputation.distance import InverseDistance, NearestGene, NearestGenes, RangeMean
from learners.imputation.gaussian import Gaussian, GaussianConditional
from learners.imputation.imputer import Baseline
from learners.imputation.low_rank import LowRank
from learners.imputation.raw_trees import LightGBMNeighbours, RawTrees, XGBoostNeighbours
from learners.imputation.ridge import RidgeNeighbours
from learners.imputation.table import known_of, profiles_of
from learners.imputation.tissues import ExpressionNeighbours, GeneTissueMean, TissueMean

BUDGET = Budget(threads=1)


def batch(
    values: np.ndarray,
    shown: np.ndarray,
    asked: np.ndarray,
    *,
    start: int = 0,
    step: float = 1000.0,
) -> FeatureBatch:
    """Genes at equal steps along one chromosome, on the forward strand."""
    n, tissues = values.shape
    rows = np.arange(n, dtype=np.int64)
    tss = (start + rows) * step
    place = np.stack([np.zeros(n), tss, tss, np.ones(n), np.ones(n)], axis=1)
    profile = np.stack([np.where(shown, values, 0.0), shown], axis=1).astype(np.float32)
    names = np.array([f"gene_{start + i:04d}" for i in rows])
    return FeatureBatch(
        {
            "profile": Block(ArraySource(profile, kind="profile"), rows),
            "place": Block(ArraySource(place, kind="profile"), rows),
        },
        gene=names, species=np.full(n, "simulated"), family=names,
        targets=np.where(asked, values, np.nan), mask=asked,
        target_names=tuple(f"tissue_{i}" for i in range(tissues)),
    )  # fmt: skip


def correlated(genes: int, tissues: int, seed: int = 0, rank: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(genes, rank)) @ rng.normal(size=(rank, tissues))
    return 5.0 + shared + rng.normal(0, 0.4, (genes, tissues))


def entries(values: np.ndarray, seed: int = 1) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    """A fifth of all entries under test, a tenth of the rest for validation."""
    rng = np.random.default_rng(seed)
    test = rng.random(values.shape) < 0.2
    valid = ~test & (rng.random(values.shape) < 0.1)
    seen = ~test & ~valid
    return (
        batch(values, seen, seen),
        batch(values, seen, valid),
        batch(values, ~test, test).without_targets(),
    )


def fitted(learner: Baseline, values: np.ndarray) -> tuple[Baseline, FeatureBatch, np.ndarray]:
    train, valid, test = entries(values)
    learner.fit(train, valid, seed=0, budget=BUDGET)
    return learner, test, profiles_of(test).seen


def test_nearest_gene_takes_the_nearest_known_value_of_each_tissue() -> None:
    values = correlated(40, 4)
    learner, test, seen = fitted(NearestGene(), values)
    found = learner.predict(test)
    for row in range(3, 37):
        for tissue in range(4):
            others = [j for j in range(40) if j != row and seen[j, tissue]]
            nearest = min(abs(j - row) for j in others)
            # Of two at one distance the one downstream, as the strand is forward.
            want = row + nearest if row + nearest in others else row - nearest
            assert found[row, tissue] == pytest.approx(values[want, tissue], rel=1e-6)


@pytest.mark.parametrize("k", [1, 4])
def test_inverse_distance_and_plain_means_by_hand(k: int) -> None:
    values = correlated(60, 3)
    half = np.arange(60) % 2 == 0
    full = np.ones((30, 3), bool)
    train, valid = batch(values[half], full, full), batch(values[:2], full[:2], full[:2], start=500)
    # Genes of the batch stand 2 kb apart, asked between them.
    asked = replace(
        batch(values[:5], full[:5] & False, full[:5], start=700), targets=None, mask=None
    )
    place = np.array([[0, 1000.0 * (2 * i + 3) - 400, 0, 1, 1] for i in range(5)])
    blocks = {**asked.blocks, "place": Block(ArraySource(place, kind="profile"), np.arange(5))}
    asked = replace(asked, blocks=blocks)
    weighed = InverseDistance(neighbours=k, power=2.0, offset=100.0)
    plain = NearestGenes(neighbours=k)
    for learner in (weighed, plain):
        learner.fit(train, valid, seed=0, budget=BUDGET)
    known = known_of(train)
    tss = known.places.tss
    for row in range(5):
        far = np.abs(tss - place[row, 1])
        nearest = np.argsort(far)[:k]
        weight = 1 / (far[nearest] + 100.0) ** 2
        want = weight @ known.value[nearest] / weight.sum()
        assert weighed.predict(asked)[row] == pytest.approx(want, rel=1e-5)
        assert plain.predict(asked)[row] == pytest.approx(known.value[nearest].mean(0), rel=1e-5)


def test_range_mean_is_the_mean_within_the_range() -> None:
    values = correlated(50, 3)
    learner, test, seen = fitted(RangeMean(kilobases=4.0), values)
    found = learner.predict(test)
    for row in range(50):
        others = [j for j in range(max(0, row - 4), min(50, row + 5)) if j != row]
        for tissue in range(3):
            known = [values[j, tissue] for j in others if seen[j, tissue]]
            assert found[row, tissue] == pytest.approx(np.mean(known), rel=1e-5)


def test_means_follow_their_definition() -> None:
    values = correlated(80, 5)
    mean, test, seen = fitted(TissueMean(), values)
    want = np.array([values[seen[:, t], t].mean() for t in range(5)])
    assert mean.predict(test) == pytest.approx(np.tile(want, (80, 1)), rel=1e-6)
    both, test, seen = fitted(GeneTissueMean(shrinkage=0.0), values)
    found = both.predict(test)
    for row in np.flatnonzero(seen.any(axis=1)):
        above = np.mean([values[row, t] - want[t] for t in range(5) if seen[row, t]])
        assert found[row] == pytest.approx(want + above, rel=1e-5)


def test_similar_genes_are_those_of_scikit_learn() -> None:
    values = correlated(120, 6)
    learner, test, seen = fitted(ExpressionNeighbours(neighbours=7), values)
    hidden = np.where(seen, values, np.nan)
    # Centred as the learner does: distances between rows do not change by it.
    want = KNNImputer(n_neighbors=7).fit(hidden).transform(hidden)
    found = learner.predict(test)
    # scikit-learn falls back to the mean where no donor shares a tissue: not here.
    assert found[~seen] == pytest.approx(want[~seen], rel=1e-4)


def test_gaussian_conditional_and_leave_one_out_by_hand() -> None:
    rng = np.random.default_rng(0)
    values = correlated(30, 5)
    shown = rng.random(values.shape) < 0.6
    mean, covariance = values.mean(0), np.cov(values.T)
    rows = profiles_of(batch(values, shown, ~shown))
    found, deviation = Gaussian(mean, covariance).given(rows)
    for row in range(30):
        for tissue in range(5):
            o = [t for t in range(5) if shown[row, t] and t != tissue]
            inverse = np.linalg.inv(covariance[np.ix_(o, o)]) if o else np.zeros((0, 0))
            share = covariance[tissue, o] @ inverse
            want = mean[tissue] + share @ (values[row, o] - mean[o])
            assert found[row, tissue] == pytest.approx(want, abs=1e-4)
            left = covariance[tissue, tissue] - share @ covariance[o, tissue]
            assert deviation[row, tissue] == pytest.approx(np.sqrt(left), abs=1e-4)


def test_covariance_is_recovered_where_entries_are_missing() -> None:
    values = correlated(6000, 4)
    shown = np.random.default_rng(2).random(values.shape) < 0.7
    found = Gaussian.of(known_of(batch(values, shown, shown)))
    assert found.mean == pytest.approx(values.mean(0), abs=0.08)
    assert found.covariance == pytest.approx(np.cov(values.T), abs=0.25)


def test_low_rank_recovers_a_matrix_of_low_rank() -> None:
    rng = np.random.default_rng(0)
    values = 3.0 + rng.normal(size=(400, 2)) @ rng.normal(size=(2, 20))
    learner, test, seen = fitted(LowRank(rank=2, penalty=0.01), values)
    error = (learner.predict(test) - values)[~seen]
    assert (error**2).mean() < 0.02 * values[~seen].var()


def test_ridge_on_neighbours_is_that_of_scikit_learn() -> None:
    values = correlated(200, 3)
    full = np.ones((200, 3), bool)
    train, valid = batch(values, full, full), batch(values[:3], full[:3], full[:3], start=900)
    learner = RidgeNeighbours(neighbours=2, penalty=0.5)
    learner.fit(train, valid, seed=0, budget=BUDGET)
    known = learner.require_known()
    centred = known.value - learner.mean
    near = learner.references.nearest(known, 2).index
    columns = centred[near].reshape(len(known), -1)
    covariance = columns.T @ columns / len(columns)
    penalty = 0.5 * np.trace(covariance) / len(covariance) * len(columns)
    want = Ridge(alpha=penalty, fit_intercept=False).fit(columns, centred).predict(columns)
    found = learner.predict(train.without_targets()) - learner.mean
    assert found[:200] == pytest.approx(want[:200], abs=1e-4)


def test_rows_with_nothing_to_go_by_get_tissue_means_and_it_is_said() -> None:
    values = correlated(50, 4)
    learner, test, seen = fitted(NearestGene(), values)
    place = test.blocks["place"].read()
    place[:7, 4] = 0
    blocks = {**test.blocks, "place": Block(ArraySource(place, kind="profile"), np.arange(50))}
    found = learner.predict(replace(test, blocks=blocks))
    want = np.broadcast_to(learner.mean, (7, 4))
    assert found[:7][~seen[:7]] == pytest.approx(want[~seen[:7]])
    rows = (~seen[:7]).any(axis=1).sum()
    assert f"{rows} of 50 predicted rows have no reference gene" in learner.notes[0]
    for cls in (GaussianConditional, LowRank, GeneTissueMean, ExpressionNeighbours):
        learner, test, _ = fitted(cls(), values)
        nothing = batch(values, np.zeros_like(values, bool), np.ones_like(values, bool))
        assert learner.predict(nothing.without_targets()) == pytest.approx(
            np.broadcast_to(learner.mean, (50, 4))
        )
        assert "nothing seen" in learner.notes[0]


def test_a_batch_without_profiles_is_refused_with_the_command_that_gives_them() -> None:
    train, valid, _ = entries(correlated(20, 3))
    bare = [replace(b, blocks={"place": b.blocks["place"]}) for b in (train, valid)]
    with pytest.raises(InputError, match="--task imputation"):
        TissueMean().fit(*bare, seed=0, budget=BUDGET)


def test_held_out_predictions_do_not_see_their_targets() -> None:
    values = correlated(80, 5)
    train, valid, _ = entries(values)
    other = replace(valid, targets=valid.require_targets() + 100.0)
    for cls in (GaussianConditional, ExpressionNeighbours, InverseDistance):
        one, two = cls(), cls()
        fixed = {"neighbours": 5, "power": 1.0, "offset": 1e3}
        if cls is not GaussianConditional:
            one, two = (
                cls(**{k: v for k, v in fixed.items() if k in cls.info.defaults}) for _ in "ab"
            )
        one.fit(train, valid, seed=0, budget=BUDGET)
        two.fit(train, other, seed=0, budget=BUDGET)
        assert np.array_equal(one.held_out, two.held_out)
        assert not np.allclose(one.mean, two.mean)  # the refit does see them


@pytest.mark.parametrize("make", [XGBoostNeighbours, LightGBMNeighbours])
def test_trees_on_neighbours_do_not_learn_genes_by_heart(make: type[RawTrees]) -> None:
    # Neighbours tell nothing of one another, and the genes under test are also learned from: whoever
    # knows them by heart would tell their hidden entries from that, not from neighbours.
    values = correlated(400, 4, rank=1)
    train, valid, test = entries(values)
    learner = make()
    learner.fit(train, valid, seed=0, budget=BUDGET)
    found = learner.predict(test)
    apart = profiles_of(test).seen == 0
    off = (values - values.mean(axis=0))[apart]
    assert np.corrcoef((found - found.mean(axis=0))[apart], off)[0, 1] < 0.6
    assert max(learner.trees.rounds) < 100
