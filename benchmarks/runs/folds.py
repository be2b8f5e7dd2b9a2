"""One fold of one run: tuned where that is asked for, fitted, predicted, saved.

For each fold the learner is fitted on training genes, stops early on validation genes, and
predicts the genes under test from batches that carry no label.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd

from benchmarks.runs.folder import RunFolder, best_step, describe, learning_table
from benchmarks.runs.identity import PeakMemory
from benchmarks.runs.per_target import learner_for
from benchmarks.runs.plans import RunPlan
from benchmarks.runs.predicting import checked, nothing
from benchmarks.runs.some_folds import whole_folding
from benchmarks.splits.artefact import Sides
from benchmarks.tasks.base import FoldingOfSums
from benchmarks.tuning.study import Tuned
from featurestore.errors import InputError, StoreError
from learners.base import Budget

FitFold = Callable[[RunPlan, int, RunFolder], dict[str, Any]]
"""Fits one fold of a run, writes it into the folder of the run, gives its facts."""


def fold_facts(plan: RunPlan, fold: int) -> tuple[dict[str, Any], Sides]:
    """What is known of a fold before it is fitted, and the rows of its sides."""
    sides = plan.folding.sides(fold)
    facts: dict[str, Any] = {
        "repeat": plan.repeat, "fold": fold, "n_train": len(sides.train),
        "n_valid": len(sides.valid), "n_test": len(sides.test), "fit_s": 0.0, "predict_s": 0.0,
        "status": "ok", "error": None, "best_step": None, "wall_s": 0.0, "peak_memory_bytes": 0,
        "notes": plan.folding.told(fold),
    }  # fmt: skip
    if rows := getattr(whole_folding(plan.folding), "rows", ""):
        facts["rows"] = rows
    return facts, sides


def run_fold(
    plan: RunPlan,
    fold: int,
    budget: Budget,
    folder: RunFolder,
    tuned: Tuned | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Tune, fit, predict, save one fold; a learner's failure becomes facts.

    What was tuned elsewhere is given as ``tuned``.
    """
    facts, sides = fold_facts(plan, fold)
    start = time.perf_counter()
    predictions = learning = sums = None
    with PeakMemory() as peak:
        try:
            _check_sides(facts, sides)
            if plan.learner.tuning is not None and len(sides.test):
                plan, facts["tuning"] = _tuned(plan, fold, sides, budget, folder, tuned, say)
            predictions, learning = _fit_predict(plan, budget, folder, facts)
            sums = _sums(plan, fold, facts["repeat"])
        except StoreError:
            raise  # the store is damaged: no learner's fault, and no reason to go on
        except Exception as error:  # noqa: BLE001 - whatever a learner raises is its result
            facts.update(status="failed", error=describe(error))
    facts["wall_s"] = time.perf_counter() - start
    facts["peak_memory_bytes"] = peak.bytes
    folder.save_fold(facts, predictions, learning, sums)
    return facts


def _check_sides(facts: dict[str, Any], sides: Sides) -> None:
    for name in ("train", "valid"):
        if len(sides.test) and not len(getattr(sides, name)):
            raise InputError(
                f"fold {facts['fold']} has no {name} {facts.get('rows', 'genes').removesuffix('s')} with "
                "features and a label; use fewer "
                "folds or more families, or features that more genes have"
            )


def _tuned(
    plan: RunPlan,
    fold: int,
    sides: Sides,
    budget: Budget,
    folder: RunFolder,
    tuned: Tuned | None,
    say: Callable[[str], None],
) -> tuple[RunPlan, dict[str, Any]]:
    """The plan with the winner of the fold's search, and what is to be told of the search."""
    if tuned is None:
        from benchmarks.tuning.fold import one_by_one, tune_fold

        trials = one_by_one(plan.learner, plan.seed, replace(budget, say=None))
        tuned = tune_fold(plan, fold, sides, folder, trials, say)
    folder.save_trials(plan.repeat, fold, tuned.table(plan.repeat, fold))
    return replace(plan, learner=plan.learner.with_params(tuned.params)), dict(tuned.facts)


def _fit_predict(
    plan: RunPlan,
    budget: Budget,
    folder: RunFolder,
    facts: dict[str, Any],
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    batch = plan.data.batch
    place = {"repeat": facts["repeat"], "fold": facts["fold"]}
    fold = facts["fold"]
    if not facts["n_test"]:
        empty = plan.folding.predict(fold, None, nothing(batch))
        return empty.assign(**place), None
    learner = learner_for(plan.learner, batch)
    budget = replace(
        budget, checkpoint=folder.checkpoint(**place), say=_titled(plan, facts, budget)
    )
    train, valid = plan.folding.batches(fold)
    start = time.perf_counter()
    learner.fit(train, valid, seed=plan.seed, budget=budget)
    facts["fit_s"] = time.perf_counter() - start
    start = time.perf_counter()
    predictions = plan.folding.predict(fold, learner, checked(learner, batch))
    facts["predict_s"] = time.perf_counter() - start
    kept = plan.folding.facts(fold)
    facts["notes"] += kept.pop("notes", [])
    facts |= kept
    folder.save_model(learner, **place)
    learning = learning_table(learner, **place)
    facts["notes"] += getattr(learner, "notes", [])
    if learned := getattr(learner, "learned", None):
        facts["learned"] = dict(learned)
    facts["best_step"] = best_step(learner, learning)
    return predictions.assign(**place), learning


def _sums(plan: RunPlan, fold: int, repeat: int) -> pd.DataFrame | None:
    """Sums that a task keeps of what it predicted beside its predictions, None where it keeps none."""
    folding = whole_folding(plan.folding)
    if not isinstance(folding, FoldingOfSums):
        return None
    return folding.sums(fold).assign(repeat=repeat, fold=fold)


def _titled(plan: RunPlan, facts: dict[str, Any], budget: Budget) -> Callable[[str], None] | None:
    """What shows the lines of a fit, with the name of its fold before them."""
    say = budget.say
    title = f"{plan.learner.label} seed {plan.seed} fold {facts['fold']}"
    return None if say is None else lambda text: say(f"{title}: {text}")
