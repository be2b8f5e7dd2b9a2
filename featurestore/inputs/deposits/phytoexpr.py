"""PhytoExpr's ``data.csv``: one pass over 12 GB of text, one row in memory at a time.

Columns ``"", gene, species, transcript, promoter, terminator, median_TPM, gene_family,
group_for_cross_validation`` (Li et al. 2024, PNAS 121:e2319811121). ``promoter`` and ``terminator``
are 10,000 bp in transcript direction, centred on TSS and TTS; what a region takes of them is
decided by its upstream and downstream alone, so that −4,000 … +1,000 of the TSS is
``promoter[1000:6000]`` and −1,000 … +4,000 of the TTS ``terminator[4000:9000]``.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from featurestore.errors import InputError, did_you_mean
from featurestore.inputs.deposits.species_codes import species_name
from featurestore.inputs.deposits.writing import Imported, Row, SpeciesTables, write_dataset
from featurestore.inputs.files import file_digest, other_format
from featurestore.inputs.model import Region
from featurestore.inputs.problems import shown
from featurestore.inputs.tables import MISSING
from featurestore.untrusted import open_file, unpacked

CENTRE: Final = 5000
LENGTH: Final = 2 * CENTRE
"""bp of ``promoter`` and of ``terminator``; TSS and TTS stand before base :data:`CENTRE`."""

COLUMNS: Final = (
    "gene", "species", "transcript", "promoter", "terminator", "median_TPM", "gene_family",
    "group_for_cross_validation",
)  # fmt: skip
_LONGEST_CELL: Final = 1 << 20
_DNA: Final = re.compile(r"[ACGTUNRYSWKMBDHVacgtunryswkmbdhv]+")


@dataclass(frozen=True)
class Entry:
    """A row of data.csv that is kept; sequences are whole, 10,000 bp each."""

    line: int
    gene: str
    code: str
    transcript: str
    promoter: str
    terminator: str
    tpm: str
    family: str
    group: str


def regions_for(outside: int, inside: int) -> tuple[Region, Region]:
    """Promoter and terminator with so many bp outside and inside of the transcribed part.

    Raises
    ------
    InputError
        If they reach further than the sequences do.
    """
    if not (0 <= outside <= CENTRE and 0 <= inside <= CENTRE and outside + inside):
        raise InputError(
            f"--window {outside}:{inside}: the sequences reach {CENTRE:,} bp to either side of TSS and TTS"
        )
    return (
        Region("promoter", "tss", outside, inside),
        Region("terminator", "tts", inside, outside),
    )


def window(sequence: str, region: Region) -> str:
    """What a region takes of the 10,000 bp around its anchor."""
    return sequence[CENTRE - region.upstream : CENTRE + region.downstream]


def entries(path: Path, tables: SpeciesTables) -> Iterator[Entry]:
    """Rows of data.csv in order; those with NA or another length go to ``tables.drop``.

    Raises
    ------
    InputError
        If it is no such table.
    """
    with _reader(path) as reader:
        header = [name.strip() for name in next(reader, [])]
        place = _columns(path, header)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise InputError(f"{path}, line {line}: {error}; is a quote not closed?") from error
            if cells is None:
                return
            if not any(cells):
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{path}, line {line}: {len(cells)} cells where the header has {len(header)}"
                )
            entry = Entry(line, *(_present(cells[at]) for at in place))
            if reason := _unusable(entry):
                tables.drop(line, entry.code, entry.gene, reason)
            else:
                yield entry


@contextmanager
def _reader(path: Path) -> Iterator[csv.Reader]:  # type: ignore[name-defined]
    try:
        stream = open_file(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        with stream:
            raw = cast("io.BufferedReader", unpacked(stream))
            if what := other_format(raw.peek(512)[:512]):
                raise InputError(f"{path}: the file is {what}; unpack it and name the table in it")
            with io.TextIOWrapper(raw, "utf-8-sig", errors="replace", newline="") as text:
                yield csv.reader(text)
    except (EOFError, OSError) as error:
        raise InputError(f"{path}: cannot be read to its end ({error}); fetch it again") from error
    finally:
        csv.field_size_limit(before)


def _columns(path: Path, header: Sequence[str]) -> list[int]:
    if missing := [name for name in COLUMNS if name not in header]:
        raise InputError(
            f"{path}: no column {', '.join(missing)}; the header is "
            f"{shown(', '.join(map(repr, header)), 300)}.{did_you_mean(missing[0], header)} "
            "PhytoExpr's data.csv is expected"
        )
    return [header.index(name) for name in COLUMNS]


def _present(cell: str) -> str:
    text = cell.strip()
    return "" if text in MISSING else text


def _unusable(entry: Entry) -> str:
    """Why a row cannot be used; empty if it can."""
    if not (entry.gene and entry.code):
        return "no gene or no species"
    for name in ("promoter", "terminator"):
        sequence = getattr(entry, name)
        if not sequence:
            return f"{name} is NA"
        if len(sequence) != LENGTH:
            return f"{name} is not {LENGTH:,} bp long"
        if not _DNA.fullmatch(sequence):
            return f"{name} has a letter that is no IUPAC nucleotide"
    return ""


def import_phytoexpr(
    source: Path,
    folder: Path,
    *,
    names: Mapping[str, str] | None = None,
    window_bp: tuple[int, int] = (4000, 1000),
) -> Imported:
    """Turn data.csv into a data set, one table a species.

    Parameters
    ----------
    source : Path
        data.csv, plain or gzip.
    folder : Path
        To write; must hold no data set yet.
    names : mapping of species code to name, optional
        Goes before :data:`~featurestore.inputs.deposits.species_codes.INFERRED`.
    window_bp : (outside, inside)
        Default: EMPRES's documented 4,000 bp outside and 1,000 bp inside of TSS and TTS.

    Raises
    ------
    InputError
        If the table is none, or the folder holds a data set.
    """
    regions = regions_for(*window_bp)
    origin: dict[str, str] = {}
    species: dict[str, str] = {}
    with SpeciesTables(folder, regions) as tables:
        for entry in entries(source, tables):
            if entry.code not in species:
                name, how = species_name(entry.code, names or {})
                if name in origin:
                    raise InputError(f"{source}: two species codes would be called {name}")
                species[entry.code], origin[name] = name, how
            tables.add(species[entry.code], row_of(entry, regions))
        if not tables.genes:
            raise InputError(
                f"{source}: no row of it can be used. {'; '.join(tables.dropped.told())}".strip()
            )
    notes = _notes(origin, tables)
    comments = [
        f"PhytoExpr's data.csv (Li et al. 2024, PNAS 121:e2319811121), sha256 {file_digest(source)}",
        "Written by fs import phytoexpr. Families and folds (group_for_cross_validation) are the deposit's.",
        *notes,
    ]
    return Imported(
        write_dataset(folder, tables, comments=comments, origin=origin),
        dict(tables.genes), tables.dropped, notes,
    )  # fmt: skip


def row_of(entry: Entry, regions: Sequence[Region]) -> Row:
    """A row of data.csv as it goes into the tables."""
    sequence = [window(getattr(entry, region.name), region) for region in regions]
    return Row(entry.gene, entry.transcript, sequence, entry.family, entry.group, entry.tpm)


def _notes(origin: Mapping[str, str], tables: SpeciesTables) -> list[str]:
    inferred = sum("inferred" in how for how in origin.values())
    notes = []
    if inferred:
        notes.append(
            f"The names of {inferred} species are inferred from their codes; --species-name CODE=NAME "
            "gives others."
        )
    return notes + tables.dropped.told()
