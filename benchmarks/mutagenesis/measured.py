"""Measured effects of variants of short elements: one table of variants, one FASTA of references.

Columns, under any of their usual names (see ``docs/mutagenesis.md``):

    element     contig, element, region, promoter, enhancer, chrom       name of a record of the FASTA
    position    segment_pos1, pos1, pos, position, start                 1-based within the record, or on the
                                                                         chromosome that the record's header names
    ref, alt    ref, wt_base, reference; alt, variant_base, alternative  bases; ``-`` or empty for none
    value       any number of columns with numbers: the effect in each condition
    sequence    optional: the whole variant; it then decides where the change stands, and ref and alt
                are held against it
    confidence  optional
    enhancer    optional beside another element column: what several elements are pieces of

The tables of the CAGI5 regulatory saturation challenge (Chrom, Pos, Ref, Alt, Value, Confidence) are
of this form; their FASTA has headers like ``>TERT chr5:1295105-1295362`` (1-based, inclusive).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pandas as pd

from featurestore.errors import unknown_name
from featurestore.inputs.fasta import read_fasta
from featurestore.inputs.findings import Findings
from featurestore.inputs.problems import Problems, examples
from featurestore.inputs.tables import MISSING, Table, read_table
from featurestore.sequence.iupac import decode

ELEMENT: Final = (
    "contig",
    "element",
    "region",
    "promoter",
    "enhancer",
    "chrom",
    "chromosome",
    "chr",
)
GROUP: Final = ("enhancer", "group")
POSITION: Final = ("segment_pos1", "pos1", "pos", "position", "start")
REF: Final = ("ref", "wt_base", "reference", "ref_base")
ALT: Final = ("alt", "variant_base", "alternative", "alt_base", "mut")
VALUES: Final = ("value", "effect", "log2fc", "log2_fc", "logfc", "delta", "delta_log2", "score")
CONFIDENCE: Final = ("confidence",)
SEQUENCE: Final = ("sequence",)

_PLACE: Final = re.compile(r"(?P<chrom>[^\s:]+):(?P<start>\d+)-(?P<end>\d+)")
_NONE: Final = frozenset({"-", "*", *MISSING})


@dataclass(frozen=True)
class Reference:
    """The wild type of one element.

    ``chrom`` and ``start`` (1-based) say where its first base lies, if its header does.
    """

    name: str
    sequence: str
    chrom: str = ""
    start: int = 1


@dataclass(frozen=True)
class Measured:
    """Measured variants.

    Parameters
    ----------
    table : DataFrame
        ``element, group, position, cluster, ref, alt, kind, sequence`` and a column per condition:
        ``position`` is the 0-based offset in the element of the first base that changes (for an
        insertion the base that it stands before), ``ref`` and ``alt`` without common ends, ``kind``
        substitution, insertion, deletion or complex, ``sequence`` the whole variant, ``cluster`` the
        number of the position within the group: variants that share it are not independent.
    conditions : tuple of str
    references : dict of element to Reference
    notes : list of str
    """

    table: pd.DataFrame
    conditions: tuple[str, ...]
    references: dict[str, Reference]
    notes: list[str] = field(default_factory=list)


def read_references(path: Path) -> dict[str, Reference]:
    """Elements of a FASTA file, in its order.

    Raises
    ------
    InputError
        If it is none, or holds letters that are no bases.
    """
    problems = Problems()
    records = read_fasta(path, problems, "element")
    problems.raise_if_any()
    assert records is not None  # noqa: S101 - otherwise there was a problem
    found = {}
    for i, name in enumerate(records.name):
        start, length = int(records.start[i]), int(records.length[i])
        place = _PLACE.search(f"{name} {records.description[i]}")
        chrom, first = (place["chrom"], int(place["start"])) if place else ("", 1)
        found[name] = Reference(name, decode(records.code[start : start + length]), chrom, first)
    return found


def read_measured(
    path: Path,
    references: dict[str, Reference],
    *,
    values: Sequence[str] = (),
    min_confidence: float | None = None,
) -> Measured:
    """Read a table of measured variants.

    Parameters
    ----------
    path : Path
        TSV or CSV with a header, plain, gzip or bgzip.
    references : dict
        From :func:`read_references`.
    values : sequence of str
        Columns of effects; default the usual names, and all that begin with ``delta_``.
    min_confidence : float, optional
        Rows below it are left out, and counted.

    Raises
    ------
    InputError
        With every kind of mistake, its lines and values: a column that is missing, an element that is
        not in the FASTA, a position beyond it, a REF that is not what stands there, bases that are
        none, effects that are no numbers, a sequence that is not what ref and alt make.
    """
    problems = Problems()
    table = read_table(path, problems)
    problems.raise_if_any()
    assert table is not None  # noqa: S101 - otherwise there was a problem
    columns = _Columns(table, values, problems)
    problems.raise_if_any()
    findings = Findings(path, problems)
    rows = _rows(table, columns, references, findings)
    findings.report()
    problems.raise_if_any()
    return _measured(rows, columns, references, min_confidence)


class _Columns:
    """Which column is what."""

    def __init__(self, table: Table, values: Sequence[str], problems: Problems) -> None:
        self.element = table.need("element", ELEMENT, problems)
        self.position = table.need("position", POSITION, problems)
        self.ref = table.need("reference bases", REF, problems)
        self.alt = table.need("alternative bases", ALT, problems)
        self.sequence = table.find(SEQUENCE)
        self.confidence = table.find(CONFIDENCE)
        group = table.find(GROUP)
        self.group = None if group == self.element else group
        # A position within the group, beside that within the element, tells what pieces share.
        within = table.find(("position",))
        self.within = None if self.group is None or within == self.position else within
        self.values = self._values(table, values, problems)
        self.names = [table.header[i] for i in self.values]

    def _values(self, table: Table, asked: Sequence[str], problems: Problems) -> list[int]:
        if asked:
            for name in asked:
                if table.find([name]) is None:
                    raise unknown_name(f"column of {table.path}", name, table.header)
            return [at for name in asked if (at := table.find([name])) is not None]
        found = [
            i for i, name in enumerate(table.header)
            if name.lower() in VALUES or name.lower().startswith("delta_")
        ]  # fmt: skip
        if not found:
            problems.add(
                table.path,
                f"no column of effects: the header is {examples(map(repr, table.header), 20)}",
                "name one 'value', or say which with --value COLUMN",
                "header",
            )
        return found


def _rows(
    table: Table, columns: _Columns, references: dict[str, Reference], findings: Findings
) -> list[dict[str, object]]:
    found = []
    for line, cells in zip(table.line, table.rows(), strict=True):
        row = [cell.strip() for cell in cells]
        place = _place(row, columns, references, findings, line)
        numbers = _numbers(row, columns, findings, line)
        if place is None or numbers is None:
            continue
        reference, offset, ref, alt = place
        low, ref, alt = _trimmed(offset, ref, alt)
        variant = reference.sequence[:low] + alt + reference.sequence[low + len(ref) :]
        group = row[columns.group] if columns.group is not None else reference.name
        within = _number(row[columns.within]) if columns.within is not None else offset + 1
        found.append(
            {
                "element": reference.name, "group": group, "position": low,
                "cluster": int(within) if math.isfinite(within) else offset + 1,
                "ref": ref, "alt": alt, "kind": _kind(ref, alt), "sequence": variant, **numbers,
            }
        )  # fmt: skip
    return found


def _place(
    row: list[str],
    columns: _Columns,
    references: dict[str, Reference],
    findings: Findings,
    line: int,
) -> tuple[Reference, int, str, str] | None:
    """Element, 0-based offset, ref and alt of a row; None where it has a mistake."""
    name, text = row[columns.element or 0], row[columns.position or 0]
    ref, alt = _bases(row[columns.ref or 0]), _bases(row[columns.alt or 0])
    position = _number(text)
    if not math.isfinite(position):
        findings.add("a position that is no number", "give 1-based positions", line, text)
        return None
    reference = references.get(name) or _by_place(name, position, references)
    if reference is None:
        mend = f"the FASTA has {examples(references)}; headers like >NAME chr1:1001-1200 place a record"
        findings.add("an element that the references lack", mend, line, f"{name}:{text}")
        return None
    if ref is None or alt is None or ref == alt:
        mend = "give bases A, C, G, T that differ, or - for none"
        what = f"{row[columns.ref or 0]}>{row[columns.alt or 0]}"
        findings.add("ref and alt that are no change of bases", mend, line, what)
        return None
    if columns.sequence is not None and row[columns.sequence] not in MISSING:
        return _by_sequence(reference, row[columns.sequence].upper(), ref, alt, findings, line)
    # An insertion without ref stands after the base of its position (1.5 or 1 alike).
    offset = math.floor(position) - (reference.start if reference.chrom == name else 1)
    offset += 0 if ref else 1
    there = reference.sequence[offset : offset + len(ref)] if offset >= 0 else ""
    if offset < 0 or offset + len(ref) > len(reference.sequence):
        what = f"{name}:{text} in {len(reference.sequence)} bp"
        findings.add("a position beyond its element", "positions are 1-based", line, what)
        return None
    if there != ref:
        mend = "positions are 1-based, on the strand of the FASTA; give the FASTA that was measured"
        what = f"{name}:{text} {ref}, there is {there}"
        findings.add("a REF that the reference does not have", mend, line, what)
        return None
    return reference, offset, ref, alt


def _by_sequence(
    reference: Reference, given: str, ref: str, alt: str, findings: Findings, line: int
) -> tuple[Reference, int, str, str] | None:
    """Where a whole variant differs from the reference; it must be by the bases that are named."""
    offset, lost, gained = _trimmed(0, reference.sequence, given)
    named = _trimmed(0, ref, alt)[1:]
    if set(given) <= set("ACGT") and (sorted(lost), sorted(gained)) == tuple(map(sorted, named)):
        return reference, offset, lost, gained
    mend = "correct either, or take the column out"
    what = f"{reference.name} {ref or '-'}>{alt or '-'}, the sequence has {lost[:20] or '-'}>{gained[:20] or '-'}"
    findings.add("a sequence that is not the reference with ref changed to alt", mend, line, what)
    return None


def _by_place(chrom: str, position: float, references: dict[str, Reference]) -> Reference | None:
    for one in references.values():
        if one.chrom == chrom and one.start <= position < one.start + len(one.sequence):
            return one
    return None


def _bases(text: str) -> str | None:
    if text in _NONE:
        return ""
    return text.upper() if set(text.upper()) <= set("ACGT") else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _numbers(
    row: list[str], columns: _Columns, findings: Findings, line: int
) -> dict[str, float] | None:
    wanted = dict(zip(columns.names, columns.values, strict=True))
    if columns.confidence is not None:
        wanted["_confidence"] = columns.confidence
    found = {}
    for name, at in wanted.items():
        value = _number(row[at])
        if not math.isfinite(value) and row[at] not in MISSING:
            mend = "give numbers, or leave the cell empty"
            findings.add(f"column {name.lstrip('_')} holds no number", mend, line, row[at])
            return None
        found[name] = value
    return found


def _trimmed(offset: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Without the bases that ref and alt share at their ends."""
    while ref and alt and ref[-1] == alt[-1]:
        ref, alt = ref[:-1], alt[:-1]
    while ref and alt and ref[0] == alt[0]:
        offset, ref, alt = offset + 1, ref[1:], alt[1:]
    return offset, ref, alt


def _kind(ref: str, alt: str) -> str:
    if len(ref) == len(alt) == 1:
        return "substitution"
    return "insertion" if not ref else "deletion" if not alt else "complex"


def _measured(
    rows: list[dict[str, object]],
    columns: _Columns,
    references: dict[str, Reference],
    min_confidence: float | None,
) -> Measured:
    table, notes = pd.DataFrame(rows), []
    if min_confidence is not None and "_confidence" in table:
        kept = table["_confidence"] >= min_confidence
        notes.append(
            f"{int((~kept).sum()):,} variants of confidence below {min_confidence:g} left out"
        )
        table = table[kept]
    table = table.drop(columns="_confidence", errors="ignore")
    again = int(table.duplicated(["element", "sequence"]).sum())
    if again:
        notes.append(
            f"{again:,} of {len(table):,} rows give a sequence that another row of the element gives "
            "(a base deleted or inserted within a run of it): one of each is kept, with the mean effect"
        )
        first = table.groupby(["element", "sequence"], sort=False)
        means = first[columns.names].transform("mean")
        table = table.assign(**{n: means[n] for n in columns.names})
        table = table[~table.duplicated(["element", "sequence"])]
    return Measured(table.reset_index(drop=True), tuple(columns.names), references, notes)
