"""Assesses scores of variants against a table of measured ones, and writes what it finds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.effects.classify import Forest, classify
from benchmarks.effects.correlate import correlate
from benchmarks.effects.join import join
from benchmarks.effects.measured import read_measured
from benchmarks.text import align, number
from featurestore.errors import InputError
from featurestore.plain_json import plain

TASKS: Final = ("classify", "correlate")


@dataclass
class Assessed:
    """What was found.

    Parameters
    ----------
    task : {"classify", "correlate"}
    facts : mapping
        Files, columns, settings, counts.
    left_out : list of {"reason", "count", "examples"}
        Measured variants without scores.
    rows : list of mapping
        As of :func:`classify` or :func:`correlate`.
    notes : list of str
    """

    task: str
    facts: dict[str, Any]
    left_out: list[dict[str, Any]]
    rows: list[dict[str, Any]]
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        """As plain JSON types; what is not defined is null."""
        found: dict[str, Any] = plain({
            "task": self.task, "facts": self.facts, "left_out": self.left_out,
            "notes": self.notes, "rows": self.rows,
        })  # fmt: skip
        return found

    def table(self) -> str:
        """Aligned columns."""
        names = ("scope", "method", "metric") if self.task == "classify" else ("scope", "score", "track", "metric")  # fmt: skip
        counts = ("n", "n_positive", "n_blocks") if self.task == "classify" else ("n", "n_clusters")
        body = [
            [
                *(str(row[name]) for name in names), number(row["value"]),
                f"[{number(row['ci_low'])}, {number(row['ci_high'])}]",
                *(f"{row[name]:,}" for name in counts),
            ]
            for row in self.rows
        ]  # fmt: skip
        right = range(len(names), len(names) + 2 + len(counts))
        return align([*names, "value", "95 % interval", *counts], body, right)


def assess(
    scores: Path,
    measured: Path,
    task: str | None = None,
    *,
    columns: Mapping[str, str | None] | None = None,
    names: Sequence[str] = (),
    tracks: Sequence[str] = (),
    how: Forest | None = None,
) -> Assessed:
    """Hold scores against measurements.

    Parameters
    ----------
    scores : Path
        ``.zarr`` or ``.parquet`` of ``fs score``, or the components beside it.
    measured : Path
        Table of variants, positions counting from 1 as in a VCF.
    task : {"classify", "correlate"}, optional
        Default ``classify`` where the table has labels.
    columns : mapping of ``label``, ``value``, ``group``, ``block``, ``gene`` to names, optional
    names, tracks : sequence of str
        Scores and tracks; all.
    how : Forest, optional
        Its bootstrap and seed hold for correlations too.

    Raises
    ------
    InputError
    """
    from featurestore.score.tracks.read import read_scores

    how = how or Forest()
    table = read_measured(measured, columns or {})
    found = read_scores(scores)
    task = task or ("classify" if "label" in table.table else "correlate")
    if task not in TASKS:
        raise InputError(f"task {task!r}: choose {' or '.join(TASKS)}")
    joined = join(table, found, names, tracks)
    if task == "classify":
        rows, notes = classify(joined, how)
    else:
        rows, notes = correlate(joined, bootstrap=how.bootstrap, seed=how.seed)
    species = str(found.facts.get("species", ""))
    facts = {
        "scores": str(scores), "measured": str(measured), "columns": table.columns,
        "n_measured": len(table.table), "n_joined": len(joined.table), "species": species,
        "simulated": species.startswith("simulated"), "assessed": joined.names,
        "tracks": len(joined.tracks), "bootstrap": how.bootstrap, "seed": how.seed,
        "made_by": dict(found.facts),
    }  # fmt: skip
    if task == "classify":
        facts |= {"trees": how.trees, "absolute": how.absolute}
    return Assessed(task, facts, joined.left_out, rows, [*joined.notes, *notes])


def write_assessed(found: Assessed, folder: Path) -> None:
    """Write ``effects.json`` and ``effects.tsv`` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found.as_json(), indent=1, ensure_ascii=False, allow_nan=False)
    (folder / "effects.json").write_text(text + "\n", encoding="utf-8")
    header = list(found.rows[0]) if found.rows else []
    lines = ["\t".join(header)]
    lines += ["\t".join(_cell(row[name]) for name in header) for row in found.rows]
    (folder / "effects.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "NA" if value != value else f"{value:.6g}"
    return str(value)
