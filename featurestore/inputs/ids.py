"""Gene ids: prefixes, version suffixes, and how the ids of two tables are made to meet."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from featurestore.inputs.problems import few

_PREFIX: Final = re.compile(r"^(?:gene|transcript):", re.IGNORECASE)
_NCBI_PREFIX: Final = re.compile(r"^(?:gene|rna)-")
# AT1G01010.1, Sobic.001G000100.v3.2, Glyma.01G000100.Wm82.a2.v1, AT1G01010.Araport11.447
_VERSION: Final = re.compile(r"v?\d+|a\d+|Wm82|TAIR\d+|Araport\d+")
_DATE: Final = re.compile(
    r"\d{1,4}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{1,4}"
)
# Stripping must bring ten times more genes together before it is taken for what was meant.
_WORTH: Final = 10


def clean(name: str) -> str:
    """An id without surrounding blanks and without the ``gene:`` or ``transcript:`` of Ensembl."""
    return _PREFIX.sub("", name.strip())


def strip_version(name: str) -> str:
    """An id without its version suffix: ``AT1G01010.1`` → ``AT1G01010``."""
    # Part by part from the end: a repeated group anchored at the end takes quadratic time.
    end = len(name)
    while (dot := name.rfind(".", 0, end)) > 0 and _VERSION.fullmatch(name, dot + 1, end):
        end = dot
    return name[:end]


def strip_ncbi(name: str) -> str:
    """An id without the ``gene-`` or ``rna-`` that NCBI puts before it."""
    return _NCBI_PREFIX.sub("", name)


@dataclass(frozen=True)
class Meeting:
    """How the genes of a data set look themselves up in a table.

    Parameters
    ----------
    key : list of str, length n
        For each gene, the id to look up among the transformed ids of the table.
    transform : callable
        What turns an id of the table into such a key.
    met : int
        How many genes find a row.
    how : str
        What had to be done to make them meet; empty if nothing.
    """

    key: list[str]
    transform: Callable[[str], str]
    met: int
    how: str = ""

    def notes(self, table: str, genes: Sequence[str], table_ids: Iterable[str]) -> list[str]:
        """Sentences that tell the user what meets and, with examples of either side, what not."""
        rows = list(dict.fromkeys(self.transform(clean(x)) for x in table_ids))
        known, asked = set(rows), set(self.key)
        lonely = [g for g, k in zip(genes, self.key, strict=True) if k not in known]
        unused = [x for x in rows if x not in asked]
        told = [f"{table}: {self.how}."] if self.how else []
        if lonely:
            told.append(
                f"{table}: {len(lonely):,} of {len(genes):,} genes have no row, "
                f"for example {few(lonely)}."
            )
        if unused:
            told.append(
                f"{table}: {len(unused):,} of {len(rows):,} ids name no gene of this data set, "
                f"for example {few(unused)}."
            )
        if dates := [x for x in unused if _DATE.fullmatch(x)]:
            told.append(
                f"{table}: ids such as {few(dates)} look like gene names that a spreadsheet "
                "turned into dates."
            )
        return told


def _identity(name: str) -> str:
    return name


_CHANGES: Final[tuple[tuple[str, Callable[[str], str], bool], ...]] = (
    ("", _identity, False),
    ("the prefix gene- or rna- of NCBI was stripped from its ids", strip_ncbi, False),
    ("version suffixes were stripped from its ids", strip_version, False),
    ("version suffixes were stripped from the gene ids", _identity, True),
    ("version suffixes were stripped from its ids and the gene ids", strip_version, True),
)


def meet(
    keys: Mapping[str, Sequence[str]],
    table_ids: Iterable[str],
    own: Sequence[str] | None = None,
) -> Meeting | None:
    """Find how genes and a table meet: as given, else by another name, else without versions.

    Parameters
    ----------
    keys : mapping of a name ("gene id", "Name" …) to ids, each of length n
        The ids under which the genes may stand in the table, best first.
    table_ids : iterable of str
        Ids of the table, as written there.
    own : sequence of str, length n, optional
        Ids that go before those of ``keys``, record by record, where the table has them.

    Returns
    -------
    Meeting, or None where no gene finds a row
    """
    rows = [clean(x) for x in table_ids]
    best: Meeting | None = None
    for change, transform, genes_too in _CHANGES:
        known = {transform(x) for x in rows}
        for number, (name, ids) in enumerate(keys.items()):
            key = [strip_version(x) for x in ids] if genes_too else list(ids)
            if genes_too and len(set(key)) < len(set(ids)):
                continue  # stripping would make two genes one
            if own is not None:
                key = [o if o in known else k for o, k in zip(own, key, strict=True)]
            met = sum(k in known for k in key)
            if met > (best.met * _WORTH if best else 0):
                by = f"its ids are the genes' {name}" if number else ""
                how = " and ".join(x for x in (by, change) if x)
                best = Meeting(key, transform, met, how)
            if best and best.met * _WORTH >= len(key):
                return best  # nothing further can be worth it
    return best
