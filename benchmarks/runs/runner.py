"""Runs learners over splits: plans all runs, then fits fold by fold, each fold kept as it comes.

For each fold the learner is fitted on training genes, stops early on validation genes, and
predicts the genes under test from batches that carry no label. A learner's failure is a result,
written as such; the other runs go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.inputs.features import Features, check_kinds, resolve
from benchmarks.inputs.funnel import scored_funnel
from benchmarks.inputs.genes import choose_species, gene_frame
from benchmarks.inputs.labels import check_labels
from benchmarks.predict.inputs import recorded_inputs
from benchmarks.runs.asked import learners_asked
from benchmarks.runs.folder import RunFolder, describe, run_record
from benchmarks.runs.folds import FitFold, run_fold
from benchmarks.runs.identity import device_name, thread_count
from benchmarks.runs.plans import (
    LearnerPlan,
    RunOptions,
    RunPlan,
    folding_of,
    identity_of,
    placed,
)
from benchmarks.runs.progress import Progress
from benchmarks.runs.some_folds import only_folds
from benchmarks.scores.marks import KEPT, keeps_families, marked, seen_species
from benchmarks.splits.artefact import AlignedSplit, Split
from benchmarks.splits.files import load_split
from benchmarks.splits.leakage import gate
from benchmarks.tasks import get_task
from benchmarks.tasks.base import Task, TaskData, TaskOfSums
from featurestore.errors import InputError


@dataclass(frozen=True)
class RunOutcome:
    """What became of one run: ``state`` is ``ok``, ``failed``, ``already there``, or ``scored again``
    where only the replicates behind the intervals were others.
    """

    name: str
    path: Path
    label: str
    seed: int
    state: str
    error: dict[str, str] | None = None


def run(store: Any, options: RunOptions, progress: Progress | None = None) -> list[RunOutcome]:
    """Run every learner with every seed; what is there already is left as it is.

    Parameters
    ----------
    store : featurestore.store.reader.Store
    options : RunOptions
    progress : Progress, optional
        Where to say what is going on.

    Returns
    -------
    list of RunOutcome
        One per learner and seed, failed ones included.

    Raises
    ------
    InputError
        If an option is wrong; before anything is fitted.
    LeakageError
        If a family stands on two sides of a split, unless allowed.
    StoreError
        If the store turns out damaged while it is read.
    """
    options = placed(options)
    plans = plan_runs(store, options, progress)
    task = get_task(options.task)
    total = sum(len(plan.folding.folds) for plan in plans)
    progress = _counting(progress, total)
    with _fitting(plans, options, progress) as fit:
        outcomes = [_run_one(store, task, plan, options, fit, progress) for plan in plans]
    progress.close()
    return outcomes


def _fitting(
    plans: Sequence[RunPlan], options: RunOptions, progress: Progress
) -> AbstractContextManager[FitFold]:
    """What fits the folds: this process, or the workers of a scheduler."""
    if options.scheduler is not None and options.spread == "folds":
        from benchmarks.runs.spread import folds_over_workers

        return folds_over_workers(plans, options, options.scheduler, progress.say)
    budget = replace(options.budget, say=progress.during)
    return nullcontext(
        lambda plan, fold, folder: run_fold(plan, fold, budget, folder, say=progress.say)
    )


def _counting(progress: Progress | None, total: int) -> Progress:
    """The progress given, or a new one, counting ``total`` folds."""
    if progress is None:
        return Progress(total)
    progress.total = total
    return progress


def plan_runs(store: Any, options: RunOptions, progress: Progress | None = None) -> list[RunPlan]:
    """Everything that can be wrong is found here, before the first fit."""
    task = get_task(
        options.task, variants=options.variants, lines=options.lines, mask=options.masks or None,
        tracks=options.tracks, window=options.window, bin=options.bin, stretch=options.stretch,
        tilings=options.tilings, learn_from=options.learn_from,
    )  # fmt: skip
    target = options.target or task.default_target
    if options.seeds < 1:
        raise InputError(f"--seeds {options.seeds}: at least one")
    species = choose_species(store, options.species)
    genes = gene_frame(store, species)
    learners, said = learners_asked(store, species, options)
    splits = _splits(genes, options)
    prepared: dict[str, tuple[Features, Any]] = {}
    plans = []
    for learner in learners:
        if learner.features not in prepared:
            features = resolve(store, species, learner.features)
            data = task.prepare(store, species, genes, features, target)
            prepared[learner.features] = features, data
            # Labels are the same for all; folds of task tracks do not follow the split.
            if len(prepared) == 1 and options.task != "tracks":
                for seed, (split, _) in enumerate(splits):
                    check_labels(split, split.repeat_for(seed), data, target)
        features, data = prepared[learner.features]
        check_kinds(features, learner.info, store, species)
        _check_profiles(learner, data, options)
        for seed, (split, notes) in enumerate(splits):
            repeat = split.repeat_for(seed)
            aligned = AlignedSplit(split, genes, repeat, data.labelled)
            folding = folding_of(options.task, data, aligned, seed, learner)
            folding = only_folds(folding, options.only_folds)
            identity = identity_of(
                store, options, target, learner, data, split, seed, species, folding
            )
            told = (*notes, *features.notes, *data.notes, *folding.notes)
            plans.append(
                RunPlan(learner, data, split, repeat, seed, identity, features.contamination, told)
            )
    if progress is not None:
        for note in dict.fromkeys([*said, *(note for plan in plans for note in plan.notes)]):
            progress.say(f"note: {note}")
    return plans


def _check_profiles(learner: LearnerPlan, data: TaskData, options: RunOptions) -> None:
    """Refuse what does not fit a task whose rows are profiles or windows, or one whose rows are not."""
    if options.task == "tracks":
        from benchmarks.tasks.tracks import check_learner

        check_learner(learner.cls)
    if data.folding is None and "profile" in learner.info.inputs:
        raise InputError(
            f"{learner.info.name} learns from profiles over tissues, which only --task imputation has"
        )
    if data.folding is not None and options.tune is not None:
        raise InputError(
            f"--tune is not for task {options.task}: its learners choose their settings on what "
            "validates"
        )


def _splits(genes: pd.DataFrame, options: RunOptions) -> list[tuple[Split, list[str]]]:
    """One split per seed, each past the gate, with what is to be said of it."""
    found = []
    for seed in range(options.seeds):
        split = load_split(
            options.split, genes, seeds=(seed,), keep_test_families=options.keep_test_families
        )
        report = gate(split, genes, allow=options.allow_leakage)
        notes = list(split.notes)
        if report.leaks:
            notes.append(f"leakage allowed: {report.text()}")
        found.append((split, notes))
    return found


def _run_one(
    store: Any, task: Task, plan: RunPlan, options: RunOptions, fit: FitFold, progress: Progress
) -> RunOutcome:
    folder = RunFolder(options.out / plan.name, plan.digest)
    title = f"{plan.learner.label} seed {plan.seed}"
    folds = plan.folding.folds
    finished = folder.finished()
    if finished is not None:
        for fold in folds:
            progress.step(f"{title} fold {fold}: already there", timed=False)
        state = _finished(task, plan, folder, finished, options)
        return RunOutcome(plan.name, folder.path, plan.learner.label, plan.seed, state)
    notes = list(plan.notes)
    facts = []
    for fold in folds:
        known = folder.fold(plan.repeat, fold)
        if known is None:
            done = fit(plan, fold, folder)
            progress.step(f"{title} fold {fold}: {_said(done)}")
        else:
            done = known
            progress.step(f"{title} fold {fold}: kept from before", timed=False)
        notes += done["notes"]
        facts.append(done)
    error = next((fold["error"] for fold in facts if fold["error"]), None)
    tables = None
    if error is None:
        tables, error = _tables(task, plan, folder, folds, options)
    record = run_record(
        plan.name, plan.identity, plan.digest, facts, error,
        dataset_digest=str(store.attrs.get("meristem", {}).get("dataset_digest", "")),
        device=device_name(options.budget), threads=thread_count(options.budget),
        contamination=plan.contamination, bootstrap=options.bootstrap, notes=notes,
        inputs=recorded_inputs(store, plan.identity["species"], plan.learner.features),
        funnel=scored_funnel(
            store, plan.identity["species"], plan.data, plan.aligned,
            tables["predictions"] if tables and options.only_folds else None,
        ),
    )  # fmt: skip
    plan.folding.save(folder.path)
    folder.close(record, tables, plan.split)
    if error is not None:
        progress.say(f"{title} failed: {error['type']}: {error['message']}")
    return RunOutcome(
        plan.name, folder.path, plan.learner.label, plan.seed, record["status"], error
    )


def _finished(
    task: Task, plan: RunPlan, folder: RunFolder, record: dict[str, Any], options: RunOptions
) -> str:
    """A run that is there stays, but for intervals drawn with other replicates than asked for."""
    if record.get("bootstrap") == options.bootstrap:
        return "already there"
    metrics = _metrics(task, plan, folder.scored_predictions(), folder.scored_sums(), options)
    folder.score_again({**record, "bootstrap": options.bootstrap}, metrics)
    return "scored again"


def _metrics(
    task: Task, plan: RunPlan, predictions: pd.DataFrame, sums: pd.DataFrame | None,
    options: RunOptions,
) -> pd.DataFrame:  # fmt: skip
    metrics = task.evaluate(
        predictions, unit=plan.data.unit, bootstrap=options.bootstrap, seed=plan.seed
    )
    if sums is not None and isinstance(task, TaskOfSums):
        more = task.evaluate_sums(sums, bootstrap=options.bootstrap, seed=plan.seed)
        metrics = pd.concat([metrics, more], ignore_index=True)
    metrics = marked(metrics, predictions, seen_species(plan.contamination))
    return metrics.assign(**_declared(plan, options))


def _declared(plan: RunPlan, options: RunOptions) -> dict[str, bool]:
    """Columns that every row of a result carries: what was declared of its split."""
    told = {"leakage_allowed": True} if options.allow_leakage else {}
    return told | ({KEPT: True} if keeps_families(plan.split.recipe) else {})


def _said(fold: dict[str, Any]) -> str:
    if fold["error"]:
        return f"failed: {fold['error']['type']}: {fold['error']['message']}"
    rows = fold.get("rows", "genes")
    return (
        f"{_said_tuning(fold.get('tuning'))}fit {fold['fit_s']:.1f} s on {fold['n_train']:,} + {fold['n_valid']:,} {rows}, "
        f"predicted {fold['n_test']:,} in {fold['predict_s']:.1f} s"
    )


def _said_tuning(tuning: dict[str, Any] | None) -> str:
    if not tuning:
        return ""
    lost = [f"{tuning[state]} {state}" for state in ("pruned", "failed") if tuning[state]]
    of = f" ({', '.join(lost)})" if lost else ""
    return f"tuned in {tuning['trials']} trials{of}, rmse {tuning['valid_rmse']:.4f}; "


def _tables(
    task: Task, plan: RunPlan, folder: RunFolder, folds: Sequence[int], options: RunOptions
) -> tuple[dict[str, pd.DataFrame] | None, dict[str, str] | None]:
    """Predictions, metrics and learning curves of a whole run, or why there are none."""
    keys = [(plan.repeat, fold) for fold in folds]
    predictions = folder.predictions(keys)
    try:
        if predictions.empty:
            raise InputError("no gene was scored: no gene under test has both features and a label")
        sums = folder.sums(keys)
        metrics = _metrics(task, plan, predictions, sums, options)
    except InputError as error:
        return None, describe(error)
    predictions = predictions.assign(**_declared(plan, options))
    tables = {
        "predictions": predictions, "metrics": metrics, "learning": folder.learning(keys),
    }  # fmt: skip
    more = {"trials": folder.trials(keys), "sums": sums}
    return {**tables, **{name: one for name, one in more.items() if one is not None}}, None
