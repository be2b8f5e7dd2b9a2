"""Every registered learner keeps the contract; learners broken on purpose fail the right check."""

from __future__ import annotations

import importlib
import itertools
import time
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.checks import CHECK_NAMES, check_learner
from learners.linear import Ridge
from learners.registry import Unavailable, list_learners
from learners.simulated import simulate

# The variants of EMPRES are s2e on other features: one stands for all; that of codes takes minutes.
_LIKE_OTHERS = {"EMPRES_0", "EMPRES_1", "EMPRES_3", "EMPRES_4"}
# So are the hybrid's ablations: the hybrid with a part switched off.
_LIKE_OTHERS |= {name for name in list_learners() if name.startswith("hybrid_no_")}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.nightly if name in _LIKE_OTHERS else ())
        for name in sorted(list_learners())
    ],
)
def test_registered_learner_keeps_the_contract(name: str) -> None:
    info = list_learners()[name]
    if isinstance(info, Unavailable):
        pytest.skip(info.reason)
    results = check_learner(name)
    assert [r.name for r in results] == list(CHECK_NAMES)
    assert [r for r in results if not r.passed] == []


def _info(**changes: object) -> LearnerInfo:
    settings = {"name": "broken", "inputs": frozenset({"tabular"}), "summary": "for a test"}
    return LearnerInfo(**(settings | {"defaults": Ridge.info.defaults} | changes))  # type: ignore[arg-type]


class PeeksAtShownLabels(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        return super().predict(batch) if batch.targets is None else batch.targets


class RemembersOtherFolds(Ridge):
    info: ClassVar[LearnerInfo] = _info()
    seen: ClassVar[dict[str, float]] = {}

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        super().fit(train, valid, seed=seed, budget=budget)
        self.seen.update(zip(train.gene, train.require_targets()[:, 0], strict=True))

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        found = super().predict(batch)
        return np.array([[self.seen.get(g, x)] for g, x in zip(batch.gene, found[:, 0])])  # noqa: B905


class CentresOnTheBatch(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        found = super().predict(batch)
        return found - found.mean(axis=0)


class DependsOnOrder(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        return super().predict(batch) + np.linspace(0, 1, len(batch))[:, None]


class Pickles(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def save(self, path: Path) -> None:
        super().save(path)
        importlib.import_module("joblib").dump(self._weight, path / "weight.joblib")


class Unpickles(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    @classmethod
    def load(cls, path: Path) -> Ridge:
        pickle = importlib.import_module("pickle")
        return pickle.loads(pickle.dumps(super().load(path)))  # type: ignore[no-any-return]


class ForgetsOnLoad(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    @classmethod
    def load(cls, path: Path) -> Ridge:
        learner = super().load(path)
        learner._intercept = learner._intercept + 1
        return learner


class Unseeded(Ridge):
    info: ClassVar[LearnerInfo] = _info()
    clock: ClassVar[itertools.count[int]] = itertools.count(time.time_ns())

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        super().fit(train, valid, seed=seed, budget=budget)
        self._intercept = self._intercept + np.random.default_rng(next(self.clock)).normal(0, 0.1)


class TakesNaN(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        rows = np.nan_to_num(next(iter(batch.blocks.values())).read())
        return rows.astype(np.float64) @ self._weight + self._intercept


class LearnsNothing(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        return np.zeros_like(super().predict(batch))


class WrongShape(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        return super().predict(batch)[:, 0]


class OneTargetOnly(Ridge):
    info: ClassVar[LearnerInfo] = _info(multi_output=True)

    def predict(self, batch: FeatureBatch) -> np.ndarray:
        return super().predict(batch)[:, :1]


class Divides(Ridge):
    info: ClassVar[LearnerInfo] = _info()

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        if train.array().std() == 0:
            raise ZeroDivisionError("standardised by hand")
        super().fit(train, valid, seed=seed, budget=budget)


class OtherDefaults(Ridge):
    info: ClassVar[LearnerInfo] = _info(defaults={"penalty": 3.0, "grid": 33})


class UnknownKind(Ridge):
    info: ClassVar[LearnerInfo] = _info(inputs=frozenset({"pictures"}))


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (PeeksAtShownLabels, "no test label reachable"),
        (RemembersOtherFolds, "no test label reachable"),
        (CentresOnTheBatch, "batch-size invariance"),
        (DependsOnOrder, "order invariance"),
        (Pickles, "save and load, no pickle"),
        (Unpickles, "save and load, no pickle"),
        (ForgetsOnLoad, "save and load, no pickle"),
        (Unseeded, "same seed, same prediction"),
        (TakesNaN, "NaN refused"),
        (LearnsNothing, "planted signal learned"),
        (WrongShape, "same seed, same prediction"),
        (OneTargetOnly, "several targets"),
        (Divides, "constant features"),
        (OtherDefaults, "info is well-formed"),
        (UnknownKind, "info is well-formed"),
    ],
)
def test_broken_learner_fails_the_matching_check(broken: type[Ridge], check: str) -> None:
    failed = {r.name: r.message for r in check_learner(broken) if not r.passed}
    assert check in failed
    assert failed[check]


def test_the_unbroken_twin_passes() -> None:
    class Whole(Ridge):
        info: ClassVar[LearnerInfo] = _info()

    assert all(r.passed for r in check_learner(Whole, quick=False))


def test_leak_through_shuffled_labels_is_seen() -> None:
    class Oracle(Ridge):
        """Looks a label up in the array that the batches were cut from."""

        info: ClassVar[LearnerInfo] = _info()
        labels: ClassVar[dict[str, float]] = {}

        def predict(self, batch: FeatureBatch) -> np.ndarray:
            return np.array([[self.labels[g]] for g in batch.gene])

    # What a leak would reach on the shuffled labels of the suite.
    test = simulate("tabular", genes=480).test
    order = np.random.default_rng(3).permutation(len(test))
    shuffled = test.require_targets()[order, 0]
    everything = simulate("tabular", genes=1920)
    Oracle.labels = dict.fromkeys(everything.train.gene, 0.0)
    Oracle.labels |= dict.fromkeys(everything.valid.gene, 0.0)
    Oracle.labels |= dict.fromkeys(everything.test.gene, 0.0)
    Oracle.labels |= dict(zip(test.gene, shuffled, strict=True))
    failed = {r.name for r in check_learner(Oracle) if not r.passed}
    assert "about zero on shuffled labels" in failed


def test_simulated_signal_is_the_ceiling_that_it_says() -> None:
    # Noise of deviation 0.3 on a signal of deviation 1: R² of the truth is 1 / 1.09.
    for kind in ("tabular", "bins", "codes", "none"):
        data = simulate(kind, genes=1800)
        everything = np.concatenate(
            [b.require_targets() for b in (data.train, data.valid, data.test)]
        )
        assert everything.var() == pytest.approx(1.09, abs=0.05)
        if kind == "none":  # a learner that knows only families has to have seen them
            continue
        sides = [set(b.family) for b in (data.train, data.valid, data.test)]
        assert not sides[0] & sides[1]
        assert not sides[0] & sides[2]
        assert not sides[1] & sides[2]
