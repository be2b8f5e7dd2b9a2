"""One table of sequences with a column for each region, PhytoExpr's data.csv among them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from featurestore.errors import did_you_mean
from featurestore.inputs.dataset import SpeciesConfig
from featurestore.inputs.findings import Findings
from featurestore.inputs.ids import clean
from featurestore.inputs.positions import (
    read_boundary,
    read_strand,
    tell_nameless,
    tell_repeats,
    tell_unprintable,
)
from featurestore.inputs.problems import Problems, examples
from featurestore.inputs.sequences import Given
from featurestore.inputs.tables import (
    CONTIG,
    FAMILY,
    GENE,
    MISSING,
    STRAND,
    TRANSCRIPT,
    Table,
    read_table,
)

RECORD: Final = ("record", "record_id")
_SPECIES: Final = ("species", "species_code", "organism")
_FOLD: Final = ("fold", "group_for_cross_validation")
_MEDIAN_TPM: Final = ("median_tpm",)
_POSITION: Final = ("tss", "tss1", "tts", "tts1")


def read_sequence_table(
    path: Path, regions: list[str], name: str, species: SpeciesConfig, problems: Problems
) -> Given | None:
    """Read one table of sequences.

    Parameters
    ----------
    path : Path
        Columns gene, one per region, and optionally record, chrom, strand, tss, tts, species,
        family, fold, context, under their usual names.
    regions : list of str
        Names of the columns that hold sequences.
    name : str
        The species; of a table with a species column, its rows are taken.
    species : SpeciesConfig
        Its ``species_code`` stands in for the name in that column.
    problems : Problems
    """
    table = read_table(path, problems)
    if table is None:
        return None
    gene = table.need("gene", GENE, problems)
    found = {region: at for region in regions if (at := table.find([region])) is not None}
    if not found:
        problems.add(
            path,
            f"no column of a region: {' or '.join(map(repr, regions))} expected; the header is "
            f"{examples(map(repr, table.header), 8)}.{did_you_mean(regions[0], table.header)}",
            "name the columns as the regions of [regions], or declare these there",
            "header",
        )
    if gene is None or not found:
        return None
    selected = _rows_of_species(table, name, species, problems)
    if selected is None:
        return None
    return _given(selected, gene, found, problems)


def _rows_of_species(
    table: Table, name: str, species: SpeciesConfig, problems: Problems
) -> Table | None:
    """The rows of one species; all of them where there is no species column."""
    column = table.find(_SPECIES)
    if column is None:
        return table
    wanted = _plain(species.species_code or name)
    codes = table.column(column)
    rows = [i for i, code in enumerate(codes) if _plain(code) == wanted]
    if rows:
        return Table(
            table.path,
            table.header,
            table.separator,
            [table.line[i] for i in rows],
            [table.text[i] for i in rows] if table.text is not None else None,
            [table.cells[i] for i in rows] if table.cells is not None else None,
        )
    known = sorted(set(codes))
    problems.add(
        table.path,
        f"no row of species {species.species_code or name!r} in column "
        f"{table.header[column]!r}; it has {examples(known, 20)}.{did_you_mean(name, known)}",
        f'set species_code = "…" in [species.{name}] to one of these',
    )
    return None


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_")


def _given(table: Table, gene: int, regions: dict[str, int], problems: Problems) -> Given | None:
    genes = [clean(x) for x in table.column(gene)]
    findings = Findings(table.path, problems)
    notes: list[str] = []
    record = table.find(RECORD)
    if record is None and len(set(genes)) < len(genes):
        transcript = table.find(TRANSCRIPT)
        if transcript is not None and len(set(table.column(transcript))) == len(genes):
            record = transcript
            notes.append(
                "sequences: some genes have several rows; records are called by column "
                f"{table.header[transcript]!r}."
            )
    records = genes if record is None else [clean(x) for x in table.column(record)]
    mend = "keep one, or give a column `record` with an id for each row"
    tell_repeats(table, records, "a record given twice", mend, findings)
    if records is not genes:
        tell_nameless(table, genes, findings)
    for names, what in ((CONTIG, "contig"), (FAMILY, "family"), (_FOLD, "fold")):
        if (at := table.find(names)) is not None:
            tell_unprintable(table, table.column(at), what, findings)
    strand = read_strand(table, findings)
    tss = read_boundary(table, "tss", strand, findings)
    tts = read_boundary(table, "tts", strand, findings)
    bad = bool(findings.kinds)
    findings.report()
    if bad:
        return None

    def cells(names: tuple[str, ...]) -> list[str] | None:
        at = table.find(names)
        return None if at is None else [_present(x) for x in table.column(at)]

    used = {gene, record, *regions.values(), *_columns(table)}
    if other := [n for i, n in enumerate(table.header) if n and i not in used]:
        notes.append(f"sequences: columns {examples(other)} are not used.")
    sequence = {
        region: [_present(x).encode("utf-8", "replace") for x in table.column(at)]
        for region, at in regions.items()
    }
    return Given(
        record=records,
        gene=genes,
        contig=cells(CONTIG) or [""] * len(genes),
        strand=strand,
        tss=tss,
        tts=tts,
        sequence=sequence,
        line=dict.fromkeys(regions, (table.path, table.line)),
        family=cells(FAMILY),
        fold=cells(_FOLD),
        median_tpm=cells(_MEDIAN_TPM),
        notes=notes,
    )


def _present(cell: str) -> str:
    # "NA" reads as two bases, and no region is two bases long.
    return "" if cell in MISSING else cell


def _columns(table: Table) -> set[int | None]:
    single = (CONTIG, STRAND, FAMILY, _SPECIES, _FOLD, _MEDIAN_TPM, *((n,) for n in _POSITION))
    return {table.find(names) for names in single}
