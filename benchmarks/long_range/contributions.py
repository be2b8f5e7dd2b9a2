"""Contribution scores of genes: computed gene by gene, written on genome coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.long_range.attribution import (
    BASELINES,
    Attributed,
    attention,
    gradient_x_input,
    integrated_gradients,
)
from benchmarks.long_range.genes import Element, Gene, GeneWindows, near
from benchmarks.long_range.models import WindowModel, for_species
from benchmarks.long_range.responses import Replacement, Responses, gone, shuffled
from featurestore.errors import InputError, unknown_name
from featurestore.inputs.tally import Tally

METHODS: Final = ("gradient_x_input", "integrated_gradients", "attention", "ablation", "shuffle")
PER_BASE: Final = METHODS[:2]
OF_ELEMENTS: Final = METHODS[3:]

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """What is computed of each gene.

    Parameters
    ----------
    method : one of METHODS
    tracks, heads : sequence of str
        Those whose sum is explained; all tracks of the species' heads.
    baseline : {"zeros", "shuffled"}
        Of integrated gradients.
    steps : int
        Of integrated gradients.
    shuffles : int
        Of an element, or of the window as a baseline.
    seed : int

    Raises
    ------
    InputError
    """

    method: str = "gradient_x_input"
    tracks: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    baseline: str = "zeros"
    steps: int = 50
    shuffles: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown_name("method of contributions", self.method, METHODS)
        if self.baseline not in BASELINES:
            raise unknown_name("baseline", self.baseline, BASELINES)
        if self.steps < 2 or self.shuffles < 1:
            raise InputError(
                f"steps {self.steps}, shuffles {self.shuffles}: give from 2, and from 1"
            )

    def facts(self) -> dict[str, Any]:
        """As plain JSON types."""
        own: dict[str, Any] = {
            "method": self.method, "tracks": list(self.tracks), "heads": list(self.heads),
        }  # fmt: skip
        if self.method == "integrated_gradients":
            own |= {"baseline": self.baseline, "steps": self.steps}
        if self.method == "shuffle" or own.get("baseline") == "shuffled":
            own |= {"shuffles": self.shuffles, "seed": self.seed}
        return own


@dataclass(frozen=True)
class Contribution:
    """Contributions in the window of one gene.

    Parameters
    ----------
    gene : Gene
    output : float
        The response: sum over tracks of the mean of the bins at the TSS.
    bases : float32 array, shape (length,), or None
        In transcript orientation; None for attention and for elements.
    bins : float32 array, shape (input bins,), or None
        Mean of |contribution| over each bin; attention as it is.
    elements : list of (element, score)
        What each element of the window contributes (see :func:`of_elements`).
    gap, difference : float
        Difference of the responses that integrated gradients should add up to, and by how much they
        miss it; NaN otherwise.
    total : float
        Sum over bases; NaN where there are none.
    """

    gene: Gene
    output: float
    bases: Floats | None
    bins: Floats | None
    elements: list[tuple[Element, float]] = field(default_factory=list)
    gap: float = float("nan")
    difference: float = float("nan")
    total: float = float("nan")


def contributions(
    model: WindowModel, windows: GeneWindows, genes: Sequence[Gene], asked: Asked,
    elements: Sequence[Element] = (), tally: Tally | None = None,
    tell: Callable[[int, int], None] | None = None,
) -> Iterator[Contribution]:  # fmt: skip
    """Contributions of genes, one after another.

    Parameters
    ----------
    elements : sequence of Element
        Scored within the window of each gene; needed for ``ablation`` and ``shuffle``.
    tally : Tally, optional
        Counts what could not be scored.

    Raises
    ------
    InputError
    """
    if asked.method in OF_ELEMENTS and not elements:
        raise InputError(f"--method {asked.method} is of elements: give --elements BED")
    for number, gene in enumerate(genes, 1):
        own = for_species(model, gene.species, asked.tracks, asked.heads)
        inside = near(gene, elements, own.input_bp, tally)
        yield _of_gene(own, windows, gene, asked, inside)
        if tell:
            tell(number, len(genes))


def _of_gene(
    model: WindowModel, windows: GeneWindows, gene: Gene, asked: Asked, elements: list[Element]
) -> Contribution:
    if asked.method in OF_ELEMENTS:
        responses = Responses(model, windows, gene)
        scores = of_elements(responses, windows, elements, asked)
        output = float(responses.reference.sum())
        return Contribution(gene, output, None, None, list(zip(elements, scores, strict=True)))
    codes = windows.window(gene, model.input_bp)
    if asked.method == "attention":
        bins = attention(model, codes)
        output = float(Responses(model, windows, gene).reference.sum())
        found = [(e, mean_over(bins, gene, e, model.bin_bp)) for e in elements]
        return Contribution(gene, output, None, bins.astype(np.float32), found)
    one = by_base(model, codes, asked)
    bins = np.abs(one.bases).reshape(-1, model.bin_bp).mean(1).astype(np.float32)
    found = [(e, sum_over(one.bases, gene, e)) for e in elements]
    total = float(one.bases.sum(dtype=np.float64))
    return Contribution(gene, one.output, one.bases, bins, found, one.gap, one.difference, total)


def by_base(model: WindowModel, codes: NDArray[np.uint8], asked: Asked) -> Attributed:
    """Gradient × input or integrated gradients of one window."""
    if asked.method == "gradient_x_input":
        return gradient_x_input(model, codes)
    return integrated_gradients(
        model, codes, baseline=asked.baseline, steps=asked.steps, shuffles=asked.shuffles,
        seed=asked.seed,
    )  # fmt: skip


def of_elements(
    responses: Responses, windows: GeneWindows, elements: Sequence[Element], asked: Asked
) -> NDArray[np.float64]:
    """Response of the window less that without each element: positive where the element raises it.

    Without: its bases are N (``ablation``), or shuffled so that dinucleotides stay as many, the mean
    over several shuffles (``shuffle``).

    Returns
    -------
    float64 array, shape (elements,)
    """
    found = np.zeros(len(elements))
    reference = responses.reference.sum()
    for index, element in enumerate(elements):
        edits = [gone(element.start, element.end)]
        if asked.method == "shuffle":
            edits = shuffles_of(responses.gene, windows, element, asked)
        found[index] = reference - responses.replaced(edits).sum(axis=1).mean()
    return found


def shuffles_of(
    gene: Gene, windows: GeneWindows, element: Element, asked: Asked
) -> list[Replacement]:
    """Shuffled copies of an element as edits; the same for every gene."""
    length = element.end - element.start
    codes = windows.genome(gene.species).read(
        element.contig, element.start + length // 2, 1, length
    )
    seed = (asked.seed * 1_000_003 + element.start) % 2**31
    return [
        Replacement(element.start, element.end, row.tobytes())
        for row in shuffled(codes, asked.shuffles, seed)
    ]


def sum_over(bases: Floats, gene: Gene, element: Element) -> float:
    """Sum of the contributions of an element's bases."""
    low, high = gene.inside(element.start, element.end, len(bases))
    return float(bases[max(low, 0) : high].sum(dtype=np.float64))


def mean_over(
    bins: NDArray[np.floating[Any]], gene: Gene, element: Element, bin_bp: int, around: int = 0
) -> float:
    """Mean over the bases of an element of what is told of bins; ``around``: ± bp of its middle."""
    start, end = widened(element, around)
    low, high = gene.inside(start, end, len(bins) * bin_bp)
    low, high = max(low, 0), min(high, len(bins) * bin_bp)
    own = np.arange(low // bin_bp, -(-high // bin_bp))
    covered = np.minimum(high, (own + 1) * bin_bp) - np.maximum(low, own * bin_bp)
    return float((bins[own] * covered).sum(dtype=np.float64) / max(high - low, 1))


def mean_abs_over(bases: Floats, gene: Gene, element: Element, around: int = 0) -> float:
    """Mean of |contribution| over an element's bases, or those within ``around`` bp of its middle."""
    low, high = gene.inside(*widened(element, around), len(bases))
    return float(np.abs(bases[max(low, 0) : high]).mean(dtype=np.float64))


def widened(element: Element, around: int) -> tuple[int, int]:
    """Span of an element; ``around`` bp to either side of its middle where that is not 0."""
    if not around:
        return element.start, element.end
    middle = (element.start + element.end) // 2
    return middle - around, middle + around


def element_table(found: Sequence[Contribution], method: str) -> pd.DataFrame:
    """One row per gene and element."""
    rows = [
        (one.gene.species, one.gene.name, e.name, e.contig, e.start, e.end,
         one.gene.distance(e.start, e.end), score)
        for one in found for e, score in one.elements
    ]  # fmt: skip
    columns = ["species", "gene", "element", "contig", "start", "end", "distance", method]
    return pd.DataFrame(rows, columns=columns)
