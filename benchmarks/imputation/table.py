"""The table to be completed: genes × tissues of a store, in log2(1 + x), and what is to be told of it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs.targets import is_log_unit
from featurestore.errors import InputError

SHOWN = 5


@dataclass(frozen=True)
class Table:
    """One gene × tissue table over all species of a run.

    Parameters
    ----------
    value : float64 array, shape (gene, tissue)
        log2(1 + x), or as given where the unit is a logarithm; NaN where not known.
    tissues : tuple of str
    unit : str
        Unit of ``value``.
    notes : list of str
    """

    value: NDArray[np.float64]
    tissues: tuple[str, ...]
    unit: str
    notes: list[str] = field(default_factory=list)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Where a value was measured, shape (gene, tissue)."""
        found: NDArray[np.bool_] = np.isfinite(self.value)
        return found


@dataclass(frozen=True)
class Layout:
    """How the samples of one species fall into tissues and genotypes.

    Parameters
    ----------
    species : str
    tissues, genotypes : list of str
        In the order in which they first stand in the table of samples; ``[""]`` for one genotype.
    tissue, genotype : int64 arrays, shape (sample,)
        Indices; tissue −1 where a sample has none and is left out.
    """

    species: str
    tissues: list[str]
    genotypes: list[str]
    tissue: NDArray[np.int64]
    genotype: NDArray[np.int64]


def layout_of(species: str, view: Any, notes: list[str]) -> Layout:
    """Samples by tissue and genotype; without a tissue column each sample is a tissue."""
    samples = [str(name) for name in view.sample]
    given = None if view.tissue is None else [str(name) for name in view.tissue]
    if given is None or not any(given):
        given = samples
    elif not all(given):
        bare = [name for name, tissue in zip(samples, given, strict=True) if not tissue]
        notes.append(
            f"{species}: {len(bare)} of {len(samples)} samples have no tissue in the table of samples "
            f"and are left out: {_few(bare)}"
        )
    tissues = list(dict.fromkeys(name for name in given if name))
    place = {name: i for i, name in enumerate(tissues)}
    genotypes, which = [""], np.zeros(len(samples), np.int64)
    if view.genotype is not None:
        named = [str(name) for name in view.genotype]
        if len(set(named)) > 1:
            genotypes = list(dict.fromkeys(named))
            which = np.array([genotypes.index(name) for name in named], np.int64)
    tissue = np.array([place.get(name, -1) for name in given], np.int64)
    several = int(np.bincount(tissue[tissue >= 0]).max(initial=0)) if len(tissues) else 0
    if several > 1 and genotypes == [""]:
        notes.append(
            f"{species}: {len(samples)} samples of {len(tissues)} tissues; a tissue is the median of "
            "its samples"
        )
    return Layout(species, tissues, genotypes, tissue, which)


def by_tissue(
    values: NDArray[Any], layout: Layout, genotype: int, tissues: Sequence[str]
) -> NDArray[np.float64]:
    """Medians over the samples of each tissue of one genotype, shape (gene, tissue), NaN where none."""
    out = np.full((len(values), len(tissues)), np.nan)
    for column, name in enumerate(tissues):
        here = np.zeros(len(layout.tissue), bool)
        if name in layout.tissues:
            here = (layout.tissue == layout.tissues.index(name)) & (layout.genotype == genotype)
        count = int(here.sum())
        if count == 1:
            out[:, column] = values[:, here][:, 0]
        elif count:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # a gene without a value stays NaN
                out[:, column] = np.nanmedian(values[:, here].astype(np.float64), axis=1)
    return out


def one_unit(store: Any, views: dict[str, Any]) -> str:
    """The unit that all species share.

    Raises
    ------
    InputError
        If there is no expression, or units differ.
    """
    units = {name: str(view.unit) for name, view in views.items()}
    if not units:
        raise InputError(
            f"{store.path}: no expression to complete; give expression = … in dataset.toml and build "
            "again"
        )
    if len(set(units.values())) > 1:
        told = ", ".join(f"{name}: {unit}" for name, unit in units.items())
        raise InputError(
            f"species differ in unit of expression ({told}); run them one at a time with --species"
        )
    return next(iter(units.values()))


def unit_after(unit: str) -> str:
    """Unit in which values are learned: that of the table where it is a logarithm."""
    return unit if is_log_unit(unit) else f"log2(1+{unit})"


def transformed(
    values: NDArray[Any], unit: str, species: str, samples: Sequence[str], genes: NDArray[np.str_]
) -> NDArray[np.float64]:
    """Values in log2(1 + x), or as they are where the unit is a logarithm.

    Raises
    ------
    InputError
        If a value that is no logarithm is negative; it names gene, sample and value.
    """
    plain = np.asarray(values, np.float64)
    if is_log_unit(unit):
        return plain
    below = plain < 0
    if below.any():
        row, column = (int(i) for i in np.argwhere(below)[0])
        raise InputError(
            f"{species}: {int(below.sum())} negative values in unit {unit!r}, first gene {genes[row]} in "
            f"sample {samples[column]}: {plain[row, column]:g}; log2(1 + x) is asked for. If the values "
            'are logarithms, declare unit = "log2" in dataset.toml'
        )
    return np.asarray(np.log2(1 + plain))


def check_tissues(value: NDArray[np.float64], tissues: Sequence[str], notes: list[str]) -> None:
    """Tell tissues without a value; refuse a table in which nothing can be imputed.

    Raises
    ------
    InputError
        If fewer than two tissues have values.
    """
    counts = np.isfinite(value).sum(axis=0)
    tell_tissues(counts, tissues, notes)


def tell_tissues(counts: NDArray[Any], tissues: Sequence[str], notes: list[str]) -> None:
    """As :func:`check_tissues`, from the number of values of each tissue."""
    bare = [name for name, count in zip(tissues, counts.tolist(), strict=True) if not count]
    if len(bare) == len(tissues):
        raise InputError(
            f"none of the {len(tissues)} tissues ({_few(tissues)}) has a value; check the columns of the "
            "expression table, and the sample names of the table of samples"
        )
    if bare:
        notes.append(
            f"{len(bare)} of {len(tissues)} tissues have no value at all, so nothing can be learned or "
            f"completed there; they are left out: {_few(bare)}"
        )
    if len(tissues) - len(bare) == 1:
        only = next(name for name in tissues if name not in bare)
        notes.append(
            f"only one tissue has values ({only}): there are no other tissues to learn from, so masks "
            "that hide part of a profile do not apply, and correlations across tissues are undefined"
        )


def _few(names: Sequence[str]) -> str:
    some = ", ".join(names[:SHOWN])
    return f"{some} …" if len(names) > SHOWN else some
