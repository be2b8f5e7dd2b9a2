"""The three distance-based methods on the rows of every mask: what a learner's gain is measured over."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation.batches import profile_blocks, view_batch
from benchmarks.imputation.setting import Setting
from benchmarks.imputation.views import View, learning_views
from featurestore.errors import UnknownNameError
from learners.base import Budget
from learners.batch import FeatureBatch
from learners.registry import get_learner, make_learner

DISTANCE_BASED: Final = ("nearest_gene", "range_mean", "inverse_distance")


@cache
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


def references(
    setting: Setting, fold: int, view: View, budget: Budget
) -> dict[str, NDArray[np.float64]]:
    """Predictions of the distance-based methods for a view, fitted on the same fold.

    Kept for the other learners of the same run, which have the same folds.

    Returns
    -------
    dict of name to float64 array, shape (n, tissue)
    """
    key = fold, view.name
    if key not in setting.kept_references:
        batch = _batch(setting, fold, view).without_targets()
        setting.kept_references[key] = {
            name: np.asarray(learner.predict(batch), np.float64)
            for name, learner in _fitted(setting, fold, budget).items()
        }
    return setting.kept_references[key]


def _batch(setting: Setting, fold: int, view: View) -> FeatureBatch:
    blocks = profile_blocks(setting.problem, view, setting.asked_of(fold))
    return view_batch(setting.problem, view, blocks)


def _fitted(setting: Setting, fold: int, budget: Budget) -> dict[str, Any]:
    """The methods, fitted on a fold; those of the fold before are let go."""
    if fold not in setting.fitted_references:
        setting.fitted_references.clear()
        train, valid = (_batch(setting, fold, view) for view in learning_views(setting, fold))
        made: dict[str, Any] = {}
        for name in known_references():
            made[name] = make_learner(name)
            made[name].fit(train, valid, seed=setting.seed, budget=budget)
        setting.fitted_references[fold] = made
    found: dict[str, Any] = setting.fitted_references[fold]
    return found
