"""Gene families: two columns, OrthoFinder's Orthogroups.tsv, PLAZA."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from featurestore.inputs.findings import Findings
from featurestore.inputs.ids import clean, meet
from featurestore.inputs.problems import Problems, examples, few
from featurestore.inputs.tables import FAMILY, GENE, MISSING, TRANSCRIPT, Table, read_table

_ORTHOFINDER: Final = ("hog", "orthogroup")
# Columns of OrthoFinder's hierarchical orthogroups (N0.tsv) that hold no genes.
_NOT_GENES: Final = frozenset({"hog", "og", "orthogroup", "gene tree parent clade"})


def read_families(
    path: Path,
    keys: Mapping[str, Sequence[str]],
    problems: Problems,
    own: Sequence[str] | None = None,
) -> tuple[list[str], list[str]] | None:
    """The family of each gene.

    Parameters
    ----------
    path : Path
        Two columns found by name (``gene``, ``family`` and their usual spellings, further
        columns do not matter), ``Orthogroups.tsv`` or ``N0.tsv`` of OrthoFinder, or PLAZA
        (``#gf_id``, ``species``, ``gene_id``).
    keys : mapping of a name to ids, each of length n
        Ids of the genes, as :func:`featurestore.inputs.ids.meet` takes them.
    problems : Problems
    own : sequence of str, length n, optional
        Record ids, which go before gene ids.

    Returns
    -------
    Families (empty where a gene has none) and notes, or None; ``problems`` then says why.
    """
    table = read_table(path, problems)
    if table is None:
        return None
    members = _orthofinder(table) if _is_orthofinder(table) else _two_columns(table, problems)
    if members is None:
        return None
    names, families, lines = members
    genes = list(own) if own is not None else list(next(iter(keys.values())))
    meeting = meet(keys, names, own)
    if meeting is None:
        what = (
            f"no gene of the data set is in the family table: genes are {examples(genes)}; "
            f"the table has {examples(names)}"
        )
        problems.add(path, what, "give both the same ids, or make families with `fs families`")
        return None
    findings = Findings(path, problems)
    for family, line in zip(families, lines, strict=True):
        if not family.isprintable():
            mend = "take control characters and unusual blanks out of it"
            findings.add("a family that cannot be printed", mend, line, family)
    asked = set(meeting.key)
    family_of: dict[str, tuple[str, int]] = {}
    for name, family, line in zip(names, families, lines, strict=True):
        key = meeting.transform(clean(name))
        first, first_line = family_of.setdefault(key, (family, line))
        if first != family and key in asked:
            mend = "a gene belongs to one family; keep one line"
            what = f"{key} is in {first} (line {first_line}) and {family}"
            findings.add("a gene in two families", mend, line, what)
    if findings.kinds:
        findings.report()
        return None
    found = [family_of.get(key, ("", 0))[0] for key in meeting.key]
    return found, [f"families: {meeting.how}."] if meeting.how else []


def singletons_note(genes: Sequence[str], family: Sequence[str]) -> list[str]:
    """The sentence that tells how many genes have no family, if any."""
    alone = [gene for gene, name in zip(genes, family, strict=True) if not name]
    if not alone:
        return []
    return [
        f"families: {len(alone):,} of {len(genes):,} genes have no family and stand as "
        f"singletons, for example {few(alone)}."
    ]


_Members = tuple[list[str], list[str], list[int]]


def _is_orthofinder(table: Table) -> bool:
    first = table.header[0].strip().lower()
    others = {name.strip().lower() for name in table.header[1:]}
    return first in _ORTHOFINDER and table.find((*GENE, *TRANSCRIPT)) is None and bool(others)


def _orthofinder(table: Table) -> _Members:
    """Genes of every species column; which are of this data set is found by their ids."""
    columns = [i for i, name in enumerate(table.header) if name.strip().lower() not in _NOT_GENES]
    members: _Members = ([], [], [])
    for line, row in zip(table.line, table.rows(), strict=True):
        for column in columns:
            for gene in row[column].split(","):
                if gene := gene.strip():
                    members[0].append(gene)
                    members[1].append(row[0].strip())
                    members[2].append(line)
    return members


def _two_columns(table: Table, problems: Problems) -> _Members | None:
    gene = table.need("gene", (*GENE, *TRANSCRIPT), problems)
    family = table.need("family", FAMILY, problems)
    if gene is None or family is None:
        return None
    members: _Members = ([], [], [])
    for line, row in zip(table.line, table.rows(), strict=True):
        if (name := row[family].strip()) not in MISSING:
            members[0].append(row[gene].strip())
            members[1].append(name)
            members[2].append(line)
    return members
