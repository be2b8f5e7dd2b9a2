"""The journal of a fold's trials: Optuna's JSON lines, one finished trial each.

A trial enters the journal when it is over, in one line, so that a run that is killed at any
instant finds whole trials or none. What is read may be somebody else's: the file is checked line
by line before Optuna replays it, and what it replays is plain JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.tuning.plan import Tuning, distributions, load_optuna
from benchmarks.tuning.trial import Outcome, State
from featurestore.errors import InputError
from featurestore.untrusted import LARGEST_JSON, open_file, parse_json

_NUMBER: Final = "meristem:number"
_SECONDS: Final = "meristem:seconds"
_ERROR: Final = "meristem:error"
_WRONG: Final = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError, OverflowError,
)  # fmt: skip


class Journal:
    """Finished trials of one study, on disk.

    Parameters
    ----------
    path : Path
        Made where there is none.
    study : str
        Name of the study: another one's trials are refused.
    tuning : Tuning

    Raises
    ------
    InputError
        If the file is none of ours.
    """

    def __init__(self, path: Path, study: str, tuning: Tuning) -> None:
        optuna = load_optuna()
        self.path = path
        self._space = distributions(tuning.space)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            _check(path)
        with _readable(path):
            backend = optuna.storages.journal.JournalFileBackend(str(path))
            storage = optuna.storages.JournalStorage(backend)
            known = optuna.get_all_study_names(storage)
            if known and known != [study]:
                raise InputError(
                    f"{path}: the journal of another run ({str(known[0])[:80]}, this is {study}); "
                    "delete it and run again"
                )
            self._study = optuna.create_study(
                storage=storage, study_name=study, load_if_exists=True
            )
            self.known = {one.number: one for one in self._read(tuning.trials)}
        """Outcomes by number of the trial, as they are on disk."""

    def _read(self, trials: int) -> Iterator[Outcome]:
        from optuna.trial import TrialState

        states: dict[TrialState, State] = {
            TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed",
        }  # fmt: skip
        for one in self._study.get_trials(deepcopy=False):
            number, seconds = one.user_attrs[_NUMBER], one.user_attrs[_SECONDS]
            if type(number) is not int or not 0 <= number < trials or one.state not in states:
                raise ValueError(f"trial {str(number)[:20]} of {trials}, {one.state.name}")
            state = states[one.state]
            value = float(one.value or 0.0) if state == "complete" else None
            steps = {int(step): float(x) for step, x in one.intermediate_values.items()}
            error = str(one.user_attrs.get(_ERROR, ""))
            yield Outcome(number, dict(one.params), state, value, steps, float(seconds), error)

    def record(self, outcome: Outcome) -> None:
        """Add a finished trial."""
        from optuna.trial import TrialState, create_trial

        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(
            outcome.state, TrialState.FAIL
        )
        known = {name: self._space[name] for name in outcome.params}
        told = {_NUMBER: outcome.number, _SECONDS: round(outcome.seconds, 6)}
        self._study.add_trial(
            create_trial(
                state=state, value=outcome.value, params=dict(outcome.params),
                distributions=known, intermediate_values=dict(outcome.steps),
                user_attrs=told | ({_ERROR: outcome.error} if outcome.error else {}),
            )
        )  # fmt: skip
        self.known[outcome.number] = outcome


def _check(path: Path) -> None:
    """Refuse what is no journal; a last line that a kill has torn is cut off."""
    with open_file(path) as file:
        raw = file.read(LARGEST_JSON + 1)
    if len(raw) > LARGEST_JSON:
        raise InputError(f"{path}: larger than {LARGEST_JSON:,} bytes, which no journal is")
    whole = raw[: raw.rfind(b"\n") + 1]
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            told = parse_json(line)
        except ValueError as error:
            raise _not_ours(path, f"line {number}: {str(error)[:200]}") from error
        if not isinstance(told, dict):
            raise _not_ours(path, f"line {number} holds a {type(told).__name__}")
    if len(whole) < len(raw):
        with path.open("r+b") as file_:
            file_.truncate(len(whole))


def _not_ours(path: Path, what: str) -> InputError:
    return InputError(
        f"{path}: not a journal of trials as it was written ({what}); delete it and run again, "
        "its trials are then fitted anew"
    )


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever replaying lines of wrong content raises, as one error that names the file."""
    try:
        yield
    except InputError:
        raise
    except _WRONG as error:
        told = next(iter(str(error).splitlines()), "")[:200]
        raise _not_ours(path, f"{type(error).__name__}: {told}") from error


def params_text(params: Any) -> str:
    """Parameters as one line of JSON."""
    return json.dumps(dict(params), sort_keys=True, ensure_ascii=False)
