"""The table of samples: tissue, genotype, line and control of each column of expression."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from featurestore.inputs.findings import Findings
from featurestore.inputs.model import Expression
from featurestore.inputs.positions import tell_unprintable
from featurestore.inputs.problems import Problems, examples, few
from featurestore.inputs.tables import MISSING, SAMPLE, Table, read_table

_CONTROL: Final = {"1": "1", "true": "1", "yes": "1", "0": "0", "false": "0", "no": "0"}


def join_samples(
    expression: Expression, path: Path, problems: Problems
) -> tuple[Expression, list[str]]:
    """Add tissue, genotype, line and control of each sample.

    Returns
    -------
    The expression with what the table gives, and notes on samples that do not meet.
    """
    table = read_table(path, problems)
    if table is None:
        return expression, []
    key = table.need("sample", SAMPLE, problems)
    if key is None:
        return expression, []
    names = table.column(key)
    findings = Findings(path, problems)
    row: dict[str, int] = {}
    for number, name in enumerate(names):
        if row.setdefault(name, number) != number:
            what = f"{name} (also line {table.line[row[name]]})"
            findings.add("a sample given twice", "keep one", table.line[number], what)
    known = [sample for sample in expression.sample if sample in row]
    if not known:
        problems.add(
            path,
            f"no sample of the expression table is in it: that has {examples(expression.sample)}; "
            f"this has {examples(names)}",
            "give both the same sample names",
        )
    columns: dict[str, list[str]] = {}
    for what in ("tissue", "genotype", "line", "control"):
        if (index := table.find([what])) is not None:
            cells = table.column(index)
            if what == "control":
                cells = _control(cells, table, findings)
            tell_unprintable(table, cells, what, findings)
            columns[what] = [cells[row[s]] if s in row else "" for s in expression.sample]
    findings.report()
    joined = replace(
        expression,
        tissue=columns.get("tissue"),
        genotype=columns.get("genotype"),
        line=columns.get("line"),
        control=columns.get("control"),
    )
    return joined, _notes(expression.sample, row)


def _notes(samples: list[str], row: dict[str, int]) -> list[str]:
    notes: list[str] = []
    if lonely := [sample for sample in samples if sample not in row]:
        notes.append(
            f"samples: {len(lonely):,} of {len(samples):,} samples of the expression table have "
            f"no row, for example {few(lonely)}."
        )
    if unused := [sample for sample in row if sample not in set(samples)]:
        notes.append(
            f"samples: {len(unused):,} of {len(row):,} rows name no sample of the expression "
            f"table, for example {few(unused)}."
        )
    return notes


def _control(cells: list[str], table: Table, findings: Findings) -> list[str]:
    for number, cell in enumerate(cells):
        if cell.lower() not in _CONTROL and cell not in MISSING:
            mend = "write 1 for a control and 0 for any other"
            findings.add("control is neither 1 nor 0", mend, table.line[number], repr(cell))
    return [_CONTROL.get(cell.lower(), "") for cell in cells]
