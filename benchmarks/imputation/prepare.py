"""Makes the table of a run from a store: tissues, medians, log2(1 + x), and everything to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.imputation.problem import Problem, Single, few
from benchmarks.imputation.table import (
    by_tissue,
    layout_of,
    one_unit,
    tell_tissues,
    transformed,
    unit_after,
)


def make_problem(
    store: Any, species: Sequence[str], genes: pd.DataFrame, masks: tuple[str, ...]
) -> Problem:
    """The table of some species, its genes in the order of ``genes``.

    Raises
    ------
    InputError
        If there is no expression, units differ, a value is negative, or no tissue has a value.
    """
    views = {name: view for name in species if (view := store.expression(name)) is not None}
    notes = [f"{name} has no expression: none of its genes is imputed or learned from"
             for name in species if name not in views]  # fmt: skip
    unit = one_unit(store, views)
    layouts = {name: layout_of(name, view, notes) for name, view in views.items()}
    tissues = list(dict.fromkeys(t for layout in layouts.values() for t in layout.tissues))
    parts = []
    for name in species:
        count = len(store.genes(name).gene)
        if name not in views:
            parts.append(np.full((count, len(tissues)), np.nan))
            continue
        raw = np.asarray(views[name].value)
        medians = by_tissue(raw, layouts[name], 0, tissues)
        ids = np.asarray(store.genes(name).gene)
        transformed(raw, unit, name, list(views[name].sample), ids)  # refuses negative values
        parts.append(transformed(medians, unit, name, tissues, ids))
    value = np.concatenate(parts)
    counts = np.isfinite(value).sum(axis=0)
    tell_tissues(counts, tissues, notes)
    kept = counts > 0
    table = Single(value[:, kept], tuple(t for t, k in zip(tissues, kept, strict=True) if k))
    scored = np.asarray(np.isfinite(table.value).any(axis=1), np.bool_)
    problem = Problem(table, genes, scored, unit_after(unit), masks, notes)
    notes += [*_placeless(store, species, problem), *_families(problem)]
    return problem


def _placeless(store: Any, species: Sequence[str], problem: Problem) -> list[str]:
    """Genes without a position or a strand, and rows of the table that are in no gene table."""
    told = []
    lacking = np.flatnonzero(problem.scored & ~problem.places.known)
    names = problem.genes["gene"].to_numpy(object)
    if len(lacking):
        told.append(
            f"{len(lacking):,} of {int(problem.scored.sum()):,} genes with values have no position, for "
            f"example {few(names[lacking].tolist())}: they are kept, have no neighbours, and what is made "
            "of neighbours falls back on tissues alone; masks block and chromosome do not test them"
        )
    strandless = np.flatnonzero(
        problem.scored & problem.places.known & (problem.places.strand == 0)
    )
    if len(strandless):
        told.append(
            f"{len(strandless):,} genes have a position and no strand, for example "
            f"{few(names[strandless].tolist())}: their orientation to neighbours is taken as unknown"
        )
    for name in species:
        told += [
            f"{name}: {note} Such genes have no place in the store and are neither learned from nor "
            "completed; to have them completed from tissues alone, give them a line with an empty "
            "position in the table of genes"
            for note in store.notes(name)
            if note.startswith("expression:") and "name no gene" in note
        ]
    return told


def _families(problem: Problem) -> list[str]:
    """That tandem paralogs cannot be told where there are no families."""
    if problem.genes["has_family"].any():
        return []
    return [
        "no gene has a family, so tandem paralogs are not known: scores without them are those of all "
        "genes"
    ]
