"""Windows of the reference and of alleles, of all shifts and strands of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.score.genome import Bases
from featurestore.sequence.edits import Edit, cut_edited
from featurestore.sequence.iupac import reverse_complement

Codes = NDArray[np.uint8]


class Pass(NamedTuple):
    """One of the readings of a window that are averaged."""

    shift: int
    reverse: bool


class Place(NamedTuple):
    """Where a window lies: centred on a boundary of a contig, oriented to a strand."""

    contig: str
    centre: int
    strand: int


def passes_of(shifts: Sequence[int], *, rc: bool) -> list[Pass]:
    """All readings of a window."""
    return [
        Pass(shift, reverse) for shift in shifts for reverse in ((False, True) if rc else (False,))
    ]


def read_window(
    bases: Bases, place: Place, length: int, one: Pass, edit: Edit | None = None,
    anchor: int | None = None,
) -> Codes:  # fmt: skip
    """Codes of one window, shape (length,), N beyond the contig.

    Parameters
    ----------
    edit : Edit, optional
        The allele; none for the reference.
    anchor : int, optional
        Boundary that stays where it is while bases shift away from it; the centre unless told.
        No edit spans it.
    """
    half = length // 2
    low = place.centre - half + (one.shift if place.strand >= 0 else -one.shift)
    spare = 0 if edit is None else max(-edit.gain, 0)
    start, stop = low - spare, low + length + spare
    if edit is None:
        codes = bases.cut(place.contig, start, stop)
        if place.strand < 0:
            codes = reverse_complement(codes)
    else:
        # What the edit needs of the contig, also where the window does not hold its anchor.
        held = place.centre if anchor is None else anchor
        start, stop = min(start, edit.low, held), max(stop, edit.high, held)
        local = bases.cut(place.contig, start, stop)
        moved = edit._replace(low=edit.low - start, high=edit.high - start)
        left, right = held - low, low + length - held
        arms = (left, right) if place.strand >= 0 else (right, left)
        codes = cut_edited(local, [moved], held - start, place.strand, *arms)
    return reverse_complement(codes) if one.reverse else codes
