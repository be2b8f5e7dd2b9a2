"""Measured variants with their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.effects.measured import Measured
from featurestore.errors import InputError, unknown_name
from featurestore.inputs.tally import Tally
from featurestore.score.tracks.read import TrackScores

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class Joined:
    """Measured variants that have scores.

    Parameters
    ----------
    table : DataFrame
        As of :class:`Measured`, with ``row`` of the scores, ``nearest_tss`` and, where scores are by
        gene, ``gene`` of the row.
    scores : TrackScores
    names : list of str
        Scores that are assessed, such as ``sad_tss``.
    tracks : list of int
        Columns that are assessed.
    left_out : list of {"reason", "count", "examples"}
    notes : list of str
    """

    table: pd.DataFrame
    scores: TrackScores
    names: list[str]
    tracks: list[int]
    left_out: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def values(self, name: str) -> NDArray[np.float64]:
        """One score of the tracks, shape (variants, tracks)."""
        found = self.scores.values[name][self.table["row"].to_numpy()]
        result: NDArray[np.float64] = found[:, self.tracks].astype(np.float64)
        return result


def join(
    measured: Measured, scores: TrackScores, names: Sequence[str] = (), tracks: Sequence[str] = ()
) -> Joined:
    """Measured variants, each with the row of its scores.

    Where scores are by gene, that of the gene which the table names, else of the gene with the nearest
    TSS. Variants without scores are left out, and counted.

    Parameters
    ----------
    names, tracks : sequence of str
        Those to assess, tracks perhaps with ``*``; all.

    Raises
    ------
    InputError
        For an unknown name, and where nothing is left.
    """
    for name in names:
        if name not in scores.values:
            raise unknown_name("score", name, list(scores.values))
    chosen = _tracks(scores.tracks, tracks)
    places, notes = _rows(scores), list[str]()
    kept, tally, guessed = [], Tally(), 0
    table = measured.table
    with_gene = "gene" in table and bool((scores.rows["gene"] != "").any())
    for index, one in enumerate(zip(table["contig"], table["pos"], table["ref"], table["alt"], strict=True)):  # fmt: skip
        gene = table["gene"].iloc[index] if with_gene else ""
        row, why, nearest = _row(places.get(one, []), scores, gene)
        if why:
            tally.add(why, f"{one[0]}:{one[1]} {one[2][:20]}>{one[3][:20]}")
            continue
        guessed += nearest
        kept.append((index, row))
    if not kept:
        raise InputError(
            "no measured variant has scores: "
            + " ".join(tally.sentences() or ["the table is empty"])
        )
    found = table.iloc[[i for i, _ in kept]].reset_index(drop=True)
    found["row"] = [r for _, r in kept]
    for column in ("nearest_tss", *(("gene",) if (scores.rows["gene"] != "").any() else ())):
        found[column] = scores.rows[column].to_numpy()[found["row"]]
    if "value" in table:
        effect, told = (int(((t["value"] != 0) & t["value"].notna()).sum()) for t in (table, found))
        notes.append(
            f"{told:,} of {effect:,} variants with a measured effect other than 0 have scores"
        )
    if guessed:
        notes.append(f"{guessed:,} variants that name no gene stand with that of the nearest TSS")
    return Joined(found, scores, list(names or scores.values), chosen, tally.facts(), notes)


def _tracks(have: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if not wanted:
        return list(range(len(have)))
    found: dict[int, None] = {}
    for name in wanted:
        hits = [
            i for i, label in enumerate(have)
            if fnmatchcase(label, name) or fnmatchcase(label.partition(":")[2], name)
        ]  # fmt: skip
        if not hits:
            raise unknown_name("track", name, [label.partition(":")[2] for label in have])
        found |= dict.fromkeys(hits)
    return sorted(found)


def _rows(scores: TrackScores) -> dict[tuple[Any, ...], list[int]]:
    """Rows of each variant."""
    places: dict[tuple[Any, ...], list[int]] = {}
    rows = scores.rows
    for index, one in enumerate(zip(
        rows["contig"], rows["pos"], rows["ref"].str.upper(), rows["alt"].str.upper(), strict=True
    )):  # fmt: skip
        places.setdefault(one, []).append(index)
    return places


def _row(found: list[int], scores: TrackScores, gene: str) -> tuple[int, str, bool]:
    """Row of a variant, why there is none, and whether its gene is merely the nearest."""
    if not found:
        return -1, "not among the scores", False
    rows = scores.rows
    scored = [i for i in found if rows["status"].iat[i] == "scored"]
    if not scored:
        return -1, f"no score: {rows['reason'].iat[found[0]]}", False
    if gene:
        own = [i for i in scored if rows["gene"].iat[i] == gene]
        return (own[0], "", False) if own else (-1, "no score with the gene that is named", False)
    if rows["gene"].iat[scored[0]] == "":
        return scored[0], "", False
    away = np.abs(rows["distance"].to_numpy(np.float64)[scored])
    return scored[int(np.argmin(away))], "", True
