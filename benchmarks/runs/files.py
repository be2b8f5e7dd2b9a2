"""The result files of a run: their columns, and reading and writing them. No pickle anywhere.

    runs/<run>/run.json             identity, status, times, funnel, contamination
               predictions.parquet  one row per gene (sample, target) and repeat
               metrics.parquet      one row per metric and scope
               learning.parquet     one row per fold and step, where the learner reports them
               trials.parquet       one row per fold and trial, where parameters were tuned
               tuning/<repeat>-<fold>.journal   the same as Optuna's journal
               model/<repeat>-<fold>/   what Learner.save wrote

This module and :mod:`benchmarks.scores.stats` need numpy, pandas and pyarrow only, so results can be
analysed where no learner is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

from benchmarks.runs.schema import check_run
from benchmarks.runs.tables import read_result
from featurestore.errors import InputError
from featurestore.untrusted import read_json

RESULT_SCHEMA: Final = 1

PREDICTION_COLUMNS: Final = ("gene", "species", "family", "repeat", "fold", "y_true", "y_pred")
"""Always there; ``target``, ``sample``, ``line``, ``mask`` join them where a task has several."""

METRIC_COLUMNS: Final = (
    "metric", "scope", "value", "unit", "ci_low", "ci_high", "n", "n_families",
)  # fmt: skip

LEARNING_COLUMNS: Final = ("repeat", "fold", "step", "train", "valid")

TRIAL_COLUMNS: Final = (
    "repeat", "fold", "trial", "state", "value", "best", "seconds", "last_step", "params", "error",
)  # fmt: skip
"""``value`` is the error on validation families, ``best`` the least so far, ``params`` JSON."""

Status = Literal["ok", "failed", "missing"]


def digest_of(identity: Mapping[str, Any]) -> str:
    """Sha256 of a JSON identity, independent of key order."""
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that it is either there whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(data)
    partial.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, atomically, keys in the order given."""
    write_atomic(path, (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode())


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write Parquet, atomically."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    table.to_parquet(partial, index=False, compression="zstd")
    partial.replace(path)


@dataclass(frozen=True)
class RunResult:
    """One run folder, read: ``run`` is run.json; tables are None where the run failed."""

    path: Path
    run: dict[str, Any]
    predictions: pd.DataFrame | None
    metrics: pd.DataFrame | None
    learning: pd.DataFrame | None
    trials: pd.DataFrame | None = None

    @property
    def status(self) -> Status:
        """``ok`` or ``failed``."""
        status: Status = self.run["status"]
        return status

    @property
    def identity(self) -> dict[str, Any]:
        """What makes the run what it is."""
        identity: dict[str, Any] = self.run["identity"]
        return identity

    @property
    def label(self) -> str:
        """``learner@features``, how tables name the run's method."""
        tuning = self.identity.get("tuning") or {}
        return label_of(
            str(self.identity["learner"]["name"]),
            str(self.identity["features"]),
            self.identity["learner"].get("members") or (),
            int(tuning.get("trials") or 0),
        )


def label_of(learner: str, features: str, members: Sequence[str] = (), trials: int = 0) -> str:
    """``learner@features (of members, tuned trials)``, without what there is not."""
    plain = f"{learner}@{features}" if features else learner
    more = [f"of {', '.join(members)}"] if members else []
    more += [f"tuned {trials}"] if trials else []
    return f"{plain} ({'; '.join(more)})" if more else plain


def read_run(path: Path) -> RunResult:
    """Read one run folder.

    Raises
    ------
    InputError
        If run.json is missing or not readable, or a table that it promises is missing.
    """
    file = path / "run.json"
    try:
        run = check_run(read_json(file), file)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not a readable run ({error}); run it again") from error
    tables: dict[str, pd.DataFrame | None] = {}
    for name in ("predictions", "metrics", "learning", "trials"):
        table = path / f"{name}.parquet"
        tables[name] = read_result(table, name) if table.exists() else None
    if run.get("status") == "ok" and (tables["predictions"] is None or tables["metrics"] is None):
        raise InputError(
            f"{path}: run.json says ok but a table is missing; delete the folder and run again"
        )
    return RunResult(path, run, **tables)


def read_runs(folder: Path) -> list[RunResult]:
    """Read every run below ``folder`` (or the one run that it is), in order of name.

    Raises
    ------
    InputError
        If there is none.
    """
    if (folder / "run.json").exists():
        return [read_run(folder)]
    found = sorted(p.parent for p in folder.glob("*/run.json"))
    if not found:
        raise InputError(
            f"{folder}: no runs here; make some with: bench run --store S --learner L --out {folder}"
        )
    return [read_run(path) for path in found]
