"""Genes given by position alone: gene, chromosome, TSS, strand; there is no sequence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.findings import Findings
from featurestore.inputs.ids import clean
from featurestore.inputs.model import UNKNOWN_POSITION
from featurestore.inputs.problems import Problems, few
from featurestore.inputs.tables import CONTIG, GENE, MISSING, STRAND, Table, read_table

STRANDS = {"+": 1, "1": 1, "+1": 1, "-": -1, "-1": -1, "−": -1, ".": 0, "?": 0, "0": 0}


_LARGEST = 1 << 40  # bp; the largest genome known has fewer than 2^38


@dataclass(frozen=True)
class Positions:
    """Genes with their boundaries on the forward strand, in the order of the table.

    Parameters
    ----------
    gene, contig : list of str, length n
    strand : int8 array, shape (n,)
        0 where unknown.
    tss, tts : int64 arrays, shape (n,)
        −1 where unknown.
    notes : list of str
    """

    gene: list[str]
    contig: list[str]
    strand: NDArray[np.int8]
    tss: NDArray[np.int64]
    tts: NDArray[np.int64]
    notes: list[str]


def read_positions(path: Path, problems: Problems) -> Positions | None:
    """Read a table of gene, chrom, tss or tss1, strand, and optionally tts or tts1.

    ``tss`` and ``tts`` are boundaries (0-based, between bases); ``tss1`` and ``tts1`` are the
    1-based first and last transcribed base.
    """
    table = read_table(path, problems)
    if table is None:
        return None
    gene = table.need("gene", GENE, problems)
    contig = table.need("chromosome", CONTIG, problems)
    if table.need("TSS", ("tss", "tss1"), problems) is None or gene is None or contig is None:
        return None
    names = [clean(name) for name in table.column(gene)]
    contigs = table.column(contig)
    findings = Findings(path, problems)
    tell_unprintable(table, contigs, "contig", findings)
    tell_repeats(table, names, "a gene given twice", "keep one line of it", findings)
    strand = read_strand(table, findings)
    tss = read_boundary(table, "tss", strand, findings)
    tts = read_boundary(table, "tts", strand, findings)
    bad = bool(findings.kinds)
    findings.report()
    if bad:
        return None
    notes: list[str] = []
    if unknown := [name for name, s in zip(names, strand, strict=True) if s == 0]:
        notes.append(
            f"positions: {len(unknown):,} of {len(names):,} genes have no strand, "
            f"for example {few(unknown)}."
        )
    if placeless := [name for name, p in zip(names, tss, strict=True) if p < 0]:
        notes.append(
            f"positions: {len(placeless):,} of {len(names):,} genes have no TSS, "
            f"for example {few(placeless)}."
        )
    return Positions(names, contigs, strand, tss, tts, notes)


def tell_repeats(table: Table, names: list[str], kind: str, mend: str, findings: Findings) -> None:
    """Find ids that a table gives twice, and those that are none."""
    tell_nameless(table, names, findings)
    first: dict[str, int] = {}
    for line, name in zip(table.line, names, strict=True):
        if name and first.setdefault(name, line) != line:
            findings.add(kind, mend, line, f"{name} (also line {first[name]})")


def tell_nameless(table: Table, names: list[str], findings: Findings) -> None:
    """Find ids that are empty or hold control characters."""
    for line, name in zip(table.line, names, strict=True):
        if not name or not name.isprintable():
            what = "an id that is empty or cannot be printed"
            findings.add(what, "give every row an id of letters and digits", line, repr(name))


def tell_unprintable(table: Table, names: list[str], what: str, findings: Findings) -> None:
    """Find names that hold control characters: a terminal or a report would obey them."""
    for line, name in zip(table.line, names, strict=True):
        if not name.isprintable():
            mend = "take control characters and unusual blanks out of it"
            findings.add(f"a {what} that cannot be printed", mend, line, name)


def read_strand(table: Table, findings: Findings) -> NDArray[np.int8]:
    """The strand column: +1, −1, and 0 where it is unknown or there is no such column."""
    strand = np.zeros(len(table), np.int8)
    column = table.find(STRAND)
    if column is None:
        return strand
    for number, cell in enumerate(table.column(column)):
        if cell not in MISSING and cell not in STRANDS:
            mend = "write + or -, or . where it is unknown"
            findings.add("a strand that is neither + nor -", mend, table.line[number], repr(cell))
        strand[number] = STRANDS.get(cell, 0)
    return strand


def read_boundary(
    table: Table, anchor: str, strand: NDArray[np.int8], findings: Findings
) -> NDArray[np.int64]:
    """Boundaries from the column ``tss`` (0-based) or ``tss1`` (1-based); −1 where not given.

    A base has a boundary on either side: the TSS lies before its base and the TTS after it, in
    transcript direction. A gene of unknown strand is taken as forward.
    """
    boundary = np.full(len(table), UNKNOWN_POSITION, np.int64)
    zero, one = table.find([anchor]), table.find([f"{anchor}1"])
    column = zero if zero is not None else one
    if column is None:
        return boundary
    for number, cell in enumerate(table.column(column)):
        if cell in MISSING:
            continue
        try:
            position = int(cell) if "_" not in cell else -1
        except ValueError:
            position = -1
        if not (0 if zero is not None else 1) <= position <= _LARGEST:
            mend = f"write a whole number; {anchor} counts from 0, {anchor}1 from 1"
            what = f"{cell!r} in column {table.header[column]!r}"
            findings.add("a position that is no position", mend, table.line[number], what)
            continue
        if zero is None:
            forward = strand[number] >= 0
            position -= int(forward == (anchor == "tss"))
        boundary[number] = position
    return boundary
