"""Tested pairs of a gene and an element, in the form of CRISPRi tables."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.long_range.genes import Element
from featurestore.errors import InputError, InputFileNotFoundError
from featurestore.inputs.tally import Tally

COLUMNS: Final = ("contig", "start", "end", "gene")
ALIASES: Final = {
    "contig": ("contig", "chrom", "chr", "seqname"),
    "start": ("start", "chromStart", "chrStart"),
    "end": ("end", "chromEnd", "chrEnd"),
    "gene": ("gene", "measuredGeneSymbol", "GeneSymbol", "target_gene", "gene_id"),
    "label": ("significant", "Significant", "label", "Regulated", "is_significant"),
    "effect": ("effect", "EffectSize", "Fraction change in gene expr", "beta"),
    "species": ("species",),
    "name": ("name", "element"),
}  # fmt: skip
"""Names under which published tables hold a column."""

_WORDS: Final = {"true": 1, "1": 1, "1.0": 1, "yes": 1, "false": 0, "0": 0, "0.0": 0, "no": 0}


def read_pairs(path: Path) -> pd.DataFrame:
    """Tested pairs.

    Returns
    -------
    DataFrame
        ``contig, start, end`` (0-based half-open), ``gene``, ``label`` (1 or 0), and ``effect``,
        ``species``, ``name`` where the table has them.

    Raises
    ------
    InputError
        For a column that is not there, or a cell that is no number or no label, with its line.
    """
    if not path.is_file():
        raise InputFileNotFoundError(f"{path}: not found; give a table of tested pairs")
    raw = pd.read_csv(path, sep=None, engine="python", dtype=str, comment="#")
    found = {}
    for column, names in ALIASES.items():
        own = next((n for n in names if n in raw), None)
        if own is not None:
            found[column] = raw[own].str.strip()
        elif column in (*COLUMNS, "label"):
            raise InputError(
                f"{path}: has no column {column} (known as {', '.join(names)}); it has "
                f"{', '.join(raw.columns)}"
            )
    table = pd.DataFrame(found)
    for column in ("start", "end"):
        numbers = pd.to_numeric(table[column], errors="coerce")
        _refuse(path, table[column], numbers.isna() | (numbers < 0), "a position")
        table[column] = numbers.astype(np.int64)
    _refuse(path, table["end"], table["end"] <= table["start"], "an end beyond its start")
    labels = table["label"].str.lower().map(_WORDS)
    _refuse(path, table["label"], labels.isna(), "true or false")
    table["label"] = labels.astype(np.int64)
    if "effect" in table:
        table["effect"] = pd.to_numeric(table["effect"], errors="coerce")
    return table


def _refuse(path: Path, column: pd.Series, bad: pd.Series, what: str) -> None:
    if bad.any():
        at = int(np.flatnonzero(bad.to_numpy())[0])
        raise InputError(
            f"{path}, line {at + 2}: {column.name} {column.iloc[at]!r} is not {what}"
            + (f", and {int(bad.sum()) - 1:,} lines more" if bad.sum() > 1 else "")
        )


def elements_of(pairs: pd.DataFrame) -> list[Element]:
    """The intervals of tested pairs as candidate elements, each once."""
    spans = pairs[["contig", "start", "end"]].drop_duplicates()
    return [
        Element(contig, start, end, f"{contig}:{start}-{end}")
        for contig, start, end in spans.itertuples(index=False)
    ]


def joined(pairs: pd.DataFrame, scored: pd.DataFrame, tally: Tally) -> pd.DataFrame:
    """Tested pairs with the scores of the candidate element that overlaps them most.

    Parameters
    ----------
    pairs : DataFrame
        From :func:`read_pairs`.
    scored : DataFrame
        ``species, gene, element, contig, start, end`` and scores: one row per gene and element.
    tally : Tally
        Counts what has no counterpart.

    Returns
    -------
    DataFrame
        Rows of ``scored`` with ``label`` and ``effect``, and ``tested``, the span of the pair.
    """
    rows_of = {str(g): rows for g, rows in scored.groupby("gene", sort=False).indices.items()}
    start, end = scored["start"].to_numpy(np.int64), scored["end"].to_numpy(np.int64)
    contig, species = scored["contig"].to_numpy(object), scored["species"].to_numpy(object)
    wanted = pairs["species"].to_numpy(object) if "species" in pairs else np.full(len(pairs), None)
    rows: list[int] = []
    kept: list[int] = []
    columns = [pairs[name].tolist() for name in COLUMNS]
    for index, (place, low, high, gene) in enumerate(zip(*columns, strict=True)):
        told = f"{gene} {place}:{low}-{high}"
        own = rows_of.get(gene, np.zeros(0, np.intp))
        if wanted[index] is not None:
            own = own[species[own] == wanted[index]]
        if not len(own):
            tally.add("tested pair of a gene that was not scored", told)
            continue
        own = own[contig[own] == place]
        shared = np.minimum(end[own], high) - np.maximum(start[own], low)
        if not len(own) or shared.max() <= 0:
            tally.add("tested pair that no scored element of its gene overlaps", told)
            continue
        rows.append(int(own[np.argmax(shared)]))
        kept.append(index)
    table = scored.iloc[rows].reset_index(drop=True)
    tested = pairs.iloc[kept].reset_index(drop=True)
    table["label"] = tested["label"]
    if "effect" in tested:
        table["effect"] = tested["effect"]
    spans = zip(tested["contig"], tested["start"], tested["end"], strict=True)
    table["tested"] = [f"{c}:{low}-{high}" for c, low, high in spans]
    return table


def strata(distance: pd.Series, edges: Sequence[int]) -> list[tuple[str, NDArray[np.bool_]]]:
    """Rows of each stratum of distance: all, below the first edge, between, from the last on."""
    bounds = [0, *edges, 2**62]
    values = distance.to_numpy(np.int64)
    found = [("all", np.ones(len(values), np.bool_))]
    for low, high in pairwise(bounds):
        if high == 2**62:
            name = f">= {low / 1000:g} kb"
        else:
            name = f"{low / 1000:g}-{high / 1000:g} kb" if low else f"< {high / 1000:g} kb"
        found.append((name, (values >= low) & (values < high)))
    return found
