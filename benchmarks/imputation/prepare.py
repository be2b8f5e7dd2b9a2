"""Makes the table of a run from a store: tissues, medians, log2(1 + x), and everything to be told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.imputation.genotypes import Genotypes, Part
from benchmarks.imputation.problem import Problem, Single, few
from benchmarks.imputation.table import (
    Layout,
    by_tissue,
    layout_of,
    one_unit,
    tell_tissues,
    transformed,
    unit_after,
)


def make_problem(
    store: Any, species: Sequence[str], genes: pd.DataFrame, masks: tuple[str, ...], *,
    drop: bool = True,
) -> Problem:  # fmt: skip
    """The table of some species, its genes in the order of ``genes``.

    ``drop`` leaves out tissues without any value.

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
    values = _values(store, species, views, layouts, tissues, unit)
    counts = (
        values.counts if isinstance(values, Genotypes) else np.isfinite(values.value).sum(axis=0)
    )
    tell_tissues(counts, tissues, notes)
    table = values.with_tissues(counts > 0) if drop else values
    scored = np.asarray(np.isfinite(table.mean).any(axis=1), np.bool_)
    problem = Problem(table, genes, scored, unit_after(unit), masks, notes)
    notes += [*_placeless(store, species, problem), *_families(problem), *_rows(problem)]
    return problem


def _values(
    store: Any, species: Sequence[str], views: dict[str, Any], layouts: dict[str, Layout],
    tissues: list[str], unit: str,
) -> Single | Genotypes:  # fmt: skip
    """The table in memory, or of several genotypes lazily read."""
    names = tuple(dict.fromkeys(g for layout in layouts.values() for g in layout.genotypes))
    if len(names) > 1:
        parts = [
            Part(
                name, store.stored(name, "expression/value") if name in views else None,
                layouts.get(name), np.asarray(store.genes(name).gene),
                [str(sample) for sample in views[name].sample] if name in views else [],
            )
            for name in species
        ]  # fmt: skip
        return Genotypes(parts, tuple(tissues), names, unit)
    found = []
    for name in species:
        ids = np.asarray(store.genes(name).gene)
        if name not in views:
            found.append(np.full((len(ids), len(tissues)), np.nan))
            continue
        raw = np.asarray(views[name].value)
        transformed(raw, unit, name, list(views[name].sample), ids)  # refuses negative values
        medians = by_tissue(raw, layouts[name], 0, tissues)
        found.append(transformed(medians, unit, name, tissues, ids))
    return Single(np.concatenate(found), tuple(tissues))


def _rows(problem: Problem) -> list[str]:
    """How many genotypes of each gene are learned from and tested, where not all are."""
    genotypes, genes = len(problem.values.genotypes), int(problem.scored.sum())
    if genotypes < 2:
        return []
    told = f"{genotypes} genotypes; a row is a gene in a genotype"
    kept = len(problem.rows_of(np.flatnonzero(problem.scored).astype(np.int64), 0))
    if kept < genotypes * genes:
        told += (
            f". Of {genotypes * genes:,} rows {kept:,} are learned from and tested, {kept // genes} of "
            "each gene, drawn by name; the mean over the others goes along with each"
        )
    return [told]


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
