"""Genotype columns of one VCF record as arrays: which alleles each line carries.

The columns are split by numpy on their bytes, so that hundreds of lines cost a record no more
than a few microseconds; only a cell that is not one or two one-digit alleles is read on its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

REFERENCE: Final = 0
MISSING: Final = 255
"""An allele that was not called (``.``)."""

MOST_ALLELES: Final = 250
"""More alternative alleles than this in one record are not told apart."""

_TAB, _COLON, _END = 9, 58, 0
_OTHER: Final = 254
_PAD: Final = 4

_ALLELE: Final = np.full(256, _OTHER, np.uint8)
"""Allele that one byte stands for; :data:`_OTHER` where it stands for none."""
_ALLELE[ord(".")] = MISSING
_ALLELE[ord("0") : ord("9") + 1] = np.arange(10)
_ENDS: Final = np.isin(np.arange(256), [_TAB, _COLON, _END])
_SEPARATES: Final = np.isin(np.arange(256), [ord("/"), ord("|")])


@dataclass(frozen=True)
class Genotypes:
    """Alleles of all lines at one record.

    Parameters
    ----------
    first, second : uint8 arrays, shape (line,)
        0 the reference, 1 … the alternatives in the order of ALT, :data:`MISSING`. A haploid
        call has the same allele twice.
    phased : bool array, shape (line,)
    polyploid : list of int
        Lines with more than two alleles; they stand as missing.
    """

    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    phased: NDArray[np.bool_]
    polyploid: list[int]


class BadGenotypeError(ValueError):
    """A genotype column that is no genotype; the message shows the values."""


def read_genotypes(columns: bytes, lines: int, place: int, alleles: int) -> Genotypes:
    """Genotypes of one record (VCF 4.3, section 1.6.2, key GT).

    Parameters
    ----------
    columns : bytes
        Everything after FORMAT, separated by tabs, without the line end.
    lines : int
        Columns that must be there.
    place : int
        Position of GT among the keys of FORMAT.
    alleles : int
        Alternative alleles of the record.

    Raises
    ------
    BadGenotypeError
    """
    text = np.frombuffer(columns + bytes(_PAD), np.uint8)
    tabs = np.flatnonzero(text == _TAB)
    if len(tabs) + 1 != lines:
        raise BadGenotypeError(
            f"{len(tabs) + 1:,} genotype columns where the header names {lines:,}"
        )
    start = np.zeros(lines, np.int64)
    start[1:] = tabs + 1
    if place:
        start = _after_colons(text, start, np.append(tabs, len(columns)), place)
    one, mark, two = _ALLELE[text[start]], text[start + 1], _ALLELE[text[start + 2]]
    haploid = (one != _OTHER) & _ENDS[mark]
    diploid = (one != _OTHER) & (two != _OTHER) & _SEPARATES[mark] & _ENDS[text[start + 3]]
    first = np.where(one == _OTHER, MISSING, one).astype(np.uint8)
    second = np.where(diploid, two, first).astype(np.uint8)
    phased = mark != ord("/")
    polyploid: list[int] = []
    for i in np.flatnonzero(~(haploid | diploid)).tolist():
        cell = columns[start[i] :].split(b"\t", 1)[0].split(b":", 1)[0]
        found, phased[i] = _one_cell(cell)
        if len(found) > 2:
            polyploid.append(i)
            found = [MISSING]
        first[i], second[i] = found[0], found[-1]
    highest = max(_highest(first), _highest(second))
    if highest > alleles:
        raise BadGenotypeError(f"allele {highest} where ALT names {alleles}")
    return Genotypes(first, second, phased, polyploid)


def _after_colons(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], place: int
) -> NDArray[np.int64]:
    """Start of the key at ``place`` in each column; its end where trailing keys are left out."""
    colons = np.append(np.flatnonzero(text == _COLON), np.full(place, len(text)))
    wanted = colons[np.searchsorted(colons, start) + place - 1]
    return np.where(wanted < end, wanted + 1, end)


def _highest(alleles: NDArray[np.uint8]) -> int:
    highest = int(alleles.max(initial=0))
    if highest < MISSING:
        return highest
    return int(alleles[alleles != MISSING].max(initial=0))


def _one_cell(cell: bytes) -> tuple[list[int], bool]:
    """Alleles of one cell, and whether they are phased; an empty one is missing."""
    if not cell:
        return [MISSING], False
    parts = re.split(rb"[/|]", cell.lstrip(b"/|"))
    if not all(p == b"." or (p.isdigit() and len(p) < 4 and int(p) <= MOST_ALLELES) for p in parts):
        raise BadGenotypeError(f"{cell[:20].decode('latin-1')!r} is no genotype")
    return [MISSING if p == b"." else int(p) for p in parts], b"/" not in cell
