"""Windows laid over stretches of a genome, side by side by their target bins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError


class Span(NamedTuple):
    """Bins of a contig, half-open; ``stretch`` is the row of the stretch under test, or −1."""

    species: str
    contig: str
    start: int
    end: int
    stretch: int = -1


@dataclass(frozen=True)
class Layout:
    """Length of windows.

    Parameters
    ----------
    window : int
        Bases that a learner sees.
    bin_bp : int
    bins : int
        Bins in the middle of the window that have a signal.
    """

    window: int
    bin_bp: int
    bins: int

    @property
    def margin(self) -> int:
        """Bins on either side that have none."""
        return (self.window // self.bin_bp - self.bins) // 2


def layout_of(window: int, bin_bp: int) -> Layout:
    """Windows as Enformer has them: 320 of 1,536 bins on either side are seen and not predicted.

    Raises
    ------
    InputError
        If the window is no multiple of the bin.
    """
    if bin_bp < 1 or window < bin_bp or window % bin_bp:
        raise InputError(f"--window {window:,}: give a multiple of the bin of {bin_bp} bp")
    bins = window // bin_bp
    return Layout(window, bin_bp, bins - 2 * round(320 * bins / 1536))


@dataclass(frozen=True)
class Tiles:
    """Windows, one a row.

    Parameters
    ----------
    layout : Layout
    species, contig : str arrays, shape (n,)
    first : int64 array, shape (n,)
        First target bin on the contig; negative where the window is wider than what it covers.
    low, high : int64 arrays, shape (n,)
        Target bins that this window stands for: no bin is learned from or scored twice.
    stretch : int64 array, shape (n,)
    """

    layout: Layout
    species: NDArray[np.str_]
    contig: NDArray[np.str_]
    first: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    stretch: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def start(self) -> NDArray[np.int64]:
        """First base of each window; negative where it begins before the contig."""
        return (self.first - self.layout.margin) * self.layout.bin_bp

    @property
    def names(self) -> NDArray[np.str_]:
        """``contig:start-end`` of each window, in bp."""
        ends = self.start + self.layout.window
        told = zip(self.contig.tolist(), self.start.tolist(), ends.tolist(), strict=True)
        return np.array([f"{c}:{low}-{high}" for c, low, high in told], np.str_)

    def take(self, rows: NDArray[np.int64]) -> Tiles:
        """Some windows."""
        return Tiles(
            self.layout, self.species[rows], self.contig[rows], self.first[rows], self.low[rows],
            self.high[rows], self.stretch[rows],
        )  # fmt: skip


def around(places: Sequence[tuple[Span, int]], layout: Layout, tilings: int = 1) -> Tiles:
    """Windows that hold given bins among their target bins, ``tilings`` of each.

    Parameters
    ----------
    places : sequence of (Span, int)
        A bin, and the span that it lies in: a window stands for bins of that span alone.
    layout : Layout
    tilings : int
        Windows of a bin, which stands at as many places of them, an equal part of the target bins
        apart; in the middle of one.
    """
    rows: list[_Row] = []
    for number in range(tilings):
        at = (2 * number + 1) * layout.bins // (2 * tilings)
        for span, place in places:
            first = place - at
            low, high = max(first, span.start), min(first + layout.bins, span.end)
            rows.append((span, first, low, high))
    return _tiles(rows, layout)


def tile(spans: Sequence[Span], layout: Layout, tilings: int = 1) -> Tiles:
    """Cover spans with windows: stride of the target bins, the last one moved back.

    A span shorter than the target bins lies in the middle of its one window.

    Parameters
    ----------
    spans : sequence of Span
    layout : Layout
    tilings : int
        Times that spans are covered, each time by windows moved on by an equal part of their target
        bins: a bin is then seen with so many surroundings, once in each tiling.
    """
    rows = _side_by_side(spans, layout)
    for number in range(1, tilings):
        rows += _moved(spans, layout, number * layout.bins // tilings)
    return _tiles(rows, layout)


_Row = tuple[Span, int, int, int]
"""Span, first target bin, and the bins that the window stands for."""


def _tiles(rows: Sequence[_Row], layout: Layout) -> Tiles:
    numbers = np.array([row[1:] for row in rows], np.int64).reshape(-1, 3)
    return Tiles(
        layout, np.array([row[0].species for row in rows], np.str_),
        np.array([row[0].contig for row in rows], np.str_), numbers[:, 0], numbers[:, 1],
        numbers[:, 2], np.array([row[0].stretch for row in rows], np.int64),
    )  # fmt: skip


def _side_by_side(spans: Sequence[Span], layout: Layout) -> list[_Row]:
    rows: list[_Row] = []
    for span in spans:
        n = span.end - span.start
        if n <= layout.bins:
            middle = span.start - (layout.bins - n) // 2
            rows.append((span, middle, span.start, span.end))
            continue
        for low in range(span.start, span.end, layout.bins):
            first = min(low, span.end - layout.bins)
            rows.append((span, first, low, min(low + layout.bins, span.end)))
    return rows


def _moved(spans: Sequence[Span], layout: Layout, by: int) -> list[_Row]:
    """Windows of which the first stands for ``by`` bins; they may look past the ends of a span."""
    return [
        (span, first, max(first, span.start), min(first + layout.bins, span.end))
        for span in spans
        for first in range(span.start + by - layout.bins, span.end, layout.bins)
    ]
