"""EMPRES's arrays (Zenodo 18236856) as a data set, with its vectors as groups of the store.

    gene.npy, family.npy, group_for_cross_validation.npy, TPM.npy     (N,)
    tss_OHE.npy, tts_OHE.npy                                          (N, 4, 5000) uint8
    {tss,tts}_embeddings_PlantCad.npy                                 (N, 384, 20)
    {tss,tts}_predictions_a2z.npy, {tss,tts}_embeddings_a2z.npy       (N, 1, 20), (N, 925, 20)

Channels come first there and last in the store. Which species a gene is of, no array tells:
``species.npy`` if there is one, else PhytoExpr's data.csv, of which the rows were made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.arrays import mapped_array
from featurestore.errors import InputError
from featurestore.inputs.deposits.empres_groups import (
    GROUPS,
    RECORD,
    SIDES,
    Group,
    has_group,
    write_indices,
)
from featurestore.inputs.deposits.phytoexpr import entries, regions_for, row_of
from featurestore.inputs.deposits.species_codes import species_name
from featurestore.inputs.deposits.writing import Imported, Row, SpeciesTables, write_dataset
from featurestore.inputs.ids import clean
from featurestore.inputs.model import Region
from featurestore.inputs.tables import MISSING
from featurestore.sequence import iupac

NO_SPECIES: Final = "empres"
"""What genes are called by whose species nothing tells."""

_COLUMNS: Final = ("gene", "family", "group_for_cross_validation", "TPM")
_AT_ONCE: Final = 256
_LARGEST_LOG: Final = 8.0
"""log10(1 + TPM) is at most 6: one million TPM are all there are; log2 of a large table goes beyond."""

# Sets of bases, A = 1, C = 2, G = 4, T = 8, to letters; no base at all is N.
_LETTER: Final = np.frombuffer(b"NACMGRSVTWYHKDBN", np.uint8)


@dataclass(frozen=True)
class _Columns:
    """One value a row: ids, families, groups and TPM as text."""

    gene: list[str]
    family: list[str]
    group: list[str]
    tpm: list[str]
    species: list[str] | None


def import_empres(
    source: Path,
    folder: Path,
    *,
    table: Path | None = None,
    names: Mapping[str, str] | None = None,
    unit: str = "TPM",
) -> Imported:
    """Turn a folder of EMPRES's arrays into a data set whose build reads them.

    Parameters
    ----------
    source : Path
        Folder of the .npy files. Needed are gene, family, group_for_cross_validation and TPM, and
        the one-hot arrays or ``table``; each group of vectors of which both regions are there is
        declared.
    folder : Path
        To write; must hold no data set yet.
    table : Path, optional
        PhytoExpr's data.csv: tells species, and sequences where the one-hot arrays are not there.
        Where they are, each sequence is held against its row of the table.
    names : mapping of species code to name, optional
    unit : str
        Of TPM.npy.

    Raises
    ------
    InputError
        If an array is missing, holds Python objects, or does not agree with the others.
    """
    columns = _columns(source)
    _check_unit(columns.tpm, unit, source)
    regions = regions_for(4000, 1000)
    one_hot = _one_hot(source, regions, len(columns.gene))
    groups = [g for g in GROUPS if has_group(source, g, len(columns.gene))]
    origin: dict[str, str] = {}
    placed: list[tuple[str, str, str, int]] = []
    with SpeciesTables(folder, regions, unit) as tables:
        if table is not None:
            rows = _from_table(table, columns, one_hot, tables, regions)
        elif one_hot is not None:
            rows = _from_arrays(columns, one_hot, source)
        else:
            raise InputError(
                f"{source}: no tss_OHE.npy and tts_OHE.npy, so there are no sequences; fetch them (fs fetch "
                "empres --only '*_OHE.npy'), or give PhytoExpr's data.csv as --table"
            )
        for at, code, row in rows:
            name, how = _named(code, names or {})
            origin[name] = how
            tables.add(name, row)
            placed.append((name, clean(row.gene), clean(row.transcript), at))
    indices = write_indices(folder, source, groups, placed)
    notes = _notes(columns, groups, origin, tables, table is not None)
    comments = [f"{RECORD}, written by fs import empres from {source.name}.", *notes]
    path = write_dataset(folder, tables, comments=comments, origin=origin, embedders=indices)
    return Imported(path, dict(tables.genes), tables.dropped, notes)


def _named(code: str, names: Mapping[str, str]) -> tuple[str, str]:
    if code == NO_SPECIES and code not in names:
        return NO_SPECIES, "no array tells the species; --table data.csv does"
    return species_name(code, names)


def _columns(source: Path) -> _Columns:
    if not source.is_dir():
        raise InputError(f"{source}: no folder; give that of the .npy files")
    arrays = {name: mapped_array(source / f"{name}.npy") for name in _COLUMNS}
    if (source / "species.npy").exists():
        arrays["species"] = mapped_array(source / "species.npy")
    shapes = {name: array.shape for name, array in arrays.items()}
    flat = {name: np.asarray(array).reshape(-1) for name, array in arrays.items()}
    if len({len(values) for values in flat.values()}) > 1:
        raise InputError(f"{source}: its arrays differ in length: {shapes}")
    texts = {name: _texts(values, source / f"{name}.npy") for name, values in flat.items()}
    return _Columns(
        texts["gene"], texts["family"], texts["group_for_cross_validation"], texts["TPM"],
        texts.get("species"),
    )  # fmt: skip


def _texts(values: NDArray[Any], path: Path) -> list[str]:
    """Values as text: whole numbers without a point, missing ones empty."""
    if values.dtype.kind == "f":
        known = np.isfinite(values)
        return [
            "" if not k else str(int(v)) if v == int(v) else repr(float(v))
            for v, k in zip(values.tolist(), known.tolist(), strict=True)
        ]
    if values.dtype.kind == "S":
        return [_present(v.decode("utf-8", "replace")) for v in values.tolist()]
    if values.dtype.kind in "iuU":
        return [_present(str(v)) for v in values.tolist()]
    raise InputError(f"{path}: holds {values.dtype}, where text or numbers belong")


def _present(text: str) -> str:
    text = text.strip()
    return "" if text in MISSING else text


def _check_unit(tpm: Sequence[str], unit: str, source: Path) -> None:
    try:
        known = np.array([float(v) for v in tpm if v])
    except ValueError as error:
        raise InputError(f"{source / 'TPM.npy'}: {error}") from error
    if not known.size:
        raise InputError(f"{source / 'TPM.npy'}: no value in it")
    if unit == "TPM" and (known.min() < 0 or known.max() <= _LARGEST_LOG):
        raise InputError(
            f"{source / 'TPM.npy'}: values from {known.min():g} to {known.max():g}, which look like logarithms "
            "and not like TPM. If they are, give --unit 'log10(1+TPM)'"
        )


def _one_hot(
    source: Path, regions: Sequence[Region], count: int
) -> dict[str, NDArray[np.uint8]] | None:
    paths = {r.name: source / f"{SIDES[r.name]}_OHE.npy" for r in regions}
    there = [path for path in paths.values() if path.exists()]
    if not there:
        return None
    if len(there) < len(paths):
        raise InputError(f"{source}: {there[0].name} without its other side; fetch both")
    found = {}
    for region in regions:
        array = mapped_array(paths[region.name])
        wanted = (count, 4, region.length)
        if array.shape != wanted or array.dtype.kind not in "ui":
            raise InputError(
                f"{paths[region.name]}: shape {array.shape} of {array.dtype}; {wanted} of uint8 expected"
            )
        found[region.name] = array
    return found


def letters(one_hot: NDArray[np.uint8]) -> list[str]:
    """Sequences of one-hot rows, shape (n, 4, length), channels A C G T; a position without any is N.

    Raises
    ------
    ValueError
        For a number that is neither 0 nor 1.
    """
    rows = np.asarray(one_hot)
    if rows.size and rows.max() > 1:
        raise ValueError(f"a value of {int(rows.max())}")
    sets = np.tensordot(np.array([1, 2, 4, 8], np.uint8), rows.astype(np.uint8), axes=(0, 1))
    return [row.tobytes().decode() for row in _LETTER[sets]]


def _sequences(
    one_hot: Mapping[str, NDArray[np.uint8]], first: int, last: int, source: Path
) -> list[list[str]]:
    """Sequences by region of rows ``first`` … ``last`` − 1."""
    try:
        return [letters(array[first:last]) for array in one_hot.values()]
    except ValueError as error:
        raise InputError(f"{source}: the one-hot arrays hold {error} between rows {first} and {last}") from error  # fmt: skip


def _from_arrays(
    columns: _Columns, one_hot: Mapping[str, NDArray[np.uint8]], source: Path
) -> Iterator[tuple[int, str, Row]]:
    """Rows in the order of the arrays, a few hundred in memory at a time."""
    count = len(columns.gene)
    codes = columns.species or [NO_SPECIES] * count
    _must_be_unique(columns, codes, source)
    for first in range(0, count, _AT_ONCE):
        last = min(first + _AT_ONCE, count)
        parts = _sequences(one_hot, first, last, source)
        for i in range(first, last):
            sequence = [part[i - first] for part in parts]
            yield i, codes[i], _row(columns, i, "", sequence)


def _row(columns: _Columns, i: int, transcript: str, sequence: Sequence[str]) -> Row:
    return Row(
        columns.gene[i], transcript, sequence, columns.family[i], columns.group[i], columns.tpm[i]
    )


def _must_be_unique(columns: _Columns, codes: Sequence[str], source: Path) -> None:
    count = Counter(zip(codes, map(clean, columns.gene), strict=True))
    if twice := [gene for (_, gene), times in count.items() if times > 1 or not gene]:
        raise InputError(
            f"{source / 'gene.npy'}: {len(twice):,} ids stand for several rows, e.g. {twice[0]!r}; give "
            "PhytoExpr's data.csv as --table, which tells their species and transcripts"
        )


def _from_table(
    table: Path,
    columns: _Columns,
    one_hot: Mapping[str, NDArray[np.uint8]] | None,
    tables: SpeciesTables,
    regions: Sequence[Region],
) -> Iterator[tuple[int, str, Row]]:
    """Rows in the order of data.csv, each with its row of the arrays."""
    by_gene = {gene: i for i, gene in enumerate(columns.gene)}
    unique = len(by_gene) == len(columns.gene)
    seen = np.zeros(len(columns.gene), bool)
    for number, entry in enumerate(entries(table, tables)):
        at = by_gene.get(entry.gene) if unique else number
        if at is None:
            tables.drop(entry.line, entry.code, entry.gene, "not in gene.npy")
            continue
        if at >= len(seen) or columns.gene[at] != entry.gene:
            raise InputError(
                f"{table}, line {entry.line}: {entry.gene}, where gene.npy has "
                f"{columns.gene[at] if at < len(seen) else 'no more rows'}: ids stand for several rows there, "
                "so they are told apart by their order, and the table is in another one"
            )
        if seen[at]:
            raise InputError(
                f"{table}, line {entry.line}: {entry.gene} stands in the table twice and in gene.npy once"
            )
        seen[at] = True
        own = row_of(entry, regions)
        if one_hot is not None:
            _same_sequence(own.sequence, one_hot, at, table, entry.line)
        yield at, entry.code, _row(columns, at, entry.transcript, own.sequence)
    if not seen.all():
        lost = np.flatnonzero(~seen)
        raise InputError(
            f"{table}: {len(lost):,} of {len(seen):,} rows of gene.npy are not in it, e.g. "
            f"{columns.gene[int(lost[0])]}; is it the table that the arrays were made of?"
        )


def _same_sequence(
    sequence: Sequence[str],
    one_hot: Mapping[str, NDArray[np.uint8]],
    at: int,
    table: Path,
    line: int,
) -> None:
    """Hold a row of the one-hot arrays against the table; a mirrored window must not pass."""
    for text, (region, array) in zip(sequence, one_hot.items(), strict=True):
        stored = np.asarray(array[at])
        code = iupac.encode(text.encode())
        wanted = iupac.ONE_HOT[code].T
        known = code < iupac.N
        if not np.array_equal(stored[:, known], wanted[:, known]):
            raise InputError(
                f"{table}, line {line}: the {region} of row {at} of the one-hot arrays is not −4,000 … +1,000 of "
                "it: the arrays are of other windows (the code of EMPRES's first version mirrored them) or "
                "of another table"
            )


def _notes(
    columns: _Columns,
    groups: Sequence[Group],
    origin: Mapping[str, str],
    tables: SpeciesTables,
    with_table: bool,
) -> list[str]:
    notes = [
        "The windows are taken to be those that EMPRES documents, -4000 ... +1000 of the TSS and -1000 ... +4000 "
        "of the TTS; its first version computed mirrored ones, and the vectors do not tell which they are of."
    ]
    if absent := [group.name for group in GROUPS if group not in groups]:
        notes.append(f"No arrays of {', '.join(absent)}: not declared.")
    if NO_SPECIES in origin and not with_table:
        notes.append(
            "No array tells the species: all genes stand under one name, so scores within species and marks of "
            "pre-training cannot be told apart. PhytoExpr's data.csv as --table tells them."
        )
    if inferred := sum("inferred" in how for how in origin.values()):
        notes.append(f"The names of {inferred} species are inferred from their codes.")
    groups_ = sorted({group for group in columns.group if group})
    notes.append(f"Groups for cross-validation: {', '.join(groups_[:8])}.")
    return notes + tables.dropped.told()
