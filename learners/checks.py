"""The contract that every learner keeps, checked on small simulated batches.

``check_learner`` runs on any learner, built in or not; ``bench check NAME`` prints what it
gives. A check that does not apply says so and counts as passed.
"""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, Kind, Learner, LearnerInfo
from learners.batch import FeatureBatch
from learners.imputation.simulated import one_tissue
from learners.registry import get_learner
from learners.search import search_space_of
from learners.simulated import (
    Simulation,
    change_features,
    kind_for,
    shuffle_labels,
    simulate,
)
from learners.unpickled import nothing_unpickled, pickles_in

SIGNAL_R2: Final = 0.3
"""R² that a learner must reach on held-out rows with a planted signal (noise allows 0.92)."""

SHUFFLED_R2: Final = 0.1
"""R² that it must not pass where the labels are permuted."""

_SHORT: Final = Budget(rounds=5, threads=1)
"""Where only the machinery is looked at, not how well it learns."""

_FULL: Final = Budget(threads=1)


@dataclass(frozen=True)
class CheckResult:
    """Outcome of one check; ``skipped`` where it does not apply (it then counts as passed)."""

    name: str
    passed: bool
    message: str
    skipped: bool = False


class _Broken(Exception):  # noqa: N818 - a finding, not an error of the program
    """The contract is broken; the message says how."""


class _NotApplicable(Exception):  # noqa: N818 - nor is this one
    """The check does not apply; the message says why."""


@dataclass(frozen=True)
class _Case:
    """A learner with the data it is checked on."""

    cls: type[Learner]
    kind: str
    genes: int

    @property
    def info(self) -> LearnerInfo:
        return self.cls.info

    def data(self, **options: Any) -> Simulation:
        return simulate(self.kind, genes=self.genes, **options)

    @cached_property
    def few(self) -> Simulation:
        """Few rows, for what does not ask how well it learns."""
        return self.several(1)

    def several(self, targets: int) -> Simulation:
        return simulate(self.kind, genes=240, targets=targets)

    @cached_property
    def once(self) -> Learner:
        """Fitted shortly on :attr:`few`: one fit serves all checks that only predict."""
        return self.fitted(self.few)

    def fitted(self, data: Simulation, budget: Budget = _SHORT, seed: int = 1) -> Learner:
        learner = self.cls()
        learner.fit(data.train, data.valid, seed=seed, budget=budget)
        return learner


def check_learner(cls_or_name: type[Learner] | str, *, quick: bool = True) -> list[CheckResult]:
    """Run the contract suite.

    Parameters
    ----------
    cls_or_name : Learner class, registered name, or ``package.module:Class``
    quick : bool
        False uses four times the rows.

    Returns
    -------
    list of CheckResult, in the order of the suite; nothing is raised for a broken learner.

    Raises
    ------
    UnknownNameError, MissingDependencyError, InputError
        If there is no such learner, or it cannot be imported.
    """
    cls = get_learner(cls_or_name) if isinstance(cls_or_name, str) else cls_or_name
    first = _run("info is well-formed", lambda: _info(cls))
    if not first.passed:
        return [first]
    case = _Case(cls, kind_for(cls.info), 480 if quick else 1920)
    return [first] + [_run(name, lambda check=check: check(case)) for name, check in _CHECKS]  # type: ignore[misc] # a lambda with a default


def _run(name: str, check: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(name, True, check())
    except _NotApplicable as reason:
        return CheckResult(name, True, f"does not apply: {reason}", skipped=True)
    except _Broken as finding:
        return CheckResult(name, False, str(finding))
    except Exception as error:  # noqa: BLE001 - a learner of another package may raise anything
        return CheckResult(name, False, f"raises {type(error).__name__}: {error}")


def _info(cls: type[Learner]) -> str:
    info = getattr(cls, "info", None)
    if not isinstance(info, LearnerInfo):
        raise _Broken("the class attribute `info` must be a learners.base.LearnerInfo")
    if not info.name or not info.summary:
        raise _Broken("info.name and info.summary must not be empty")
    unknown = set(info.inputs) - set(get_args(Kind))
    if unknown or not info.inputs:
        raise _Broken(f"info.inputs {sorted(info.inputs)} must be some of {get_args(Kind)}")
    for method in ("fit", "predict", "save", "load"):
        if not callable(getattr(cls, method, None)):
            raise _Broken(f"there is no method {method}")
    taken = {
        name: parameter.default
        for name, parameter in inspect.signature(cls).parameters.items()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
    }
    if taken != dict(info.defaults):
        raise _Broken(f"the constructor takes {taken}, info.defaults says {dict(info.defaults)}")
    space = search_space_of(cls)
    tuned = f"; {len(space)} parameters to tune" if space else ""
    return f"{info.name}, takes {', '.join(sorted(info.inputs))}{tuned}"


def _same_seed(case: _Case) -> str:
    data = case.few
    first, second = (one.predict(data.test) for one in (case.once, case.fitted(data)))
    _require_shape(first, data.test)
    if case.info.deterministic == "exact":
        if not np.array_equal(first, second):
            raise _Broken(f"two fits with one seed differ by {_gap(first, second):.3g}")
        return "two fits with one seed predict the same bits"
    _require_close(first, second, "two fits with one seed", tolerance=1e-3)
    return "two fits with one seed predict the same to 1e-3"


def _order(case: _Case) -> str:
    learner, test = case.once, case.few.test.without_targets()
    order = np.random.default_rng(5).permutation(len(test)).astype(np.int64)
    _require_close(
        learner.predict(test)[order], learner.predict(test.take(order)), "rows in another order"
    )
    return "a row's prediction does not depend on the order of rows"


def _batch_size(case: _Case) -> str:
    learner, test = case.once, case.few.test.without_targets()
    whole = learner.predict(test)
    some = range(0, len(test), max(1, len(test) // 12))
    alone = np.concatenate([learner.predict(test.take(np.array([i], np.int64))) for i in some])
    _require_close(whole[list(some)], alone, "rows predicted one by one")
    return "a row's prediction does not depend on the rows beside it"


def _no_test_label(case: _Case) -> str:
    data, learner = case.few, case.once
    hidden = learner.predict(data.test.without_targets())
    shown = learner.predict(data.test)
    if not np.array_equal(hidden, shown):
        raise _Broken("predictions change when the batch to predict carries its labels")
    # Another instance sees the test rows, as another fold does; none of it may stay behind.
    swapped = Simulation(data.test, data.valid, data.train)
    case.fitted(swapped.map(lambda batch: shuffle_labels(batch, 3))).predict(data.train)
    again = case.fitted(data).predict(data.test.without_targets())
    if case.info.deterministic == "exact" and not np.array_equal(hidden, again):
        raise _Broken("predictions change after another instance was fitted on the test rows")
    _require_close(hidden, again, "a fit after one on the test rows", tolerance=1e-3)
    return "test labels do not reach predictions"


def _round_trip(case: _Case) -> str:
    learner, test = case.once, case.few.test.without_targets()
    before = learner.predict(test)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        path.mkdir()
        learner.save(path)
        if not any(path.rglob("*")):
            raise _Broken("save writes nothing")
        if pickles := pickles_in(path):
            raise _Broken(f"save writes pickles, which run code when read: {', '.join(pickles)}")
        with nothing_unpickled():
            loaded = case.cls.load(path)
    _require_close(before, loaded.predict(test), "what was saved and loaded")
    return "a saved and loaded learner predicts the same; no pickle"


def _signal(case: _Case) -> str:
    if case.info.control and case.kind != "none":
        raise _NotApplicable("a control that must not learn")
    data = case.data()
    score = _r2(data.test, case.fitted(data, _FULL))
    if score < SIGNAL_R2:
        raise _Broken(f"R² {score:.2f} on a planted signal, at least {SIGNAL_R2} is asked")
    return f"R² {score:.2f} on a planted signal"


def _shuffled(case: _Case) -> str:
    data = case.data()
    shuffled = Simulation(
        shuffle_labels(data.train, 1), shuffle_labels(data.valid, 2), shuffle_labels(data.test, 3)
    )
    score = _r2(shuffled.test, case.fitted(shuffled, _FULL))
    if score > SHUFFLED_R2:
        raise _Broken(f"R² {score:.2f} on shuffled labels: something leaks")
    return f"R² {score:.2f} on shuffled labels"


def _nan(case: _Case) -> str:
    if case.kind in ("none", "codes", "long"):
        raise _NotApplicable("it looks at no feature that can hold NaN")
    data, fitted = case.few, case.once

    def spoil(values: NDArray[Any]) -> NDArray[Any]:
        values[len(values) // 2].flat[0] = np.nan
        return values

    spoilt = change_features(data.test, spoil).without_targets()
    attempts: dict[str, Callable[[], Any]] = {
        "fit": lambda: case.fitted(
            Simulation(change_features(data.train, spoil), data.valid, data.test)
        ),
        "predict": lambda: fitted.predict(spoilt),
    }
    for name, attempt in attempts.items():
        try:
            attempt()
        except ValueError:
            continue
        raise _Broken(f"{name} takes NaN; it must raise ValueError (batch.array, iter, shards do)")
    return "NaN is refused with ValueError"


def _one_feature(case: _Case) -> str:
    if case.kind == "none":
        raise _NotApplicable("it looks at no feature")
    if case.kind == "profile":
        data = case.few.map(one_tissue)
        _require_shape(case.fitted(data).predict(data.test.without_targets()), data.test)
        return "fits one tissue"
    last = (..., slice(0, _SHORTEST.get(case.kind, 1)))
    data = case.few.map(lambda batch: change_features(batch, lambda x: _first(x, last)))
    _require_shape(case.fitted(data).predict(data.test.without_targets()), data.test)
    return "fits one feature"


_SHORTEST: Final[Mapping[str, int]] = {"codes": 16, "long": 128}
"""Bases of the shortest sequence that a learner is to take."""


def _first(values: NDArray[Any], last: Any) -> NDArray[Any]:
    """One column (one region, one bin, one channel), or one short region of codes."""
    kept = values[last]
    for axis in range(1, kept.ndim - 1):
        kept = kept.take([0], axis=axis)
    return np.ascontiguousarray(kept)


def _constant(case: _Case) -> str:
    if case.kind == "none":
        raise _NotApplicable("it looks at no feature")
    data = case.few.map(lambda batch: change_features(batch, np.zeros_like))
    found = case.fitted(data).predict(data.test.without_targets())
    _require_shape(found, data.test)
    if np.ptp(found, axis=0).max() > 1e-3:
        raise _Broken("rows with the same features are predicted differently")
    return "constant features give one finite prediction"


def _several_targets(case: _Case) -> str:
    if not case.info.multi_output:
        raise _NotApplicable("info.multi_output is False")
    data = case.several(3)
    mask = np.random.default_rng(4).random(data.train.require_targets().shape) > 0.2
    labels = np.where(mask, data.train.require_targets(), np.nan)
    train = data.train.with_targets(labels).with_mask(mask)
    whole = case.fitted(data).predict(data.test.without_targets())
    _require_shape(whole, data.test)
    masked = case.fitted(Simulation(train, data.valid, data.test))
    _require_shape(masked.predict(data.test.without_targets()), data.test)
    return "several targets, and missing ones masked"


_CHECKS: Final[tuple[tuple[str, Callable[[_Case], str]], ...]] = (
    ("same seed, same prediction", _same_seed),
    ("order invariance", _order),
    ("batch-size invariance", _batch_size),
    ("no test label reachable", _no_test_label),
    ("save and load, no pickle", _round_trip),
    ("planted signal learned", _signal),
    ("about zero on shuffled labels", _shuffled),
    ("NaN refused", _nan),
    ("one feature", _one_feature),
    ("constant features", _constant),
    ("several targets", _several_targets),
)

CHECK_NAMES: Final = ("info is well-formed", *(name for name, _ in _CHECKS))
"""Names of the checks, in order."""


def _require_shape(found: Any, batch: FeatureBatch) -> None:
    wanted = batch.require_targets().shape
    if not isinstance(found, np.ndarray) or found.shape != wanted:
        raise _Broken(f"predict gives shape {np.shape(found)}, not {wanted}")
    if not np.isfinite(found).all():
        raise _Broken(f"{int((~np.isfinite(found)).sum())} predictions are not finite")


def _require_close(
    first: NDArray[Any], second: NDArray[Any], what: str, tolerance: float = 1e-5
) -> None:
    if first.shape != second.shape:
        raise _Broken(f"{what}: shape {second.shape}, not {first.shape}")
    if not _gap(first, second) <= tolerance * max(1.0, float(np.abs(first).max())):
        raise _Broken(f"{what} are predicted differently, by up to {_gap(first, second):.3g}")


def _gap(first: NDArray[Any], second: NDArray[Any]) -> float:
    return float(np.abs(first - second).max())


def _r2(test: FeatureBatch, learner: Learner) -> float:
    labels, found = test.require_targets(), learner.predict(test.without_targets())
    _require_shape(found, test)
    if test.mask is not None:
        labels, found = labels[test.mask], found[test.mask]
    left, there = ((labels - found) ** 2).sum(), ((labels - labels.mean()) ** 2).sum()
    return float(1 - left / there)
