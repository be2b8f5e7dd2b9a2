"""The folder of one run while it is under way, and when it is done.

Each fold is written as it comes: model, learning curve, predictions, and last a small JSON that
says the fold is whole. A run that is killed finds them again and fits only what is missing.
``run.json`` comes last of all.
"""

from __future__ import annotations

import json
import os
import shutil
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.runs.files import (
    LEARNING_COLUMNS,
    RESULT_SCHEMA,
    Status,
    write_json,
    write_table,
)
from benchmarks.splits.artefact import write_split
from featurestore.plain_json import plain

FOLD_KEYS = (
    "repeat", "fold", "n_train", "n_valid", "n_test", "fit_s", "predict_s", "status", "error",
    "best_step",
)  # fmt: skip
FOLD_EXTRAS = ("tuning", "learned", "intervals")
"""What only some folds tell: the search of their parameters, what the learner says it learned, how wide
the intervals of an imputation are.
"""


def describe(error: BaseException) -> dict[str, str]:
    """An exception as ``{"type", "message", "traceback"}``."""
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }


@dataclass(frozen=True)
class RunFolder:
    """Where one run lies."""

    path: Path
    digest: str

    def finished(self) -> dict[str, Any] | None:
        """What run.json says if this very run is done and well, else None."""
        run = _read_json(self.path / "run.json")
        if run is None or run.get("identity_digest") != self.digest or run.get("status") != "ok":
            return None
        tables = ("predictions.parquet", "metrics.parquet")
        return run if all((self.path / name).exists() for name in tables) else None

    def fold(self, repeat: int, fold: int) -> dict[str, Any] | None:
        """Facts of a fold that was finished before, else None."""
        facts = _read_json(self._fold(repeat, fold, ".json"))
        if facts is None or facts.get("identity_digest") != self.digest or facts["status"] != "ok":
            return None
        return facts if self._fold(repeat, fold, ".parquet").exists() else None

    def save_fold(
        self, facts: dict[str, Any], predictions: pd.DataFrame | None,
        learning: pd.DataFrame | None, sums: pd.DataFrame | None = None,
    ) -> None:  # fmt: skip
        """Write a fold; the JSON last, so that it vouches for the rest."""
        repeat, fold = facts["repeat"], facts["fold"]
        (self.path / "folds").mkdir(parents=True, exist_ok=True)
        if predictions is not None:
            write_table(self._fold(repeat, fold, ".parquet"), predictions)
        if learning is not None and len(learning):
            write_table(self._fold(repeat, fold, ".learning.parquet"), learning)
        if sums is not None:
            write_table(self._fold(repeat, fold, ".sums.parquet"), sums)
        facts = {**facts, "identity_digest": self.digest}
        write_json(self._fold(repeat, fold, ".json"), plain(facts))
        shutil.rmtree(self.checkpoint(repeat, fold), ignore_errors=True)

    def checkpoint(self, repeat: int, fold: int) -> Path:
        """Where a learner keeps what it needs to go on after a kill; gone once the fold is saved."""
        return self._fold(repeat, fold, ".checkpoint")

    def save_trials(self, repeat: int, fold: int, trials: pd.DataFrame) -> None:
        """Write the trials of a fold."""
        (self.path / "folds").mkdir(parents=True, exist_ok=True)
        write_table(self._fold(repeat, fold, ".trials.parquet"), trials)

    def trials(self, folds: Sequence[tuple[int, int]]) -> pd.DataFrame | None:
        """Trials of all folds, None where none was tuned."""
        paths = [self._fold(repeat, fold, ".trials.parquet") for repeat, fold in folds]
        tables = [pd.read_parquet(path) for path in paths if path.exists()]
        return pd.concat(tables, ignore_index=True) if tables else None

    def save_model(self, learner: Any, repeat: int, fold: int) -> None:
        """Let the learner write its model, and show the folder only when it is whole."""
        final = self.path / "model" / f"{repeat}-{fold}"
        partial = final.with_name(f".{final.name}.{os.getpid()}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        learner.save(partial)
        shutil.rmtree(final, ignore_errors=True)
        partial.replace(final)

    def sums(self, folds: Sequence[tuple[int, int]]) -> pd.DataFrame | None:
        """Sums of all folds, None where the task keeps none."""
        paths = [self._fold(repeat, fold, ".sums.parquet") for repeat, fold in folds]
        tables = [pd.read_parquet(path) for path in paths if path.exists()]
        return pd.concat(tables, ignore_index=True) if tables else None

    def predictions(self, folds: Sequence[tuple[int, int]]) -> pd.DataFrame:
        """Predictions of all folds, as they were written, in order of repeat and fold."""
        tables = [pd.read_parquet(self._fold(repeat, fold, ".parquet")) for repeat, fold in folds]
        return pd.concat([t for t in tables if len(t)] or tables, ignore_index=True)

    def learning(self, folds: Sequence[tuple[int, int]]) -> pd.DataFrame:
        """Learning curves of all folds that have one."""
        paths = [self._fold(repeat, fold, ".learning.parquet") for repeat, fold in folds]
        tables = [pd.read_parquet(path) for path in paths if path.exists()]
        columns = list(LEARNING_COLUMNS)
        if not tables:
            return pd.DataFrame({name: pd.Series(dtype="float64") for name in columns})
        return pd.concat(tables, ignore_index=True)[columns]

    def close(
        self,
        run: dict[str, Any],
        tables: dict[str, pd.DataFrame] | None,
        split: Any,
    ) -> None:
        """Write what the whole run says. Without tables (it failed) none are left from before."""
        self.path.mkdir(parents=True, exist_ok=True)
        for name in ("predictions", "metrics", "learning", "trials", "sums"):
            file = self.path / f"{name}.parquet"
            if tables is None or name not in tables:
                file.unlink(missing_ok=True)
            else:
                write_table(file, tables[name])
        write_split(split, self.path / "split.parquet")
        write_json(self.path / "run.json", plain(run))
        if run["status"] == "ok":
            shutil.rmtree(self.path / "folds", ignore_errors=True)
        for leftover in (*self.path.glob(".*.partial"), *self.path.glob("model/.*.partial")):
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def scored_predictions(self) -> pd.DataFrame:
        """Predictions of a finished run."""
        return pd.read_parquet(self.path / "predictions.parquet")

    def scored_sums(self) -> pd.DataFrame | None:
        """Sums of a finished run, None where its task keeps none."""
        file = self.path / "sums.parquet"
        return pd.read_parquet(file) if file.exists() else None

    def score_again(self, run: dict[str, Any], metrics: pd.DataFrame) -> None:
        """Put other metrics into a finished run; run.json last, so that it vouches for them."""
        write_table(self.path / "metrics.parquet", metrics)
        write_json(self.path / "run.json", plain(run))

    def _fold(self, repeat: int, fold: int, suffix: str) -> Path:
        return self.path / "folds" / f"{repeat}-{fold}{suffix}"


def learning_table(learner: Any, repeat: int, fold: int) -> pd.DataFrame | None:
    """The learner's learning curve, columns LEARNING_COLUMNS, None where it has none."""
    curve = getattr(learner, "learning_curve", None)
    if not curve:
        return None
    rows = [
        (repeat, fold, int(one["step"]), _number(one.get("train")), _number(one.get("valid")))
        for one in curve
    ]
    return pd.DataFrame(rows, columns=list(LEARNING_COLUMNS))


def best_step(learner: Any, learning: pd.DataFrame | None) -> int | None:
    """The step that the learner says it stopped at, else that of the lowest validation loss."""
    told = getattr(learner, "best_step", None)
    if told is not None:
        return int(told)
    if learning is None or not learning["valid"].notna().any():
        return None
    lowest = int(np.nanargmin(learning["valid"].to_numpy(np.float64)))
    return int(learning["step"].iloc[lowest])


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def run_record(
    name: str,
    identity: dict[str, Any],
    digest: str,
    folds: Sequence[dict[str, Any]],
    error: dict[str, str] | None,
    **facts: Any,
) -> dict[str, Any]:
    """The content of run.json, its keys in their order."""
    status: Status = "failed" if error else "ok"
    return {
        "schema": RESULT_SCHEMA,
        "run": name,
        "status": status,
        "error": error,
        "identity": identity,
        "identity_digest": digest,
        "dataset_digest": facts["dataset_digest"],
        "device": facts["device"],
        "threads": facts["threads"],
        "times": {
            key: round(sum(fold[key] for fold in folds), 6)
            for key in ("fit_s", "predict_s", "wall_s")
        },
        "peak_memory_bytes": max((fold["peak_memory_bytes"] for fold in folds), default=0),
        "contamination": facts["contamination"],
        "inputs": facts["inputs"],
        "funnel": facts["funnel"],
        "folds": [
            {key: fold[key] for key in FOLD_KEYS}
            | {key: fold[key] for key in FOLD_EXTRAS if fold.get(key)}
            for fold in folds
        ],
        "bootstrap": facts["bootstrap"],
        "audit": None,
        "notes": facts["notes"],
    }


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None
