"""Delimited tables: separator, header, quoting, and rows that keep their line numbers."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from featurestore.errors import did_you_mean
from featurestore.inputs.files import read_text
from featurestore.inputs.findings import Findings
from featurestore.inputs.problems import Problems, examples, shown

GENE: Final = ("gene", "gene_id", "geneid", "locus", "locus_id", "target_id", "id")
TRANSCRIPT: Final = ("transcript", "transcript_id")
CONTIG: Final = ("chrom", "chr", "contig", "chromosome", "seqid", "seqname")
SAMPLE: Final = ("sample", "sample_id", "run", "library")
STRAND: Final = ("strand",)
FAMILY: Final = (
    "family",
    "family_id",
    "gene_family",
    "gf_id",
    "orthogroup",
    "orthogroup_id",
    "hog",
)
MISSING: Final = frozenset(
    {"", "NA", "N/A", "n/a", "NaN", "nan", "NULL", "null", "None", "none", "."}
)
"""What a cell without a value holds."""

_IDS: Final = frozenset((*GENE, *TRANSCRIPT, *SAMPLE))
_SEPARATORS: Final = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
_COMPRESSED: Final = {".gz", ".bgz", ".bgzf"}


@dataclass(frozen=True)
class Table:
    """A table whose rows all have as many cells as the header.

    Parameters
    ----------
    path : Path
    header : list of str
        Unique but for empty names.
    separator : str
    line : list of int, length n
        1-based line of each row.
    text : list of str, length n, or None
        The rows as they stand in the file, where nothing is quoted.
    cells : list of list of str, length n, or None
        The rows cut into cells, where the file quotes.
    """

    path: Path
    header: list[str]
    separator: str
    line: list[int]
    text: list[str] | None
    cells: list[list[str]] | None

    def __len__(self) -> int:
        return len(self.line)

    def rows(self) -> Iterator[list[str]]:
        """The cells of each row, one row at a time."""
        if self.cells is not None:
            return iter(self.cells)
        return (row.split(self.separator) for row in self.text or [])

    def find(self, names: Iterable[str]) -> int | None:
        """Index of the first of several names that is a column; case, blanks and # do not count."""
        known = self._place
        return next((known[name] for name in map(_plain, names) if name in known), None)

    @cached_property
    def _place(self) -> dict[str, int]:
        """Index of the first column of each plain name."""
        return {_plain(name): i for i, name in reversed([*enumerate(self.header)])}

    def column(self, index: int) -> list[str]:
        """All cells of a column, blanks around them taken off."""
        return [row[index].strip() for row in self.rows()]

    def need(self, what: str, names: Sequence[str], problems: Problems) -> int | None:
        """Like :meth:`find`, but a column that is not there is a problem."""
        found = self.find(names)
        if found is None:
            problems.add(
                self.path,
                f"no column for the {what}: the header is {examples(map(repr, self.header), 8)}."
                f"{did_you_mean(names[0], self.header)}",
                f"name a column {' or '.join(map(repr, names[:3]))}",
                "header",
            )
        return found


def read_table(path: Path, problems: Problems) -> Table | None:
    """Read a TSV or CSV file with a header, plain, gzip or bgzip.

    The separator is that of the suffix where the header has it, else tab, comma or semicolon,
    whichever the header has. Lines before the header that begin with ``#`` are comments; a
    header may itself begin with ``#``, as PLAZA's does.

    Returns
    -------
    Table, or None where there is none; ``problems`` then says why.
    """
    text = read_text(path, problems)
    if text is None:
        return None
    lines = text.split("\n")
    at = _header_line(lines)
    if at is None:
        problems.add(path, "the table is empty", "give a header line and rows")
        return None
    separator = _separator(path, lines[at])
    if '"' in text:
        table = _read_quoted(path, lines, at, separator, problems)
    else:
        table = _read_plain(path, lines, at, separator, problems)
    if table is None:
        return None
    if not len(table):
        problems.add(path, "the table has a header and no rows", "add rows", f"line {at + 1}")
        return None
    table = _without_empty_columns(table)
    names = [name for name in table.header if name]
    if twice := [name for name, times in Counter(names).items() if times > 1]:
        what = f"columns given twice: {examples(map(repr, twice))}"
        problems.add(path, what, "give every column its own name", f"line {at + 1}")
        return None
    return table


def _without_empty_columns(table: Table) -> Table:
    """The table without columns at its right that have neither name nor value.

    Spreadsheets write them; a column of values without a name stays.
    """
    width = len(table.header)
    while width > 1 and not table.header[width - 1]:
        width -= 1
    if width == len(table.header) or any(any(map(str.strip, r[width:])) for r in table.rows()):
        return table
    cells = [row[:width] for row in table.rows()]
    return Table(table.path, table.header[:width], table.separator, table.line, None, cells)


def _plain(name: str) -> str:
    return re.sub(r"[\s.-]+", "_", name.strip().lstrip("#").strip().lower())


def _header_line(lines: list[str]) -> int | None:
    """Index of the header: the last line with # before the rows if it has as many cells as they."""
    comment: int | None = None
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        if not line.startswith("#"):
            if comment is not None and _is_header(lines[comment], line):
                return comment
            return number
        comment = number
    return comment


def _is_header(comment: str, line: str) -> bool:
    """Whether the last comment names the columns, and the line after it does not."""
    separator = next((sep for sep in "\t,;" if 0 < line.count(sep) == comment.count(sep)), "")
    names = line.split(separator) if separator else []
    return bool(names) and not any(_plain(name.strip('"')) in _IDS for name in names)


def _separator(path: Path, header: str) -> str:
    suffixes = [s.lower() for s in path.suffixes if s.lower() not in _COMPRESSED]
    by_suffix = _SEPARATORS.get(suffixes[-1], "") if suffixes else ""
    if by_suffix and by_suffix in header:
        return by_suffix
    return next((sep for sep in "\t,;" if sep in header), by_suffix or "\t")


def _read_plain(
    path: Path, lines: list[str], at: int, separator: str, problems: Problems
) -> Table | None:
    header = [name.strip() for name in lines[at].split(separator)]
    numbers = [i for i in range(at + 1, len(lines)) if lines[i] and not lines[i].isspace()]
    counts = [lines[i].count(separator) + 1 for i in numbers]
    header = _with_row_names(header, counts)
    rows = [lines[i] for i in numbers]
    line = [i + 1 for i in numbers]
    if not _tell_widths(path, header, line, counts, problems):
        return None
    return Table(path, header, separator, line, rows, None)


def _read_quoted(
    path: Path, lines: list[str], at: int, separator: str, problems: Problems
) -> Table | None:
    reader = csv.reader((line + "\n" for line in lines[at:]), delimiter=separator)
    # A sequence column of a chromosome's length is no mistake, and a quote that is never closed
    # takes in all that follows.
    csv.field_size_limit(max(csv.field_size_limit(), sum(map(len, lines)) + len(lines)))
    findings = Findings(path, problems)
    cells: list[list[str]] = []
    line: list[int] = []
    header: list[str] = []
    begin = 0
    for row in reader:
        if not header:
            header = [name.strip() for name in row]
        elif row and (len(row) > 1 or row[0].strip()):
            cells.append(row)
            line.append(at + begin + 1)
        if reader.line_num > begin + 1:
            _tell_open_quote(lines, at + begin, at + reader.line_num, separator, findings)
        begin = reader.line_num
    if findings.kinds:
        findings.report()
        return None
    counts = [len(row) for row in cells]
    header = _with_row_names(header, counts)
    if not _tell_widths(path, header, line, counts, problems):
        return None
    return Table(path, header, separator, line, None, cells)


def _tell_open_quote(
    lines: list[str], first: int, last: int, separator: str, findings: Findings
) -> None:
    """Find a row of several lines whose quotes do not pair: it would take in other rows."""
    rows = csv.reader((line + "\n" for line in lines[first:last]), delimiter=separator, strict=True)
    try:
        for _ in rows:
            pass
    except csv.Error:
        mend = 'close the quote, or double a " that belongs to the value'
        what = shown(lines[first].strip(), 40)
        findings.add('a quote " that is not closed', mend, first + 1, what)


def _with_row_names(header: list[str], counts: list[int]) -> list[str]:
    """R writes no name over its row names: the header then is one short of every row."""
    names_ids = any(_plain(name) in _IDS for name in header)
    one_short = bool(counts) and set(counts) == {len(header) + 1}
    return ["", *header] if one_short and not names_ids else header


def _tell_widths(
    path: Path, header: list[str], line: list[int], counts: list[int], problems: Problems
) -> bool:
    findings = Findings(path, problems)
    for number, count in zip(line, counts, strict=True):
        if count != len(header):
            mend = f"the header has {len(header)}; give every row as many"
            what = f"{count} cell{'s' if count > 1 else ''}"
            findings.add("wrong column count", mend, number, what)
    good = not findings.kinds
    findings.report()
    return good
