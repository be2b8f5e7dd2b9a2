"""The table of a run with its genes: what every learner, fold and mask of the run has in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation.draws import Keys, crossed, gene_names, keys_of
from benchmarks.imputation.places import Places

MOST_ROWS: Final = 100_000
"""Genotype × gene rows of a run; of more, the genotypes of each gene are drawn by name."""


class Values(Protocol):
    """Where values come from: an array, or a store of many genotypes read piece by piece."""

    @property
    def tissues(self) -> tuple[str, ...]:
        """Tissues that have values."""
        ...

    @property
    def genotypes(self) -> tuple[str, ...]:
        """Genotypes; one empty name where there is one."""
        ...

    def read(self, gene: NDArray[np.int64], genotype: NDArray[np.int64]) -> NDArray[np.float64]:
        """Values of rows, shape (len(gene), tissue), NaN where not known."""
        ...

    def elsewhere(
        self, rows: Rows, visible: Callable[[Rows, NDArray[np.bool_]], NDArray[np.bool_]]
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """Mean over the other genotypes of what is visible there, and where there is any."""
        ...

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over genotypes, shape (gene, tissue)."""
        ...


@dataclass(frozen=True)
class Single:
    """A table of one genotype, in memory."""

    value: NDArray[np.float64]
    tissues: tuple[str, ...]
    genotypes: tuple[str, ...] = ("",)

    def read(self, gene: NDArray[np.int64], genotype: NDArray[np.int64]) -> NDArray[np.float64]:
        """Rows of the table."""
        return self.value[gene]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The table itself."""
        return self.value

    def with_tissues(self, kept: NDArray[np.bool_]) -> Single:
        """The same with some of the tissues."""
        names = tuple(name for name, keep in zip(self.tissues, kept, strict=True) if keep)
        return Single(self.value[:, kept], names)

    def elsewhere(
        self, rows: Rows, visible: Callable[[Rows, NDArray[np.bool_]], NDArray[np.bool_]]
    ) -> None:
        """There is no other genotype."""


@dataclass(frozen=True)
class Rows:
    """Some rows: gene and genotype of each."""

    gene: NDArray[np.int64]
    genotype: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.gene)

    def take(self, index: NDArray[Any]) -> Rows:
        """Some of them."""
        return Rows(self.gene[index], self.genotype[index])


@dataclass(frozen=True)
class Problem:
    """A table to complete.

    Parameters
    ----------
    values : Values
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame`.
    scored : bool array, shape (gene,)
        Genes with at least one value.
    unit : str
    masks : tuple of str
    notes : list of str
    """

    values: Values
    genes: pd.DataFrame
    scored: NDArray[np.bool_]
    unit: str
    masks: tuple[str, ...]
    notes: list[str] = field(default_factory=list)

    @property
    def tissues(self) -> tuple[str, ...]:
        """Tissues."""
        return self.values.tissues

    @property
    def several(self) -> bool:
        """Whether there are several genotypes."""
        return len(self.values.genotypes) > 1

    @cached_property
    def places(self) -> Places:
        """Where the genes lie."""
        return Places.of(self.genes)

    @cached_property
    def names(self) -> list[str]:
        """``species<TAB>gene``."""
        species, gene = (self.genes[name].to_numpy(object) for name in ("species", "gene"))
        return gene_names(species, gene)

    def gene_keys(self, *purpose: object) -> Keys:
        """A number for each gene by its name."""
        if purpose not in self._gene_keys:
            self._gene_keys[purpose] = keys_of(self.names, *purpose)
        return self._gene_keys[purpose]

    @cached_property
    def _gene_keys(self) -> dict[tuple[object, ...], Keys]:
        return {}

    def tissue_keys(self, *purpose: object) -> Keys:
        """A number for each tissue by its name."""
        return keys_of(self.tissues, *purpose)

    def row_keys(self, rows: Rows, *purpose: object) -> Keys:
        """A number for each row by its gene and genotype."""
        keys = self.gene_keys(*purpose)
        if not self.several:
            return keys[rows.gene]
        genotypes = keys_of(self.values.genotypes, *purpose, "genotype")
        return crossed(keys, genotypes)[rows.gene, rows.genotype]

    def rows_of(self, genes: NDArray[np.int64], seed: int) -> Rows:
        """Every genotype of some genes, genotype by genotype.

        Where these are more than :data:`MOST_ROWS`, the genotypes of each gene are drawn by name: as
        many of each gene as fit, one at least.
        """
        count = len(self.values.genotypes)
        if count == 1:
            return Rows(genes, np.zeros(len(genes), np.int64))
        kept = min(count, max(1, MOST_ROWS // max(len(genes), 1)))
        if kept == count:
            genotype = np.repeat(np.arange(count), len(genes))
            return Rows(np.tile(genes, count), genotype)
        draws = crossed(
            self.gene_keys("rows", seed)[genes], keys_of(self.values.genotypes, "rows", seed)
        )
        chosen = np.argsort(draws, axis=1, kind="stable")[:, :kept]
        gene, genotype = np.repeat(genes, kept), chosen.ravel()
        order = np.lexsort((gene, genotype))
        return Rows(gene[order], genotype[order].astype(np.int64))


def few(names: Sequence[str], shown: int = 5) -> str:
    """The first few of some names."""
    some = ", ".join(map(str, names[:shown]))
    return f"{some} …" if len(names) > shown else some
