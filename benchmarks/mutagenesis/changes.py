"""Which single-base changes there are: spans of regions, positions, bases."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name
from featurestore.inputs.model import Region

BASES: Final = 4
"""Codes 0 … 3 are A, C, G, T; higher ones are ambiguous."""

_SPAN: Final = re.compile(r"(?P<region>[\w-]+?)(?::(?P<start>-?\d+)(?:-|\.\.|:)(?P<end>-?\d+))?")


@dataclass(frozen=True)
class Span:
    """Part of a region: ``start`` … ``end`` in bp from the anchor, half-open; None the whole."""

    region: str
    start: int | None = None
    end: int | None = None

    def bounds(self, regions: Sequence[Region]) -> tuple[int, int, int]:
        """Index of the region, and first and one past the last position in it (0 most upstream).

        Raises
        ------
        InputError
            If there is no such region, or the span lies outside it.
        """
        names = [region.name for region in regions]
        if self.region not in names:
            raise unknown_name("region", self.region, names)
        index = names.index(self.region)
        one = regions[index]
        low = 0 if self.start is None else self.start + one.upstream
        high = one.length if self.end is None else self.end + one.upstream
        if not 0 <= low < high <= one.length:
            raise InputError(
                f"--mutate {self.region}:{self.start}-{self.end}: the region reaches from {-one.upstream} "
                f"to {one.downstream} (bp from its {one.anchor.upper()}, the end not included)"
            )
        return index, low, high


def parse_span(text: str) -> Span:
    """``REGION`` or ``REGION:START-END``, bp from the anchor, the end not included.

    Raises
    ------
    InputError
    """
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        raise InputError(
            f"--mutate {text!r}: write REGION or REGION:START-END in bp from the anchor, such as "
            "promoter:-200-50"
        )
    if match["start"] is None:
        return Span(match["region"])
    return Span(match["region"], int(match["start"]), int(match["end"]))


@dataclass(frozen=True)
class Changes:
    """Single-base changes of one gene or element; arrays of shape (change,).

    ``region`` index, ``position`` in the region (0 most upstream), ``ref`` and ``alt`` codes, all in
    transcript orientation. ``skipped`` counts positions where the reference is no single base.
    """

    region: NDArray[np.int64]
    position: NDArray[np.int64]
    ref: NDArray[np.uint8]
    alt: NDArray[np.uint8]
    skipped: int = 0

    def __len__(self) -> int:
        return len(self.position)

    def part(self, start: int, stop: int) -> Changes:
        """Some of them, in order."""
        here = slice(start, stop)
        return Changes(self.region[here], self.position[here], self.ref[here], self.alt[here])


def single_base_changes(
    codes: NDArray[np.uint8], length: NDArray[np.int32], bounds: Sequence[tuple[int, int, int]]
) -> Changes:
    """Every change of a base to one of the three others.

    Parameters
    ----------
    codes : uint8 array, shape (region, position)
        Of one gene, transcript orientation.
    length : int32 array, shape (region,)
        Bases that the gene has of each region.
    bounds : sequence of (region, first, one past the last)
        From :meth:`Span.bounds`.

    Returns
    -------
    Changes
        In order of region and position as asked for, then of alternative base; an ambiguous base
        (IUPAC, N) is no reference that could be changed, and is counted as skipped.
    """
    region, position = [], []
    for index, low, high in bounds:
        found = np.arange(low, min(high, int(length[index])), dtype=np.int64)
        region.append(np.full(len(found), index, np.int64))
        position.append(found)
    regions = np.concatenate(region) if region else np.zeros(0, np.int64)
    positions = np.concatenate(position) if position else np.zeros(0, np.int64)
    ref = codes[regions, positions]
    plain = ref < BASES
    regions = np.repeat(regions[plain], BASES - 1)
    positions = np.repeat(positions[plain], BASES - 1)
    ref = np.repeat(ref[plain], BASES - 1)
    step = np.tile(np.arange(1, BASES, dtype=np.uint8), len(ref) // (BASES - 1))
    # The three others in the order A, C, G, T.
    alt = step - (step <= ref).astype(np.uint8)
    return Changes(regions, positions, ref, alt, int((~plain).sum()))
