"""What the report says in words: one sentence to take home, and what stands against it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import pandas as pd

from benchmarks.scores.compare import standing
from benchmarks.scores.marks import keeps_families
from benchmarks.scores.methods import Group
from benchmarks.scores.stats import MIN_FOLDS, MIN_REPEATS
from benchmarks.text import number

_HELD_OUT: Final = (
    ("families", "genes of families it never saw"),
    ("empres", "genes of families it never saw"),
    ("leave-one-species", "genes of species it never saw"),
    ("species:", "genes of species it never saw"),
    ("leave-one-chromosome", "genes of chromosomes it never saw"),
    ("random", "genes drawn at random, their relatives in training"),
)
_ABOUT_ZERO: Final = 0.03  # shuffled labels beyond this ask for an explanation


def held_out(group: Group) -> str:
    """What the split keeps from the learner."""
    splits = [run.identity.get("split") or {} for run in group.runs]
    if any(keeps_families(split.get("recipe")) for split in splits):
        return "genes of species or chromosomes it never saw (their families kept in training)"
    if any(split.get("leakage_allowed") for split in splits):
        return "held-out genes (leakage allowed)"
    for start, words in _HELD_OUT:
        if group.split.startswith(start):
            return words
    return "genes it never saw"


def named(row: dict[str, Any]) -> str:
    """``ridge on kmer``."""
    name = str(row["method"])
    return name.replace("@", " on ", 1) if row["features"] else name


def headline(group: Group, rows: Sequence[dict[str, Any]]) -> str:
    """The one sentence: which learner is ahead, and how much it explains."""
    best = best_of(rows)
    if best is None:
        return "No learner has finished here yet."
    low, high = number(best["r2_low"], 2), number(best["r2_high"], 2)
    interval = f", 95\u00a0% interval {low} to {high}" if math.isfinite(best["r2_low"]) else ""
    tail = f"(R² {number(best['r2'], 2)}{interval})."
    if best["r2"] <= 0:
        return f"No learner does better than the mean on {held_out(group)}: {named(best)} {tail}"
    return (
        f"{named(best)} explains {100 * best['r2']:.0f}\u00a0% of the variance of "
        f"{group.unit} ({group.target}) in {held_out(group)} {tail}"
    )


def beside(group: Group, rows: Sequence[dict[str, Any]], pairs: pd.DataFrame) -> list[str]:
    """What a reader should know beside the headline."""
    said = [_lead(rows, pairs), *_controls(group, rows)]
    contaminated = [row for row in rows if row["contaminated"]]
    if contaminated:
        names = ", ".join(named(row) for row in contaminated)
        species = ", ".join(
            sorted({s for r in contaminated for s in r["contaminated"].split(", ")})
        )
        said.append(f"Pre-trained on species of this data set ({species}): {names}.")
    failed = [named(row) for row in rows if str(row["status"]).startswith("failed")]
    if failed:
        verb = "has" if len(failed) == 1 else "have"
        said.append(
            f"{', '.join(failed)} {verb} no finished run; failed runs are listed, never imputed."
        )
    return [sentence for sentence in said if sentence]


def best_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The learner with the highest pooled R², controls aside."""
    scored = [row for row in rows if not row["control"] and math.isfinite(row["r2"])]
    return max(scored, key=lambda row: row["r2"], default=None)


def _lead(rows: Sequence[dict[str, Any]], pairs: pd.DataFrame) -> str:
    ranked = sorted(
        (row for row in rows if not row["control"] and math.isfinite(row["r2"])),
        key=lambda row: -row["r2"],
    )
    if len(ranked) < 2:
        return ""
    names = [ranked[0]["method"], ranked[1]["method"]]
    pair = pairs[pairs["method_a"].isin(names) & pairs["method_b"].isin(names)]
    if pair.empty or pair.iloc[0]["status"] != "ok":
        return standing(pairs) if len(pairs) else ""
    row = pair.iloc[0]
    turn = 1.0 if row["method_a"] == names[0] else -1.0
    lead = number(turn * row["mean_difference"], sign=True)
    start = f"From the next, {named(ranked[1])}, it differs by {lead} R² over test folds: "
    if row["verdict"].startswith("descriptive"):
        done = f"{row['n_repeats']} × {row['n_folds']}"
        return (
            f"{start}descriptive, as {done} folds are shared and a claim needs at least "
            f"{MIN_REPEATS} repeats × {MIN_FOLDS} folds."
        )
    if row["claim"]:
        return f"{start}a real difference (corrected resampled t-test, Holm-adjusted p = {row['p_holm']:.3g})."
    return f"{start}not shown to be real (Holm-adjusted p = {number(row['p_holm'], 2)})."


def _controls(group: Group, rows: Sequence[dict[str, Any]]) -> list[str]:
    of = {row["learner"]: row for row in rows if row["control"] and math.isfinite(row["r2"])}
    said = []
    if "family_mean" in of:
        apart = "never saw" in held_out(group)
        why = ", with no relative of a test gene in training" if apart else ""
        said.append(
            f"Homology alone (family_mean) gives R² {number(of['family_mean']['r2'], 2)}{why}."
        )
    if "shuffled_labels" in of:
        value = of["shuffled_labels"]["r2"]
        fine = abs(value) <= _ABOUT_ZERO
        verdict = "as it should be" if fine else "which is not zero: look for leakage"
        said.append(f"On shuffled labels R² is {number(value, 2)}, {verdict}.")
    return said
