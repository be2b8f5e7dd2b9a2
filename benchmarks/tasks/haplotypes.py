"""Features of genes as haplotypes change them, in the form that learners take them in.

The rows of a :class:`HaplotypeSource` are pairs of gene and haplotype: the stored row of the gene
with the bins put in that the haplotype changes. A fitted learner predicts them like any other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import PooledSource, stored_terms
from learners.batch import Block, BlockSource, FeatureBatch
from learners.sources import row_valid

if TYPE_CHECKING:
    from featurestore.store.variants import VariantView

_BYTES_AT_ONCE: Final = 1 << 28
"""Features of haplotypes that a learner is given in one call, as float32: it may hold them whole."""


class HaplotypeSource:
    """Rows of one feature as haplotypes change them; a :class:`learners.batch.BlockSource`.

    Parameters
    ----------
    view : VariantView
        The variant set.
    feature : str
        ``group[.array]``; ``onehot`` gives codes.
    source : BlockSource
        The same feature of the genes of the species (``store.feature_source``).
    gene, haplotype : int64 arrays, shape (n,)
        Row i is gene ``gene[i]`` as it stands in haplotype ``haplotype[i]``; −1 the reference.
    """

    def __init__(
        self,
        view: VariantView,
        feature: str,
        source: BlockSource,
        gene: NDArray[np.int64],
        haplotype: NDArray[np.int64],
    ) -> None:
        self.view, self.feature, self.source = view, feature, source
        self.gene = np.asarray(gene, np.int64)
        self.haplotype = np.asarray(haplotype, np.int64)
        given = self.haplotype >= 0
        if (view.haplotype_gene[self.haplotype[given]] != self.gene[given]).any():
            raise ValueError("a haplotype was asked for at another gene than its own")
        self.kind, self.dims, self.shape = source.kind, source.dims, source.shape
        self.dtype, self.coords, self.valid = source.dtype, source.coords, source.valid
        ordered = len(self.gene) < 2 or bool((np.diff(self.gene) >= 0).all())
        starts = np.searchsorted(self.gene, source.shard_start) if ordered else np.zeros(1)
        starts = np.unique(starts[starts < max(len(self.gene), 1)]).astype(np.int64)
        self.shard_start = starts if len(starts) else np.zeros(1, np.int64)

    def __len__(self) -> int:
        return len(self.gene)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for, shape (len(rows), *shape), a new array."""
        values = np.ascontiguousarray(self.source.read(self.gene[rows]))
        changed = self.view.changed(self.feature)
        found, owner = changed.of(self.haplotype[rows])
        if not len(found):
            return values
        region = changed.region[found]
        if changed.bin is None:
            values[owner, region] = changed.read(found)
            return values
        new = changed.read(found)
        # As stored: positions of a bin that are kept apart are one axis more there, scalars one less.
        stored = values.reshape(*values.shape[:2], -1, *new.shape[1:])
        stored[owner, region, changed.bin[found]] = new
        return values

    def row_valid(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Bins that each row has: those of its gene."""
        return row_valid(self.source, self.gene[rows])


def haplotype_sources(
    store: Any,
    view: VariantView,
    features: str,
    gene: NDArray[np.int64],
    haplotype: NDArray[np.int64],
) -> dict[str, BlockSource]:
    """Sources of a feature expression over pairs of gene and haplotype, by term.

    Parameters
    ----------
    store : featurestore.store.reader.Store
    view : VariantView
        A variant set of one species.
    features : str
        As in :mod:`benchmarks.inputs.features`; empty for none.
    gene, haplotype : int64 arrays, shape (n,)
        Rows of genes within the species, and a haplotype of each or −1.
    """
    sources: dict[str, BlockSource] = {}
    for term in stored_terms(features):
        plain = store.feature_source(view.species, term.source)
        source: BlockSource = HaplotypeSource(view, term.source, plain, gene, haplotype)
        sources[str(term)] = PooledSource(source) if term.reduction else source
    return sources


def haplotype_batch(
    sources: Mapping[str, BlockSource], genes: pd.DataFrame, target_names: tuple[str, ...] = ("y",)
) -> FeatureBatch:
    """A batch to predict, without targets.

    Parameters
    ----------
    sources : mapping of term to source
        From :func:`haplotype_sources`, n rows each.
    genes : DataFrame, n rows
        ``gene, species, family`` of each row.
    """
    rows = np.arange(len(genes), dtype=np.int64)
    return FeatureBatch(
        blocks={name: Block(source, rows) for name, source in sources.items()},
        gene=genes["gene"].to_numpy(str),
        species=genes["species"].to_numpy(str),
        family=genes["family"].to_numpy(str),
        target_names=target_names,
    )


def predicted(
    batch: FeatureBatch, predict: Callable[[FeatureBatch], NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Predictions of a batch in its order, shape (n, t), a bounded part of it at a time."""
    parts = [predict(batch.take(rows)) for rows in _parts(batch)]
    return np.concatenate(parts) if parts else np.empty((0, len(batch.target_names)))


def _parts(batch: FeatureBatch) -> Iterator[NDArray[np.int64]]:
    at_once = max(_BYTES_AT_ONCE // (4 * max(batch.columns, 1)), 64)
    for start in range(0, len(batch), at_once):
        yield np.arange(start, min(start + at_once, len(batch)), dtype=np.int64)


def log_base(unit: str) -> float:
    """Base of the logarithm of a unit: ``log2`` 2, ``ln`` e, else 10."""
    name = unit.strip().lower()
    return 2.0 if name.startswith("log2") else float(np.e) if name.startswith("ln") else 10.0


def mean_of_copies(
    first: NDArray[np.float64], second: NDArray[np.float64], unit: str
) -> NDArray[np.float64]:
    """What two copies of a gene give together: the mean of their amounts, as a logarithm again.

    The two haplotypes of a line add up as amounts, not as logarithms:
    log₁₀(1 + (a + b) / 2), where a and b are the amounts that each alone, twice, would give. For
    log(1 + x) and log(x) that is one and the same formula, the mean of the powers.
    """
    base = np.log(log_base(unit))
    mean = np.logaddexp(base * np.asarray(first), base * np.asarray(second)) - np.log(2.0)
    # Equal copies stay what they are to the last bit: a difference of nothing is no effect.
    return np.where(np.equal(first, second), first, mean / base)


class Copies:
    """Haplotypes that each line reads at each gene, both copies in one row.

    Attributes
    ----------
    gene, line : int64 arrays, shape (pair,)
        Indices within species and set; pairs in order of gene and line. Only pairs in which a copy
        differs from the reference.
    first, second : int64 arrays, shape (pair,)
        Haplotype of either copy; −1 the reference. Equal where both read the same.
    zygosity : int8 array, shape (pair,)
    """

    def __init__(self, view: VariantView) -> None:
        held = view.carriers
        gene, line = held.gene.astype(np.int64), held.line.astype(np.int64)
        pair, inverse = np.unique(gene * max(len(view.line), 1) + line, return_inverse=True)
        self.gene, self.line = np.divmod(pair, max(len(view.line), 1))
        self.first = np.full(len(pair), -1, np.int64)
        self.second = np.full(len(pair), -1, np.int64)
        self.zygosity = np.zeros(len(pair), np.int8)
        self.zygosity[inverse] = held.zygosity
        for side, copies in ((self.first, (0, 1)), (self.second, (0, 2))):
            here = np.isin(held.copy, copies)
            side[inverse[here]] = held.haplotype[here]
        changed = (self.first >= 0) | (self.second >= 0)
        for name in ("gene", "line", "first", "second", "zygosity"):
            setattr(self, name, getattr(self, name)[changed])
        self._lines_of = view.lines_of_haplotype

    def __len__(self) -> int:
        return len(self.gene)

    @cached_property
    def private(self) -> NDArray[np.bool_]:
        """Whether every haplotype of the pair is read by this line alone; the reference is not asked."""
        alone = np.ones(len(self), np.bool_)
        for side in (self.first, self.second):
            given = side >= 0
            alone[given] &= self._lines_of[side[given]] == 1
        return alone
