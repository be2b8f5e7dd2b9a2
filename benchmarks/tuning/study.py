"""Draws trials, learns from their outcomes, names the winner.

Trials are drawn a generation at a time by Optuna's TPE (Bergstra et al., NeurIPS 2011), each from
a generator seeded by its own number. So what is drawn follows from the seed and from the
outcomes of earlier generations alone: not from how many workers fit them, nor from how often
the run was killed in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from benchmarks.runs.files import TRIAL_COLUMNS
from benchmarks.tuning.journal import Journal, params_text
from benchmarks.tuning.plan import GENERATION, STARTUP, Tuning, distributions, load_optuna
from benchmarks.tuning.pruning import MedianRule, median_rule
from benchmarks.tuning.trial import Asked, Outcome
from featurestore.errors import InputError

Evaluate = Callable[[Sequence[Asked], MedianRule | None], Iterator[Outcome]]
"""Fits trials, and gives each outcome as it comes, in any order."""

_SAID_ERROR: Final = 300


@dataclass(frozen=True)
class Tuned:
    """What a fold's search has found.

    Parameters
    ----------
    params : mapping
        The winner's.
    outcomes : sequence of Outcome
        In the order of their numbers.
    facts : mapping
        What ``run.json`` says of it.
    """

    params: Mapping[str, Any]
    outcomes: Sequence[Outcome]
    facts: Mapping[str, Any]

    def table(self, repeat: int, fold: int) -> pd.DataFrame:
        """The trials, columns :data:`~benchmarks.runs.files.TRIAL_COLUMNS`."""
        rows, best = [], float("inf")
        for one in self.outcomes:
            value = float("nan") if one.value is None else one.value
            best = min(best, value) if value == value else best
            rows.append(
                (repeat, fold, one.number, one.state, value,
                 best if best < float("inf") else float("nan"), one.seconds,
                 max(one.steps, default=0), params_text(one.params), one.error)
            )  # fmt: skip
        return pd.DataFrame(rows, columns=list(TRIAL_COLUMNS))


def search(
    tuning: Tuning,
    journal: Journal,
    evaluate: Evaluate,
    *,
    seed: tuple[object, ...],
    say: Callable[[str], None] = lambda text: None,
) -> Tuned:
    """Fit the trials that the journal lacks, and find the best of all.

    Parameters
    ----------
    tuning : Tuning
    journal : Journal
        Trials of before a kill; new ones are added as they finish.
    evaluate
        Fits trials.
    seed : tuple
        What the draws follow from: the seed of the run, the repeat, the fold.
    say
        Told each trial.

    Raises
    ------
    InputError
        If the journal's trials are not those that this search draws, or every trial failed.
    """
    optuna = load_optuna()
    study = optuna.create_study(direction="minimize")
    if tuning.starts_known:
        study.enqueue_trial(dict(tuning.start))
    for first in range(0, tuning.trials, GENERATION):
        trials = [
            _draw(study, tuning, number, seed)
            for number in range(first, min(first + GENERATION, tuning.trials))
        ]
        asked = [one for _, one in trials]
        for one in asked:
            _check_known(journal, one)
        missing = [one for one in asked if one.number not in journal.known]
        if missing:
            for outcome in evaluate(missing, _rule(journal, first)):
                journal.record(outcome)
                say(_said(outcome, tuning.trials))
        for trial, one in trials:
            if trial is not None:
                _tell(study, trial, journal.known[one.number])
    return _winner(tuning, [journal.known[i] for i in range(tuning.trials)])


def _draw(
    study: Any, tuning: Tuning, number: int, seed: tuple[object, ...]
) -> tuple[Any | None, Asked]:
    """The next trial; the first is the learner untuned, which may lie outside the space."""
    if number == 0 and not tuning.starts_known:
        return None, Asked(0, {})
    study.sampler = load_optuna().samplers.TPESampler(
        seed=_seed(*seed, number), constant_liar=True, n_startup_trials=STARTUP
    )
    trial = study.ask(distributions(tuning.space))
    return trial, Asked(number, dict(trial.params))


def _seed(*key: object) -> int:
    text = "\t".join(map(str, ("tuning", *key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")


def _rule(journal: Journal, before: int) -> MedianRule | None:
    """What the finished trials of earlier generations end later ones by."""
    earlier = [journal.known[number] for number in range(before)]
    return median_rule([one.steps for one in earlier if one.state == "complete"])


def _check_known(journal: Journal, asked: Asked) -> None:
    known = journal.known.get(asked.number)
    if known is not None and dict(known.params) != dict(asked.params):
        raise InputError(
            f"{journal.path}: trial {asked.number} has {params_text(known.params)} where this search "
            f"draws {params_text(asked.params)}: somebody else's trials; delete it and run again"
        )


def _tell(study: Any, trial: Any, outcome: Outcome) -> None:
    from optuna.trial import TrialState

    for step, error in outcome.steps.items():
        trial.report(error, step)
    if outcome.state == "complete":
        study.tell(trial, outcome.value)
    else:
        state = TrialState.PRUNED if outcome.state == "pruned" else TrialState.FAIL
        study.tell(trial, state=state)


def _winner(tuning: Tuning, outcomes: Sequence[Outcome]) -> Tuned:
    complete = [one for one in outcomes if one.value is not None]
    if not complete:
        first = next((one.error for one in outcomes if one.error), "all of them were ended early")
        raise InputError(f"none of {len(outcomes)} trials came out: {first[:_SAID_ERROR]}")
    best = min(complete, key=lambda one: (one.value, one.number))
    states = [one.state for one in outcomes]
    facts = {
        "trials": len(outcomes),
        **{state: states.count(state) for state in ("complete", "pruned", "failed")},
        "winner": best.number,
        "params": dict(best.params),
        "valid_rmse": best.value,
        "untuned_valid_rmse": outcomes[0].value,
        "seconds": round(sum(one.seconds for one in outcomes), 6),
        "errors": list(dict.fromkeys(one.error for one in outcomes if one.error))[:5],
    }
    return Tuned(dict(best.params), outcomes, facts)


def _said(outcome: Outcome, of: int) -> str:
    told = f"rmse {outcome.value:.4f}" if outcome.value is not None else outcome.state
    if outcome.error:
        told += f": {outcome.error[:_SAID_ERROR]}"
    return f"trial {outcome.number + 1} of {of}: {told}, {outcome.seconds:.1f} s"
