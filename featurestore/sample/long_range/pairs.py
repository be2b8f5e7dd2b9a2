"""Pairs of a gene and an element near it, with what deleting the element does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from featurestore.sample.assembly import PlacedGene
from featurestore.sample.long_range.genome import PlacedElement, World
from featurestore.sample.long_range.grammar import Scores
from featurestore.sample.long_range.settings import ELEMENT, NEAREST, PAIRED
from featurestore.sequence.iupac import N

SIGNIFICANT = 0.05
"""Least |effect| of a pair that counts as one."""


@dataclass(frozen=True)
class Pair:
    """``effect`` is the fraction by which expression changes when the element is deleted.

    ``distance`` in bp from the TSS to the element's middle; ``contribution`` as in the grammar.
    """

    gene: PlacedGene
    element: PlacedElement
    distance: int
    contribution: float
    effect: float

    @property
    def significant(self) -> bool:
        """Whether the effect is at least 5 %."""
        return abs(self.effect) >= SIGNIFICANT


def draw_pairs(world: World, scores: list[Scores]) -> Iterator[Pair]:
    """Every element of either kind at 5 to 100 kb from each TSS; elements are replaced by N."""
    deleted = np.full(ELEMENT, N, np.uint8)
    for contig, (landscape, before) in enumerate(zip(world.landscapes, scores, strict=True)):
        genes, elements = world.genes_of(contig), world.elements_of(contig)
        distance = np.abs(landscape.tss[:, None] - landscape.start[None, :] - ELEMENT // 2)
        effects = np.zeros(distance.shape)
        for column, element in enumerate(elements):
            after = landscape.edited(before, element.start, deleted)
            effects[:, column] = after.expression / before.expression - 1
        near = (distance >= NEAREST) & (distance <= PAIRED)
        for row, column in zip(*np.nonzero(near), strict=True):
            yield Pair(
                genes[row],
                elements[column],
                int(distance[row, column]),
                float(before.contribution[row, column]),
                float(effects[row, column]),
            )
