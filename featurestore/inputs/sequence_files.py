"""Sequences with one file a region: FASTA, or a table with a column ``sequence``."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from featurestore.inputs.fasta import read_fasta
from featurestore.inputs.files import read_bytes
from featurestore.inputs.findings import Findings
from featurestore.inputs.ids import clean
from featurestore.inputs.model import UNKNOWN_POSITION
from featurestore.inputs.positions import (
    STRANDS,
    read_boundary,
    read_strand,
    tell_nameless,
    tell_repeats,
    tell_unprintable,
)
from featurestore.inputs.problems import Problems, few
from featurestore.inputs.sequence_tables import RECORD
from featurestore.inputs.sequences import Given
from featurestore.inputs.tables import CONTIG, GENE, MISSING, TRANSCRIPT, read_table
from featurestore.sequence import iupac

_KEY_VALUE: Final = re.compile(r"(?<!\w)(\w++)=(\S+)")
_LETTERS: Final = np.frombuffer(iupac.LETTERS.encode(), np.uint8)


@dataclass
class _Entry:
    """One record of one region file."""

    gene: str
    contig: str
    strand: int
    tss: int
    tts: int
    sequence: bytes
    line: int


_Entries = dict[str, _Entry]


def read_region_files(files: Mapping[str, Path], problems: Problems) -> Given | None:
    """Read one file for each region and join them.

    Files are joined by record id. Where a record lacks a region and the file of that region has
    a single record of the same gene, that one serves: one promoter for all terminators of its gene.

    Parameters
    ----------
    files : mapping of region name to path
        FASTA (record = first word of the header; ``gene=``, ``chrom=``, ``strand=`` may follow)
        or a table with columns gene and sequence, and optionally record, chrom, strand, tss, tts.
    problems : Problems
    """
    read = {region: _read_file(path, problems) for region, path in files.items()}
    entries = {region: found for region, found in read.items() if found is not None}
    if len(entries) < len(files):
        return None
    places, absorbed = _join(entries)
    first = [next(e for e in place if e is not None) for place in places.values()]
    notes: list[str] = []
    if absorbed:
        notes.append(
            f"sequences: {len(absorbed):,} records that stand for a whole gene serve its other "
            f"records, for example {few(absorbed)}."
        )

    def known(values: list[int]) -> int:
        return next((v for v in values if v != UNKNOWN_POSITION), UNKNOWN_POSITION)

    given = Given(
        record=list(places),
        gene=[e.gene for e in first],
        contig=[next((e.contig for e in p if e and e.contig), "") for p in places.values()],
        strand=np.array(
            [next((e.strand for e in p if e and e.strand), 0) for p in places.values()], np.int8
        ),
        tss=np.array([known([e.tss for e in p if e]) for p in places.values()], np.int64),
        tts=np.array([known([e.tts for e in p if e]) for p in places.values()], np.int64),
        sequence={},
        line={},
        notes=notes,
    )
    for i, (region, path) in enumerate(files.items()):
        of_region: list[_Entry | None] = [place[i] for place in places.values()]
        given.sequence[region] = [e.sequence if e else b"" for e in of_region]
        given.line[region] = (path, [e.line if e else 0 for e in of_region])
    return given


def _join(entries: dict[str, _Entries]) -> tuple[dict[str, list[_Entry | None]], list[str]]:
    """For each record, its entry in every region; and the records that only served others."""
    by_gene: list[dict[str, list[str]]] = []
    for found in entries.values():
        genes: dict[str, list[str]] = defaultdict(list)
        for name, own in found.items():
            genes[own.gene].append(name)
        by_gene.append(genes)
    regions = list(entries.values())
    names = dict.fromkeys(name for found in regions for name in found)
    places: dict[str, list[_Entry | None]] = {}
    serves: dict[str, list[str]] = defaultdict(list)
    for name in names:
        gene = next(found[name].gene for found in regions if name in found)
        place: list[_Entry | None] = []
        for found, genes in zip(regions, by_gene, strict=True):
            entry = found.get(name)
            if entry is None and len(genes.get(gene, ())) == 1:
                entry = found[genes[gene][0]]
                serves[genes[gene][0]].append(name)
            place.append(entry)
        places[name] = place
    # A record of one region that serves others stands in them. Two may serve each other: the
    # one named by its gene goes, else the first, and the other stays.
    alone = [n for n in names if n in serves and sum(n in found for found in regions) == 1]
    alone.sort(key=lambda name: not any(f[name].gene == name for f in regions if name in f))
    absorbed = [name for name in alone if _drop_if_served(name, serves[name], places)]
    return places, absorbed


def _drop_if_served(name: str, serves: list[str], places: dict[str, list[_Entry | None]]) -> bool:
    stays = not any(other in places for other in serves)
    return not stays and places.pop(name) is not None


def _read_file(path: Path, problems: Problems) -> _Entries | None:
    data = read_bytes(path, problems)
    if data is None:
        return None
    is_fasta = data.lstrip().startswith(b">")
    return _read_fasta(path, problems) if is_fasta else _read_table(path, problems)


def _read_fasta(path: Path, problems: Problems) -> _Entries | None:
    records = read_fasta(path, problems, "record")
    if records is None:
        return None
    letters = _LETTERS[records.code].tobytes()
    entries: _Entries = {}
    findings = Findings(path, problems)
    for number, name in enumerate(records.name):
        facts: dict[str, str] = dict(_KEY_VALUE.findall(records.description[number]))
        start, length = int(records.start[number]), int(records.length[number])
        strand = facts.get("strand", ".")
        if strand not in STRANDS:
            mend = "write strand=+ or strand=-"
            what = f"{name} has strand {strand!r}"
            findings.add("a strand that is neither + nor -", mend, records.line[number], what)
        gene = clean(facts.get("gene", facts.get("gene_id", name)))
        contig = facts.get("chrom", facts.get("chr", facts.get("contig", "")))
        record = clean(name)
        if not (gene.isprintable() and contig.isprintable()):
            mend = "take control characters and unusual blanks out of the header"
            findings.add(
                "a gene or contig that cannot be printed", mend, records.line[number], name
            )
        if not (record and gene) or record in entries:
            mend = "give every record and gene its own id"
            findings.add("a record or gene id that is empty or given twice", mend,
                         records.line[number], name)  # fmt: skip
        entries[record] = _Entry(
            gene, contig, STRANDS.get(strand, 0), UNKNOWN_POSITION, UNKNOWN_POSITION,
            letters[start : start + length], records.line[number],
        )  # fmt: skip
    bad = bool(findings.kinds)
    findings.report()
    return None if bad else entries


def _read_table(path: Path, problems: Problems) -> _Entries | None:
    table = read_table(path, problems)
    if table is None:
        return None
    gene = table.need("gene", GENE, problems)
    sequence = table.need("sequence", ("sequence", "seq"), problems)
    if gene is None or sequence is None:
        return None
    genes = [clean(x) for x in table.column(gene)]
    records = genes
    named = table.find(RECORD)
    # The id of a record is a column `record`, else a first column that is not the gene's, else,
    # where genes repeat, the column of ids (transcript_id, epd_id …) that does not.
    candidates = [named] if named is not None else [0, *_id_columns(table.header)]
    for column in candidates:
        if column in (gene, sequence):
            continue
        names = [clean(x) for x in table.column(column)]
        unique = len(set(names)) == len(names) and "" not in names
        wanted = column in (named, 0) or len(set(genes)) < len(genes)
        if wanted and (unique or column == named):
            records = names
            break
    findings = Findings(path, problems)
    mend = "keep one, or give a column `record` with an id for each row"
    tell_repeats(table, records, "a record given twice", mend, findings)
    if records is not genes:
        tell_nameless(table, genes, findings)
    strand = read_strand(table, findings)
    tss = read_boundary(table, "tss", strand, findings).tolist()
    tts = read_boundary(table, "tts", strand, findings).tolist()
    at = table.find(CONTIG)
    contigs = table.column(at) if at is not None else [""] * len(genes)
    tell_unprintable(table, contigs, "contig", findings)
    bad = bool(findings.kinds)
    findings.report()
    if bad:
        return None
    bases = [b"" if x in MISSING else x.encode("utf-8", "replace") for x in table.column(sequence)]
    columns = zip(genes, contigs, strand.tolist(), tss, tts, bases, table.line, strict=True)
    return dict(zip(records, (_Entry(*row) for row in columns), strict=True))


def _id_columns(header: list[str]) -> list[int]:
    return [i for i, n in enumerate(header) if n.lower().endswith("_id") or n.lower() in TRANSCRIPT]
