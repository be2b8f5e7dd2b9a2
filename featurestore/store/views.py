"""What a store gives of one species: genes, expression, groups as xarray."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import unknown_name

if TYPE_CHECKING:
    import xarray as xr

    from featurestore.store.reader import Store

Text = NDArray[np.str_]


@dataclass(frozen=True)
class GeneTable:
    """Genes of a species in store order; arrays of shape (gene,), see ``docs/format.md``."""

    gene: Text
    locus: Text
    contig: Text
    strand: NDArray[np.int8]
    tss: NDArray[np.int64]
    tts: NDArray[np.int64]
    family: Text
    fold: Text | None


class ExpressionView:
    """Expression of a species; ``value`` (gene, sample) float32 is read when first asked for."""

    def __init__(self, store: Store, species: str) -> None:
        self._store, self._species = store, species
        self.unit = str(store.meta(species, "expression/value")["attributes"]["unit"])

    def _optional(self, name: str) -> Text | None:
        return self._store.optional_text(self._species, f"expression/{name}")

    @cached_property
    def value(self) -> NDArray[np.float32]:
        """Values as given, NaN where missing."""
        return self._store.array(self._species, "expression/value")

    @cached_property
    def labelled(self) -> NDArray[np.bool_]:
        """Whether a gene has a row in the table, shape (gene,)."""
        return self._store.array(self._species, "expression/labelled")

    @cached_property
    def sample(self) -> Text:
        """Samples."""
        return self._store.text(self._species, "expression/sample")

    @cached_property
    def tissue(self) -> Text | None:
        """Tissue of each sample."""
        return self._optional("tissue")

    @cached_property
    def genotype(self) -> Text | None:
        """Genotype of each sample."""
        return self._optional("genotype")

    @cached_property
    def line(self) -> Text | None:
        """Line of each sample."""
        return self._optional("line")

    @cached_property
    def control(self) -> Text | None:
        """``1`` for control samples."""
        return self._optional("control")


class SpeciesView:
    """One species of a store: ``view["kmer"]`` is an ``xarray.Dataset``, lazily read."""

    def __init__(self, store: Store, species: str) -> None:
        self._store, self.species = store, species

    def __getitem__(self, group: str) -> xr.Dataset:
        name = "sequence" if group == "onehot" else group
        known = self._store.groups(self.species)
        if name not in known:
            raise unknown_name(f"group of {self.species}", group, [*known, "onehot"])
        self._store.check_group(self.species, name)
        node = self._store.tree.children[self.species].children[name]
        return node.to_dataset(inherit=True)

    @property
    def genes(self) -> xr.Dataset:
        """Genes and their coordinates."""
        self._store.check_group(self.species, "")
        return self._store.tree.children[self.species].to_dataset()
