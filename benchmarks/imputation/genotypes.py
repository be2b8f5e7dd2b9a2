"""Tables of several genotypes, read from the store some genes at a time; never all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation.problem import Rows
from benchmarks.imputation.table import Layout, by_tissue, transformed

GENES_AT_ONCE: Final = 1024
"""Genes whose genotypes are in memory together."""

Visible = Callable[[Rows, NDArray[np.bool_]], NDArray[np.bool_]]
"""Entries of some rows that may be looked at, of those that are known."""


@dataclass(frozen=True)
class Part:
    """One species of the table.

    Parameters
    ----------
    species : str
    stored : featurestore.store.arrays.StoredArray, or None
        Values (gene, sample); None where the species has none.
    layout : Layout, or None
    genes : str array
    samples : list of str
    """

    species: str
    stored: Any
    layout: Layout | None
    genes: NDArray[np.str_]
    samples: list[str]


class Genotypes:
    """Values of genotype × gene × tissue, lazily read; see :class:`benchmarks.imputation.problem.Values`.

    Parameters
    ----------
    parts : sequence of Part
        Species end to end.
    tissues, genotypes : tuple of str
    unit : str
        Unit of the stored values.
    """

    def __init__(
        self, parts: Sequence[Part], tissues: tuple[str, ...], genotypes: tuple[str, ...], unit: str
    ) -> None:
        self.parts, self.tissues, self.genotypes, self.unit = list(parts), tissues, genotypes, unit
        self._start = np.cumsum([0, *(len(part.genes) for part in parts)])

    def __len__(self) -> int:
        return int(self._start[-1])

    def every(self, genes: NDArray[np.int64]) -> NDArray[np.float64]:
        """All genotypes of some genes, shape (len(genes), genotype, tissue), NaN where not known."""
        out = np.full((len(genes), len(self.genotypes), len(self.tissues)), np.nan)
        which = np.searchsorted(self._start, genes, side="right") - 1
        for i, part in enumerate(self.parts):
            at = np.flatnonzero(which == i)
            if len(at) and part.stored is not None and part.layout is not None:
                rows = genes[at] - int(self._start[i])
                raw = part.stored.take(rows)
                ids = part.genes[rows]
                transformed(raw, self.unit, part.species, part.samples, ids)  # refuses negatives
                out[at] = transformed(
                    self._by_genotype(raw, part.layout), self.unit, part.species, (), ids
                )
        return out

    def _by_genotype(self, raw: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
        """Samples as genotype × tissue, medians where there are several, shape (gene, genotype, tissue)."""
        out = np.full((len(raw), len(self.genotypes), len(self.tissues)), np.nan)
        cell, counts = self._cells(layout)
        if counts.max(initial=0) <= 1:
            known = np.flatnonzero(cell >= 0)
            out.reshape(len(raw), -1)[:, cell[known]] = raw[:, known]
            return out
        for own, name in enumerate(layout.genotypes):
            out[:, self.genotypes.index(name)] = by_tissue(raw, layout, own, self.tissues)
        return out

    def _cells(self, layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Cell of genotype × tissue of each sample (−1: none), and samples of each cell."""
        tissue = np.array([_place(self.tissues, name) for name in layout.tissues] + [-1])
        genotype = np.array([_place(self.genotypes, name) for name in layout.genotypes])
        column = tissue[layout.tissue]
        cell = np.where(column >= 0, genotype[layout.genotype] * len(self.tissues) + column, -1)
        return cell, np.bincount(cell[cell >= 0], minlength=1)

    def read(self, gene: NDArray[np.int64], genotype: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of rows, shape (len(gene), tissue)."""
        out = np.empty((len(gene), len(self.tissues)))
        for at, genes, values in self._walk(gene):
            place = np.searchsorted(genes, gene[at])
            out[at] = values[place, genotype[at]]
        return out

    def elsewhere(
        self, rows: Rows, visible: Visible
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Mean over the other genotypes of what may be looked at there, and where there is any.

        Parameters
        ----------
        rows : Rows
        visible : callable
            What may be looked at of any row of any genotype.
        """
        shape = (len(rows), len(self.tissues))
        mean, there = np.zeros(shape, np.float32), np.zeros(shape, bool)
        count = len(self.genotypes)
        for at, genes, values in self._walk(rows.gene):
            every = Rows(np.repeat(genes, count), np.tile(np.arange(count), len(genes)))
            known = np.isfinite(values)
            seen = visible(every, known.reshape(-1, shape[1])).reshape(values.shape)
            shown = np.where(seen, values, 0.0)
            place, own = np.searchsorted(genes, rows.gene[at]), rows.genotype[at]
            others = seen.sum(axis=1)[place] - seen[place, own]
            total = shown.sum(axis=1)[place] - shown[place, own]
            there[at] = others > 0
            mean[at] = np.where(others > 0, total / np.maximum(others, 1), 0.0)
        return mean, there

    def _walk(
        self, gene: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Rows by genes that are read together: their places, those genes, all their values."""
        order = np.argsort(gene, kind="stable")
        wanted = np.unique(gene)
        for start in range(0, len(wanted), GENES_AT_ONCE):
            genes = wanted[start : start + GENES_AT_ONCE]
            low, high = np.searchsorted(gene[order], [genes[0], genes[-1] + 1])
            yield order[low:high], genes, self.every(genes)

    @cached_property
    def _sums(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """Running sums over genotypes: (gene, tissue) sums, counts, and known values by tissue."""
        total = np.zeros((len(self), len(self.tissues)))
        count = np.zeros(total.shape, np.int64)
        for start in range(0, len(self), GENES_AT_ONCE):
            genes = np.arange(start, min(start + GENES_AT_ONCE, len(self)), dtype=np.int64)
            values = self.every(genes)
            total[genes] = np.nansum(values, axis=1)
            count[genes] = np.isfinite(values).sum(axis=1)
        return total, count, count.sum(axis=0)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the genotypes that have a value, shape (gene, tissue)."""
        total, count, _ = self._sums
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    @property
    def counts(self) -> NDArray[np.int64]:
        """Known values of each tissue."""
        return self._sums[2]

    def with_tissues(self, kept: NDArray[np.bool_]) -> Genotypes:
        """The same with some of the tissues."""
        if kept.all():
            return self
        names = tuple(name for name, keep in zip(self.tissues, kept, strict=True) if keep)
        return Genotypes(self.parts, names, self.genotypes, self.unit)


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1
