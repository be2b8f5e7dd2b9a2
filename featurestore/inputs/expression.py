"""Expression tables, wide or long, aligned with genes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.dataset import ExpressionConfig
from featurestore.inputs.findings import Findings
from featurestore.inputs.ids import clean, meet
from featurestore.inputs.model import Expression
from featurestore.inputs.problems import Problems, examples
from featurestore.inputs.tables import (
    GENE,
    MISSING,
    SAMPLE,
    TRANSCRIPT,
    Table,
    read_table,
)

_VALUE: Final = ("value", "expression", "tpm", "fpkm", "rpkm", "cpm", "count", "counts")
# What quantifiers and spreadsheets write of a gene beside its values.
_ABOUT_GENES: Final = (
    "chrom", "chr", "chromosome", "seqid", "start", "end", "strand", "length",
    "eff_length", "effectivelength", "effective_length", "width", "description", "biotype",
    "gene_biotype", "gene_type", "symbol", "alias",
)  # fmt: skip
_MEASURES: Final = (
    frozenset({"tpm"}), frozenset({"fpkm", "rpkm"}), frozenset({"cpm"}), frozenset({"coverage"}),
    frozenset({"count", "counts", "numreads", "est_counts", "expected_count"}),
)  # fmt: skip
_LARGEST: Final = float(np.finfo(np.float32).max)
_ALWAYS_HELD: Final = 10_000_000
_MOST_EMPTY: Final = 100
"""Cells that a long table may make: ten million, or a hundred for each of its values."""
_COMMAS: Final = re.compile(r"[+-]?\d[\d.' ]*,[\d.,]+")
_NEVER_NEGATIVE: Final = frozenset({"tpm", "fpkm", "rpkm", "cpm", "counts", "count", "reads"})


@dataclass(frozen=True)
class ExpressionTable:
    """Values as they stand in the file; missing ones are NaN.

    Parameters
    ----------
    gene : list of str, length n
        As written.
    line : list of int, length n
    sample : list of str, length s
    value : float64 array, shape (n, s)
    notes : list of str
    """

    gene: list[str]
    line: list[int]
    sample: list[str]
    value: NDArray[np.float64]
    notes: list[str]


def read_expression(config: ExpressionConfig, problems: Problems) -> ExpressionTable | None:
    """Read an expression table as declared, wide or long.

    Returns
    -------
    ExpressionTable, or None where it has mistakes; ``problems`` then names line and column.
    """
    table = read_table(config.file, problems)
    if table is None:
        return None
    layout = config.layout
    if layout == "auto":
        is_long = table.find(SAMPLE) is not None and table.find((*_VALUE, config.unit)) is not None
        layout = "long" if is_long else "wide"
    return (
        _read_wide(table, config, problems)
        if layout == "wide"
        else _read_long(table, config, problems)
    )


def _read_wide(
    table: Table, config: ExpressionConfig, problems: Problems
) -> ExpressionTable | None:
    gene = table.find((*GENE, *TRANSCRIPT, "gene_name", ""))
    gene = 0 if gene is None else gene
    ids = {
        i
        for i in (table.find([name]) for name in (*GENE, *TRANSCRIPT, "gene_name"))
        if i is not None
    }
    ids |= {i for i in (table.find([name]) for name in _ABOUT_GENES) if i is not None} - {gene}
    columns = [i for i in range(len(table.header)) if i != gene and i not in ids]
    if not _columns_are_samples(table, gene, columns, problems):
        return None
    left_out = [table.header[i] for i in sorted(ids - {gene})]
    notes = (
        [f"expression: columns {examples(left_out)} tell of genes and are no samples."]
        if left_out
        else []
    )
    names: list[str] = []
    value = np.empty((len(table), len(columns)), np.float64)
    cells = _Cells(table, config, Findings(table.path, problems))
    whole = columns == list(range(1, len(table.header))) and gene == 0
    for number, row in enumerate(table.rows()):
        names.append(row[gene].strip())
        texts = row[1:] if whole else [row[i] for i in columns]
        cells.parse(texts, columns, table.line[number], value[number])
    if not cells.report():
        return None
    samples = [table.header[i] for i in columns]
    return ExpressionTable(names, table.line, samples, value, notes)


def _columns_are_samples(table: Table, gene: int, columns: list[int], problems: Problems) -> bool:
    names = [table.header[i] for i in columns]
    if not names:
        what = f"no column of values beside {table.header[gene]!r}"
        problems.add(table.path, what, "give a column for each sample", "header")
        return False
    if nameless := [i + 1 for i, name in zip(columns, names, strict=True) if not name]:
        what = f"no name over the values of column {examples(map(str, nameless))}"
        problems.add(table.path, what, "name every sample in the header", "header")
    if strange := [name for name in names if not name.isprintable()]:
        _tell_strange(table, strange, problems, "header")
    measures = [n for n in names if any(n.lower() in kind for kind in _MEASURES)]
    kinds = {i for n in measures for i, kind in enumerate(_MEASURES) if n.lower() in kind}
    if len(kinds) > 1:
        what = f"columns {examples(measures)} are measures of one sample, not samples"
        mend = "keep the gene column and one of these, and name it as the sample"
        problems.add(table.path, what, mend, "header")
    return not nameless and not strange and len(kinds) < 2


def _tell_strange(table: Table, samples: list[str], problems: Problems, place: str = "") -> None:
    what = f"a sample whose name cannot be printed: {examples(samples)}"
    mend = "take control characters and unusual blanks out of it"
    problems.add(table.path, what, mend, place)


def _read_long(
    table: Table, config: ExpressionConfig, problems: Problems
) -> ExpressionTable | None:
    gene = table.need("gene", (*GENE, *TRANSCRIPT), problems)
    sample = table.need("sample", SAMPLE, problems)
    column = table.need("value", ("value", config.unit, *_VALUE), problems)
    if gene is None or sample is None or column is None:
        return None
    flat = np.empty((len(table), 1), np.float64)
    cells = _Cells(table, config, Findings(table.path, problems))
    genes: dict[tuple[str, int], int] = {}
    samples: dict[str, int] = {}
    seen: dict[tuple[str, str], int] = {}
    place = np.empty((len(table), 2), np.int64)
    names: list[str] = []
    lines: list[int] = []
    for number, row in enumerate(table.rows()):
        line = table.line[number]
        cells.parse([row[column]], [column], line, flat[number])
        pair = (row[gene].strip(), row[sample].strip())
        # The second value of a gene and sample opens a second row of that gene, which
        # `duplicates` then deals with exactly as in a wide table.
        again = seen[pair] = seen.get(pair, -1) + 1
        at = genes.setdefault((pair[0], again), len(genes))
        if at == len(names):
            names.append(pair[0])
            lines.append(line)
        place[number] = at, samples.setdefault(pair[1], len(samples))
    if strange := [name for name in samples if not name.isprintable()]:
        _tell_strange(table, strange, problems)
        return None
    if not cells.report() or _mostly_empty(table, names, list(samples), problems):
        return None
    value = np.full((len(names), len(samples)), np.nan)
    value[place[:, 0], place[:, 1]] = flat[:, 0]
    return ExpressionTable(names, lines, list(samples), value, [])


def _mostly_empty(table: Table, names: list[str], samples: list[str], problems: Problems) -> bool:
    """Whether a long table would fill next to nothing of genes × samples; told if so.

    Rows that each name a gene and a sample of their own would take the square of their memory.
    """
    cells = len(names) * len(samples)
    if cells <= max(_ALWAYS_HELD, _MOST_EMPTY * len(table)):
        return False
    what = (
        f"{len(table):,} values for {len(names):,} genes in {len(samples):,} samples, which are "
        f"{cells:,} cells; samples are {examples(samples)}"
    )
    problems.add(table.path, what, "check which column names the sample", "header")
    return True


@dataclass
class _Cells:
    """Turns cells into numbers; a cell that is none is found with its line and column."""

    table: Table
    config: ExpressionConfig
    findings: Findings

    def __post_init__(self) -> None:
        missing = self.config.missing
        further = missing if isinstance(missing, tuple) else ()
        self.missing = MISSING | {token for token in further if isinstance(token, str)}
        self.missing_numbers = [float(token) for token in further if not isinstance(token, str)]
        # Texts that read as numbers may be declared missing; only then is every cell looked at.
        self.plain = not further
        self.instead = 0.0 if missing == "zero" else np.nan
        self.refuse_negative = self.config.unit.strip().lower() in _NEVER_NEGATIVE

    def parse(
        self, texts: list[str], columns: Sequence[int], line: int, out: NDArray[np.float64]
    ) -> None:
        """Numbers of one row, into ``out``."""
        try:
            out[:] = [float(text) for text in texts]
            usual = (np.abs(out) <= _LARGEST).all() and not (
                self.refuse_negative and (out < 0).any()
            )
            # Python reads 1_000 as a number; in a table it is none.
            if usual and self.plain and not any("_" in text for text in texts):
                return
        except ValueError:
            pass
        for i, (text, column) in enumerate(zip(texts, columns, strict=True)):
            out[i] = self._number(text.strip(), column, line)

    def _number(self, text: str, column: int, line: int) -> float:
        shown = f"{text!r} in column {self.table.header[column]!r}"
        if text in self.missing:
            if self.config.missing == "error":
                mend = 'fill it in, or set missing = "nan" or "zero"'
                self.findings.add("a missing value", mend, line, shown)
            return self.instead
        try:
            number = float(text) if "_" not in text else np.inf
        except ValueError:
            number = np.inf
        if number in self.missing_numbers:
            return self.instead
        if not abs(number) <= _LARGEST:
            mend = f"write a number; texts that mean missing go into missing = [{text[:20]!r}]"
            if _COMMAS.fullmatch(text):
                mend = "write decimals with a point, and thousands without a separator"
            self.findings.add("a cell that is no number", mend, line, shown)
        elif number < 0 and self.refuse_negative:
            unit = self.config.unit
            mend = f'{unit} is never negative; if these are logarithms, set unit = "log2"'
            self.findings.add(f"a negative value in a table of unit {unit}", mend, line, shown)
        return number

    def report(self) -> bool:
        """Put what was found into the report; True if nothing was."""
        good = not self.findings.kinds
        self.findings.report()
        return good


def align(
    table: ExpressionTable,
    config: ExpressionConfig,
    keys: Mapping[str, Sequence[str]],
    problems: Problems,
    own: Sequence[str] | None = None,
) -> tuple[Expression, list[str]] | None:
    """Bring a table into the order of the genes.

    Parameters
    ----------
    table : ExpressionTable
    config : ExpressionConfig
        Its ``duplicates`` says what several rows of one gene mean.
    keys : mapping of a name to ids, each of length n
        Ids of the genes, as :func:`featurestore.inputs.ids.meet` takes them.
    problems : Problems
    own : sequence of str, length n, optional
        Record ids, which go before gene ids.

    Returns
    -------
    Expression of n genes and notes, or None where it does not fit; ``problems`` says why.
    """
    genes = list(own) if own is not None else list(next(iter(keys.values())))
    meeting = meet(keys, table.gene, own)
    if meeting is None:
        problems.add(
            config.file,
            f"no gene of the data set is in the expression table: genes are {examples(genes)}; "
            f"the table has {examples(table.gene)}",
            "give both the same ids",
        )
        return None
    names = [meeting.transform(clean(x)) for x in table.gene]
    row_of = {name: i for i, name in enumerate(dict.fromkeys(names))}
    value = table.value
    if len(row_of) < len(names):
        if config.duplicates == "error":
            _tell_duplicates(table, names, config.file, problems)
            return None
        group = np.array([row_of[name] for name in names])
        value = _merge(value, group, len(row_of), config.duplicates)
    at = np.array([row_of.get(key, -1) for key in meeting.key], np.int64)
    labelled = at >= 0
    aligned = np.where(labelled[:, None], value[at], np.nan).astype(np.float32)
    notes = [*table.notes, *meeting.notes("expression", genes, table.gene)]
    if len(row_of) < len(names):
        notes.append(
            f"expression: {len(names) - len(row_of):,} further rows of genes already seen were "
            f"merged by {config.duplicates}."
        )
    return Expression(aligned, config.unit, table.sample, labelled), notes


def _tell_duplicates(
    table: ExpressionTable, names: list[str], file: Path, problems: Problems
) -> None:
    findings = Findings(file, problems)
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        line = first.setdefault(name, table.line[number])
        if line != table.line[number]:
            mend = 'take one out, or set duplicates = "first", "sum", "mean" or "max"'
            what = f"{table.gene[number]} (also line {line})"
            findings.add("several rows of one gene", mend, table.line[number], what)
    findings.report()


def _merge(
    value: NDArray[np.float64], group: NDArray[np.int64], count: int, how: str
) -> NDArray[np.float64]:
    """Rows of one gene made one; missing values count for nothing unless all are missing."""
    if how == "first":
        return np.asarray(value[np.unique(group, return_index=True)[1]])
    if how == "max":
        out = np.full((count, value.shape[1]), np.nan)
        np.fmax.at(out, group, value)
        return out
    present = ~np.isnan(value)
    total = np.zeros((count, value.shape[1]))
    number = np.zeros((count, value.shape[1]))
    np.add.at(total, group, np.where(present, value, 0.0))
    np.add.at(number, group, present)
    with np.errstate(invalid="ignore"):
        mean = total / number
    return np.where(number > 0, total if how == "sum" else mean, np.nan)
