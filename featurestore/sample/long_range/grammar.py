"""The rule of the long-range world: genome in, noise-free expression of every gene out.

::

    expression   = promoter · (1 + Σ_elements contribution)
    promoter     = 2 ^ (base + 3 · core + 0.8 · Σ_sites occupancy of the activator)
    contribution = strength · exp(−distance / 25 kb) · (0.25 + 0.75 · facing)
    strength     = (Σ_sites occupancy of the activator)²
    facing       = ½ + ½ · side · clip(Σ occupancy of the direction motif + − Σ on −, −1, 1)

``side`` is 1 for a TSS right of the element's middle and −1 for one left of it, so that a whole
direction motif gives 1 towards where it reads and 0.25 the other way, and none gives 0.625 both
ways. A contribution is nothing below 5 kb and above 80 kb. Sites act within known elements and
promoters only; the decoys are elements by the same rule, without sites of the activator.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from featurestore.sample.long_range.motifs import (
    ACTIVATOR,
    CORE,
    DIRECTION,
    LENGTH,
    MISMATCHES,
    MOTIFS,
    OPENER,
    WEAKER,
    occupancies,
)
from featurestore.sample.long_range.settings import DECAY, ELEMENT, FARTHEST, NEAREST, PROMOTER
from featurestore.sequence.iupac import N, reverse_complement

Codes = NDArray[np.uint8]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CORE_START = -30
"""Start of the core motif in bp from the TSS, transcript orientation."""

FORMULA = (
    "expression = promoter * (1 + sum of contributions over elements)",
    "promoter = 2 ** (base + core * core_occupancy + per_site * sum of occupancies of the activator)",
    "contribution = strength * exp(-distance / decay) * (away + (1 - away) * facing)",
    "strength = enhancer * (sum of occupancies of the activator) ** 2",
    "facing = 0.5 + 0.5 * side * clip(direction occupancies on + minus those on -, -1, 1)",
)
"""The rule as ``truth/grammar.json`` has it."""

UPSTREAM = (-290, -40)
"""Span of bp from the TSS in which the activator acts on a promoter, half-open."""


@dataclass(frozen=True)
class ElementState:
    """What the bases of elements say; each array of shape (element,).

    ``activators``, ``openers`` are summed occupancies; ``strength`` multiplies the decay;
    ``direction`` is 1 for an element that points right, −1 left, 0 nowhere.
    """

    activators: Floats
    openers: Floats
    strength: Floats
    direction: Floats


@dataclass(frozen=True)
class PromoterState:
    """``sites``: summed occupancy of the activators; ``strength``: linear; shape (gene,)."""

    sites: Floats
    strength: Floats


State = TypeVar("State", ElementState, PromoterState)


@dataclass(frozen=True)
class Scores:
    """Expression of the genes of a contig and what makes it.

    Parameters
    ----------
    promoter : PromoterState
    elements : ElementState
    contribution : float64 array, shape (gene, element)
    expression : float64 array, shape (gene,)
        Linear, arbitrary units.
    """

    promoter: PromoterState
    elements: ElementState
    contribution: Floats
    expression: Floats


@dataclass(frozen=True)
class Grammar:
    """The rule and its constants, the same for every seed."""

    base: float = -3.0
    core: float = 3.0
    per_site: float = 0.8
    enhancer: float = 1.0
    away: float = 0.25

    def promoters(self, windows: Codes) -> PromoterState:
        """Strength of promoters.

        Parameters
        ----------
        windows : uint8 array, shape (gene, 400)
            TSS −300 … +100 in transcript orientation.
        """
        tss = PROMOTER[0]
        at = tss + CORE_START
        core = occupancies(windows[:, at : at + LENGTH], CORE)[0][:, 0]
        span = windows[:, tss + UPSTREAM[0] : tss + UPSTREAM[1]]
        sites = np.asarray(sum(side.sum(axis=1) for side in occupancies(span, ACTIVATOR)))
        return PromoterState(sites, 2.0 ** (self.base + self.core * core + self.per_site * sites))

    def elements(self, windows: Codes) -> ElementState:
        """State of elements of bases of shape (element, 300), forward strand."""
        activators = sum(side.sum(axis=1) for side in occupancies(windows, ACTIVATOR))
        openers = sum(side.sum(axis=1) for side in occupancies(windows, OPENER))
        right, left = (side.sum(axis=1) for side in occupancies(windows, DIRECTION))
        direction = np.clip(right - left, -1.0, 1.0)
        strength = self.enhancer * np.square(activators)
        return ElementState(np.asarray(activators), np.asarray(openers), strength, direction)

    def contributions(self, tss: Ints, start: Ints, state: ElementState) -> Floats:
        """What each element adds to each gene, shape (gene, element).

        Parameters
        ----------
        tss : int64 array, shape (gene,)
            Boundaries on the forward strand.
        start : int64 array, shape (element,)
            First base of each element, 0-based.
        """
        signed = tss[:, None] - (start[None, :] + ELEMENT // 2)
        distance = np.abs(signed)
        reach = (distance >= NEAREST) & (distance <= FARTHEST)
        facing = 0.5 + 0.5 * np.sign(signed) * state.direction
        weight = self.away + (1 - self.away) * facing
        return np.where(reach, state.strength * np.exp(-distance / DECAY) * weight, 0.0)

    def describe(self) -> dict[str, Any]:
        """All constants as plain JSON types."""
        return {
            "formula": FORMULA,
            **self.__dict__,
            "motifs": MOTIFS,
            "site": {"length": LENGTH, "most_mismatches": MISMATCHES, "per_mismatch": WEAKER},
            "core_start": CORE_START,
            "promoter_span": UPSTREAM,
            "element_length": ELEMENT,
            "nearest": NEAREST,
            "farthest": FARTHEST,
            "decay": DECAY,
        }


@dataclass(frozen=True)
class Landscape:
    """A contig as the grammar sees it, with any edit of its bases.

    Parameters
    ----------
    grammar : Grammar
    code : uint8 array, shape (base,)
    tss, strand : int64 arrays, shape (gene,)
    start : int64 array, shape (element,)
    """

    grammar: Grammar
    code: Codes
    tss: Ints
    strand: Ints
    start: Ints

    def score(self, code: Codes | None = None) -> Scores:
        """Score the contig, or another sequence in its place (same coordinates)."""
        code = self.code if code is None else code
        promoters = self.grammar.promoters(self._promoters(code, np.arange(self.tss.size)))
        elements = self.grammar.elements(self._elements(code, np.arange(self.start.size)))
        return self._scores(promoters, elements)

    def edited(self, reference: Scores, position: int, bases: Codes) -> Scores:
        """Score with ``bases`` written over the contig from ``position`` on.

        Only elements and promoters that the edit touches are read again; ``reference`` is what
        :meth:`score` gave.
        """
        low, high = position, position + len(bases)
        touched = np.flatnonzero((self.start < high) & (self.start + ELEMENT > low))
        reach = max(PROMOTER)
        genes = np.flatnonzero((self.tss - reach < high) & (self.tss + reach > low))
        promoters, elements = reference.promoter, reference.elements
        first, last = max(low - 1_000, 0), min(high + 1_000, self.code.size)
        patch = self.code[first:last].copy()
        patch[low - first : high - first] = bases
        if touched.size:
            new = self.grammar.elements(_cut(patch, self.start[touched] - first, ELEMENT))
            elements = _replaced(elements, touched, new)
        if genes.size:
            windows = self._promoters(patch, genes, first)
            promoters = _replaced(promoters, genes, self.grammar.promoters(windows))
        return self._scores(promoters, elements)

    def _scores(self, promoters: PromoterState, elements: ElementState) -> Scores:
        contribution = self.grammar.contributions(self.tss, self.start, elements)
        expression = promoters.strength * (1 + contribution.sum(axis=1))
        return Scores(promoters, elements, contribution, expression)

    def _promoters(self, code: Codes, genes: NDArray[np.intp], offset: int = 0) -> Codes:
        before, after = PROMOTER
        windows = np.empty((genes.size, before + after), np.uint8)
        for row, gene in enumerate(genes.tolist()):
            low, high = (before, after) if self.strand[gene] == 1 else (after, before)
            at = np.array([self.tss[gene] - offset - low])
            window = _cut(code, at, low + high)[0]
            windows[row] = window if self.strand[gene] == 1 else reverse_complement(window)
        return windows

    def _elements(self, code: Codes, which: NDArray[np.intp]) -> Codes:
        return _cut(code, self.start[which], ELEMENT)


def _cut(code: Codes, start: Ints, length: int) -> Codes:
    """Windows of a contig, shape (start, length); what lies off it is N."""
    at = start[:, None] + np.arange(length)
    inside = (at >= 0) & (at < code.size)
    return np.where(inside, code[np.clip(at, 0, code.size - 1)], N).astype(np.uint8)


def _replaced(state: State, at: NDArray[np.intp], new: State) -> State:
    """A copy of a state with the rows ``at`` taken from ``new``."""
    fields = {}
    for name, values in state.__dict__.items():
        fields[name] = values.copy()
        fields[name][at] = getattr(new, name)
    return type(state)(**fields)
