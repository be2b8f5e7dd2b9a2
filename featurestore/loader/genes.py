"""Which genes a loader goes over, and their targets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name

if TYPE_CHECKING:
    from featurestore.store.reader import Store

Genes = Mapping[str, Sequence[str] | NDArray[Any]]
"""Species → names of genes, or their rows."""


@dataclass(frozen=True)
class ChosenGenes:
    """Genes of a loader, species after species.

    Parameters
    ----------
    names : list of str
        Species.
    species, row : int64 arrays, shape (n,)
        Position of each gene's species, and its row there.
    held : list of int
        Genes of each species in the store.
    left_out : dict of species to int
        Genes that were not chosen because a feature of theirs is not ok.
    """

    names: list[str]
    species: NDArray[np.int64]
    row: NDArray[np.int64]
    held: list[int]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.row)

    def text(self, store: Store) -> NDArray[np.str_]:
        """Names of the genes, shape (n,)."""
        parts = [
            store.text(name, "gene")[self.row[self.species == number]]
            for number, name in enumerate(self.names)
        ]
        return np.concatenate(parts) if parts else np.empty(0, np.str_)


def choose_genes(
    store: Store, features: Sequence[str], species: Sequence[str] | None, genes: Genes | None
) -> ChosenGenes:
    """Genes that are asked for; without any, all whose features may be used.

    Raises
    ------
    UnknownNameError
        For a species or gene that the store lacks.
    InputError
        If a gene stands twice, a row is none, a gene asked for may not be used, or none is left.
    """
    names = list(genes) if genes is not None and species is None else list(species or store.species)
    rows, held, left_out = [], [], {}
    for name in names:
        usable = _usable(store, name, features)
        held.append(len(usable))
        if genes is None:
            rows.append(np.flatnonzero(usable).astype(np.int64))
            left_out[name] = int(len(usable) - usable.sum())
        else:
            rows.append(_asked(store, name, genes[name], usable, features))
    row = np.concatenate(rows) if rows else np.empty(0, np.int64)
    if not len(row):
        raise InputError(
            f"{store.path}: no gene to load for features {', '.join(features)} of "
            f"{', '.join(names) or 'no species'}; see 'fs info {store.path}'"
        )
    number = np.repeat(np.arange(len(names)), [len(part) for part in rows]).astype(np.int64)
    return ChosenGenes(names, number, row, held, left_out)


def _usable(store: Store, species: str, features: Sequence[str]) -> NDArray[np.bool_]:
    fine = [store.feature_status(species, feature) for feature in features]
    return np.asarray(np.logical_and.reduce(fine), np.bool_)


def _asked(
    store: Store,
    species: str,
    wanted: Sequence[str] | NDArray[Any],
    usable: NDArray[np.bool_],
    features: Sequence[str],
) -> NDArray[np.int64]:
    given = np.asarray(wanted)
    if given.dtype.kind in "iu":
        rows = given.astype(np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(usable)):
            raise InputError(f"{species}: rows {rows.min()} … {rows.max()} of {len(usable)} genes")
    else:
        rows = store.rows(species, given.tolist())
    unique, count = np.unique(rows, return_counts=True)
    names = store.array(species, "gene")
    if (count > 1).any():
        raise InputError(f"{species}: gene {names[unique[count > 1][0]]} is asked for twice")
    bad = rows[~usable[rows]]
    if len(bad):
        first = int(bad[0])
        reasons = [store.feature_status_reason(species, f)[first] for f in features]
        raise InputError(
            f"{species}: {len(bad)} of the genes asked for may not be used, first "
            f"{names[first]}: {next(r for r in reasons if r)}; leave them out "
            "(Store.feature_status tells which)"
        )
    return rows


def check_features(store: Store, species: Sequence[str], features: Sequence[str]) -> None:
    """Refuse features that are none, stand twice, or differ in shape between species.

    Raises
    ------
    InputError
    UnknownNameError
        For a feature that a species lacks.
    """
    if not features:
        raise InputError(f"no features; the store holds {', '.join(store.embedders(species[0]))}")
    if len(set(features)) < len(features):
        raise InputError(f"features {', '.join(features)}: one stands twice")
    for feature in features:
        shapes = {one: store.feature_source(one, feature).shape for one in species}
        if len(set(shapes.values())) > 1:
            told = ", ".join(f"{one} {shape}" for one, shape in shapes.items())
            raise InputError(
                f"{feature} differs in shape between species: {told}; load them one at a time"
            )


def check_species(store: Store, species: Sequence[str]) -> None:
    """Refuse species that the store lacks, or one named twice."""
    for one in species:
        if one not in store.species:
            raise unknown_name("species", one, store.species)
    if len(set(species)) < len(species):
        raise InputError(f"species {', '.join(species)}: one stands twice")


def chosen_targets(chosen: ChosenGenes, targets: Any) -> NDArray[np.float32] | None:
    """Targets of the chosen genes, shape (n, t).

    Parameters
    ----------
    targets : array or mapping of species to array, or None
        An array has a row for each chosen gene; of a mapping, each array has one for every gene
        of its species, in store order. One dimension is one target.

    Raises
    ------
    InputError
        If rows are missing or too many.
    """
    if targets is None:
        return None
    if not isinstance(targets, Mapping):
        found = _two(np.asarray(targets, np.float32))
        if len(found) != len(chosen):
            raise InputError(f"targets have {len(found):,} rows for {len(chosen):,} genes")
        return np.ascontiguousarray(found)
    parts = []
    for number, name in enumerate(chosen.names):
        if name not in targets:
            raise InputError(f"targets lack {name}; they are given for {', '.join(targets)}")
        rows = chosen.row[chosen.species == number]
        values = _two(np.asarray(targets[name], np.float32))
        if len(values) != chosen.held[number]:
            raise InputError(
                f"targets of {name} have {len(values):,} rows; give one for each of the "
                f"{chosen.held[number]:,} genes that the store holds of it, NaN where there is none"
            )
        parts.append(values[rows])
    if len({part.shape[1] for part in parts}) > 1:
        raise InputError("targets differ in number between species")
    return np.concatenate(parts)


def _two(values: NDArray[np.float32]) -> NDArray[np.float32]:
    if values.ndim not in (1, 2):
        raise InputError(f"targets have shape {values.shape}; give (gene,) or (gene, target)")
    return values[:, None] if values.ndim == 1 else values
