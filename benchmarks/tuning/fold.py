"""Tunes one fold in this process: the training side in, the winner out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from benchmarks.runs.folder import RunFolder
from benchmarks.runs.plans import LearnerPlan, RunPlan
from benchmarks.splits.artefact import Sides
from benchmarks.tuning.journal import Journal
from benchmarks.tuning.pruning import MedianRule
from benchmarks.tuning.study import Evaluate, Tuned, search
from benchmarks.tuning.trial import Asked, Outcome, TrialData, run_trial, trial_data
from learners.base import Budget

FEW: Final = 500
"""Genes below which the choice among trials is told to be uncertain."""


def tune_fold(
    plan: RunPlan,
    fold: int,
    sides: Sides,
    folder: RunFolder,
    evaluate: Callable[[Sequence[TrialData]], Evaluate],
    say: Callable[[str], None],
) -> Tuned:
    """Search the parameters of one fold.

    Parameters
    ----------
    plan : RunPlan
        Of a learner with a :class:`~benchmarks.tuning.plan.Tuning`.
    fold : int
    sides : Sides
        Rows of the fold that may be learned from; those under test are not looked at.
    folder : RunFolder
        Where the journal lies.
    evaluate
        Makes what fits the trials out of their rows.
    say
        Told each trial.
    """
    tuning = plan.learner.tuning
    assert tuning is not None  # noqa: S101 - the caller's promise
    batch = plan.data.batch
    key = (plan.seed, plan.repeat, fold)
    data = trial_data(batch.take(sides.train), batch.take(sides.valid), *key, folds=tuning.folds)
    journal = Journal(
        journal_path(folder.path, plan.repeat, fold),
        f"{plan.digest[:16]}/{plan.repeat}-{fold}",
        tuning,
    )
    few = sum(len(part.score) for part in data)
    title = f"{plan.learner.label} seed {plan.seed} fold {fold}"
    if few < FEW:
        say(
            f"{title}: {few} genes choose among {tuning.trials} trials, so chance has a large say; "
            "--tune-folds 5 scores each trial on all training families, in five times the time"
        )
    return search(
        tuning, journal, evaluate(data), seed=key, say=lambda text: say(f"{title}: {text}")
    )


def journal_path(run: Path, repeat: int, fold: int) -> Path:
    """Where the trials of a fold are kept."""
    return run / "tuning" / f"{repeat}-{fold}.journal"


def one_by_one(
    plan: LearnerPlan, seed: int, budget: Budget
) -> Callable[[Sequence[TrialData]], Evaluate]:
    """Trials fitted in this process, one after the other."""

    def on(data: Sequence[TrialData]) -> Evaluate:
        def evaluate(trials: Sequence[Asked], rule: MedianRule | None) -> Iterator[Outcome]:
            for asked in trials:
                yield run_trial(plan, asked, data, seed, budget, rule)

        return evaluate

    return on
