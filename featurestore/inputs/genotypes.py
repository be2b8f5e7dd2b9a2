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

_TAB, _COLON, _SLASH, _PIPE, _DOT, _ZERO, _NINE = b"\t:/|.09"
_PAD: Final = 3


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


def read_genotypes(columns: bytes, lines: int, place: int, alone: bool, alleles: int) -> Genotypes:
    """Genotypes of one record (VCF 4.3, section 1.6.2, key GT).

    Parameters
    ----------
    columns : bytes
        Everything after FORMAT, separated by tabs, without the line end.
    lines : int
        Columns that must be there.
    place : int
        Position of GT among the keys of FORMAT.
    alone : bool
        FORMAT is ``GT`` and nothing else.
    alleles : int
        Alternative alleles of the record.

    Raises
    ------
    BadGenotypeError
    """
    text = np.frombuffer(columns, np.uint8)
    tabs = np.flatnonzero(text == _TAB)
    start, end = np.append(0, tabs + 1), np.append(tabs, len(text))
    if len(start) != lines:
        raise BadGenotypeError(f"{len(start):,} genotype columns where the header names {lines:,}")
    if not alone:
        start, end = _fields(text, start, end, place)
    padded = np.append(text, np.zeros(_PAD, np.uint8))
    width = end - start
    one, mark, two = padded[start], padded[start + 1], padded[start + 2]
    haploid = (width == 1) & _is_allele(one)
    diploid = (width == 3) & _is_allele(one) & _is_allele(two)
    diploid &= (mark == _SLASH) | (mark == _PIPE)
    first = np.where(haploid | diploid, _allele(one), MISSING).astype(np.uint8)
    second = np.where(diploid, _allele(two), first).astype(np.uint8)
    phased = haploid | (mark == _PIPE)
    polyploid: list[int] = []
    for i in np.flatnonzero(~(haploid | diploid) & (width > 0)).tolist():
        found = _one_cell(columns[start[i] : end[i]])
        if len(found[0]) > 2:
            polyploid.append(i)
            continue
        first[i], second[i], phased[i] = found[0][0], found[0][-1], found[1]
    highest = max(_highest(first), _highest(second))
    if highest > alleles:
        raise BadGenotypeError(f"allele {highest} where ALT names {alleles}")
    return Genotypes(first, second, phased, polyploid)


def _fields(
    text: NDArray[np.uint8], start: NDArray[np.int64], end: NDArray[np.int64], place: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Start and end of the key at ``place`` in each column; empty where trailing keys are left out."""
    colons = np.append(np.flatnonzero(text == _COLON), np.full(place + 1, len(text)))
    at = np.searchsorted(colons, start)
    begin = np.minimum(colons[at + place - 1] + 1, end) if place else start
    return begin, np.maximum(np.minimum(colons[at + place], end), begin)


def _is_allele(letter: NDArray[np.uint8]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = ((letter >= _ZERO) & (letter <= _NINE)) | (letter == _DOT)
    return found


def _allele(letter: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(letter == _DOT, MISSING, letter - np.uint8(_ZERO)).astype(np.uint8)


def _highest(alleles: NDArray[np.uint8]) -> int:
    called = alleles[alleles != MISSING]
    return int(called.max()) if len(called) else 0


def _one_cell(cell: bytes) -> tuple[list[int], bool]:
    """Alleles of one cell, and whether they are phased."""
    parts = re.split(rb"[/|]", cell.lstrip(b"/|"))
    if not all(p == b"." or (p.isdigit() and int(p) <= MOST_ALLELES) for p in parts):
        raise BadGenotypeError(f"{cell[:20].decode('latin-1')!r} is no genotype")
    return [MISSING if p == b"." else int(p) for p in parts], b"/" not in cell
