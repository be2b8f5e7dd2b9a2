"""Targets: what of an expression table is predicted, in which unit.

``median`` (default)  log10(1 + median over samples)
``mean``, ``max``     log10(1 + mean), log10(1 + maximum)
``each``              one target per sample, log10(1 + value)
``sample:NAME``       log10(1 + value of one sample)
``tissue:NAME``       log10(1 + median over the samples of a tissue)

A unit that is already a logarithm is used as it is. Missing samples are left out of a summary;
a gene with no value is unlabelled.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, did_you_mean, unknown_name

SUMMARIES: Final[dict[str, Callable[..., NDArray[np.float64]]]] = {
    "median": np.nanmedian,
    "mean": np.nanmean,
    "max": np.nanmax,
}
KNOWN: Final = ("median", "mean", "max", "each", "sample:NAME", "tissue:NAME")
_TRUE: Final = ("1", "true", "yes", "t", "y")


@dataclass(frozen=True)
class Targets:
    """Labels of the genes of one or more species.

    Parameters
    ----------
    value : float64 array, shape (n, t)
        NaN where unlabelled.
    names : tuple of str, length t
        ``("y",)`` for a single target, else the samples.
    unit : str
        Unit of ``value``, e.g. ``log10(1+TPM)``.
    notes : list of str
    """

    value: NDArray[np.float64]
    names: tuple[str, ...]
    unit: str
    notes: list[str] = field(default_factory=list)

    @property
    def observed(self) -> NDArray[np.bool_]:
        """True where a label is known, shape (n, t)."""
        known: NDArray[np.bool_] = np.isfinite(self.value)
        return known


def is_log_unit(unit: str) -> bool:
    """Whether values of this unit are logarithms already (``log2``, ``log10(1+TPM)``, ``ln``)."""
    return re.match(r"log|ln\b", unit.strip().lower()) is not None


def make_targets(store: Any, species: Sequence[str], target: str = "median") -> Targets:
    """Targets of all genes of the species, in the order of the store.

    Raises
    ------
    InputError
        If no species has expression, units differ between species, or values of a unit that is
        no logarithm are negative.
    UnknownNameError
        For a sample or tissue that no species has.
    """
    kind, _, name = target.partition(":")
    if not (target in (*SUMMARIES, "each") or (kind in ("sample", "tissue") and name)):
        raise InputError(
            f"unknown target {target!r}.{did_you_mean(target, KNOWN)} Known: {', '.join(KNOWN)}."
        )
    views = {one: store.expression(one) for one in species}
    notes = [f"{one} has no expression: none of its genes is labelled"
             for one, view in views.items() if view is None]  # fmt: skip
    if all(view is None for view in views.values()):
        raise InputError(
            f"{store.path}: no expression for {', '.join(species)}; give expression = … in "
            "dataset.toml and build again"
        )
    unit = _one_unit(views)
    kept = {one: _samples(one, view, notes) for one, view in views.items() if view is not None}
    names = _target_names(views, kept, kind, name)
    parts = []
    for one, view in views.items():
        if view is None:
            parts.append(np.full((len(store.genes(one).gene), len(names)), np.nan))
            continue
        values = np.asarray(view.value, np.float64)
        _refuse_negative(values, unit, one, view)
        parts.append(_species_targets(values, view, kept[one], target, names))
    value = np.concatenate(parts)
    if is_log_unit(unit):
        return Targets(value, names, unit, notes)
    return Targets(np.log10(1 + value), names, f"log10(1+{unit})", notes)


def _one_unit(views: dict[str, Any]) -> str:
    units = {one: str(view.unit) for one, view in views.items() if view is not None}
    if len(set(units.values())) > 1:
        told = ", ".join(f"{one}: {unit}" for one, unit in units.items())
        raise InputError(
            f"species differ in unit of expression ({told}); run them one at a time with --species"
        )
    return next(iter(units.values()))


def _samples(species: str, view: Any, notes: list[str]) -> NDArray[np.bool_]:
    """Samples of unchanged plants: those of mutant lines are for the variants task."""
    everything = np.ones(len(view.sample), bool)
    if view.control is None:
        return everything
    control = np.array([str(value).strip().lower() in _TRUE for value in view.control])
    line = everything if view.line is None else np.array([str(x) != "" for x in view.line])
    mutant = line & ~control
    if mutant.all() or not mutant.any():
        return everything
    notes.append(
        f"{species}: {int(mutant.sum())} of {len(mutant)} samples are of mutant lines and left "
        f"out; {int((~mutant).sum())} control samples are used"
    )
    controls: NDArray[np.bool_] = ~mutant
    return controls


def _target_names(
    views: dict[str, Any], kept: dict[str, NDArray[np.bool_]], kind: str, name: str
) -> tuple[str, ...]:
    """Names of the targets; a sample or tissue asked for must exist somewhere."""
    present = {one: view for one, view in views.items() if view is not None}
    if kind == "each":
        union: dict[str, None] = {}
        for one, view in present.items():
            union.update(dict.fromkeys(np.asarray(view.sample)[kept[one]].tolist()))
        return tuple(union)
    if kind == "sample":
        known = {sample for view in present.values() for sample in view.sample}
    elif kind == "tissue":
        known = {t for view in present.values() if view.tissue is not None for t in view.tissue}
        if not known:
            raise InputError("no sample has a tissue; give samples = … in dataset.toml")
    else:
        return ("y",)
    if name not in known:
        raise unknown_name(kind, name, (str(x) for x in known))
    return ("y",)


def _species_targets(
    values: NDArray[np.float64],
    view: Any,
    kept: NDArray[np.bool_],
    target: str,
    names: tuple[str, ...],
) -> NDArray[np.float64]:
    """Targets of one species in the unit of the table, shape (gene, t)."""
    kind, _, name = target.partition(":")
    sample = np.asarray(view.sample)
    if kind == "each":
        column = {s: i for i, s in enumerate(sample.tolist()) if kept[i]}
        out = np.full((len(values), len(names)), np.nan)
        for j, one in enumerate(names):
            if one in column:
                out[:, j] = values[:, column[one]]
        return out
    if kind == "sample":
        return _summary(values[:, sample == name], np.nanmedian)
    if kind == "tissue":
        here = kept & (np.asarray(view.tissue if view.tissue is not None else sample) == name)
        return _summary(values[:, here if view.tissue is not None else here & False], np.nanmedian)
    return _summary(values[:, kept], SUMMARIES[target])


def _summary(
    values: NDArray[np.float64], function: Callable[..., NDArray[np.float64]]
) -> NDArray[np.float64]:
    if not values.shape[1]:
        return np.full((len(values), 1), np.nan)
    with warnings.catch_warnings():
        # A gene with no value at all is unlabelled, not a reason to warn.
        warnings.simplefilter("ignore", RuntimeWarning)
        return function(values, axis=1)[:, None]


def _refuse_negative(values: NDArray[np.float64], unit: str, species: str, view: Any) -> None:
    if is_log_unit(unit) or not (values < 0).any():
        return
    row, column = (int(i) for i in np.argwhere(values < 0)[0])
    raise InputError(
        f"{species}: {int((values < 0).sum())} negative values in unit {unit!r} (gene row {row}, "
        f"sample {view.sample[column]}: {values[row, column]:g}), and log10(1 + x) is asked for; "
        'if the values are logarithms, declare unit = "log2" in dataset.toml'
    )
