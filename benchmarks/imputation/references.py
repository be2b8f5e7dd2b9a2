"""The three distance-based methods on the rows of every mask: what a learner's gain is measured over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import UnknownNameError
from learners.registry import get_learner, make_learner

if TYPE_CHECKING:
    from benchmarks.imputation.folding import Folds, View

DISTANCE_BASED: Final = ("nearest_gene", "range_mean", "inverse_distance")


def known_references() -> tuple[str, ...]:
    """Those of the three that are registered here."""
    found = []
    for name in DISTANCE_BASED:
        try:
            get_learner(name)
        except UnknownNameError:
            continue
        found.append(name)
    return tuple(found)


def references(folds: Folds, fold: int, view: View) -> dict[str, NDArray[np.float64]]:
    """Predictions of the distance-based methods for a view, fitted on the same fold.

    Kept for the other learners of the same run, which have the same folds.
    """
    key = fold, str(view.mask[0]) if len(view.mask) else ""
    kept = folds.setting.kept_references
    if key not in kept:
        kept[key] = _predicted(folds, fold, view)
    return kept[key]


def _predicted(folds: Folds, fold: int, view: View) -> dict[str, NDArray[np.float64]]:
    asked = folds.setting.asked_of(fold)
    batch = folds.profile_batch(view, asked).without_targets()
    found: dict[str, NDArray[np.float64]] = {}
    for name, learner in _fitted(folds, fold, asked).items():
        found[name] = np.asarray(learner.predict(batch), np.float64)
    return found


def _fitted(folds: Folds, fold: int, asked: frozenset[str]) -> dict[str, Any]:
    fitted = folds.setting.fitted_references
    if fold not in fitted:
        fitted.clear()  # of folds that are done
        train, valid = (folds.profile_batch(view, asked) for view in folds.views(fold))
        made: dict[str, Any] = {}
        for name in known_references():
            made[name] = make_learner(name)
            made[name].fit(train, valid, seed=folds.setting.seed, budget=folds.budget)
        fitted[fold] = made
    found: dict[str, Any] = fitted[fold]
    return found
