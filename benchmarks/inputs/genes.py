"""The genes of a benchmark as one table: ids, places, families that are never empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from featurestore.errors import InputError, unknown_name

GENE_COLUMNS = (
    "gene", "species", "family", "has_family", "locus", "contig", "strand", "tss", "tts", "fold",
)  # fmt: skip


def choose_species(store: Any, names: Sequence[str] | None) -> list[str]:
    """Species asked for, in the order of the store; all of them by default.

    Raises
    ------
    UnknownNameError
        For a species that the store does not hold.
    """
    known = list(store.species)
    for name in names or ():
        if name not in known:
            raise unknown_name("species", name, known)
    chosen = [name for name in known if not names or name in names]
    if not chosen:
        raise InputError(f"{store.path}: the store holds no species; build it with: fs build")
    return chosen


def gene_frame(store: Any, species: Sequence[str]) -> pd.DataFrame:
    """Genes of several species end to end, in the order of the store.

    Row i of the table is row i of the features joined over the same species.

    Returns
    -------
    DataFrame with the columns :data:`GENE_COLUMNS`
        ``family`` is never empty: a gene without one is its own, named ``species:locus``, so
        that the records of one locus stay together; ``has_family`` tells them apart. ``fold``
        is the data set's own fold column, "" where there is none.
    """
    frames = []
    for name in species:
        table = store.genes(name)
        count = len(table.gene)
        fold = np.full(count, "", object) if table.fold is None else table.fold
        columns: dict[str, Any] = {
            "gene": table.gene, "family": table.family, "locus": table.locus,
            "contig": table.contig, "strand": table.strand, "tss": table.tss,
            "tts": table.tts, "fold": fold,
        }  # fmt: skip
        frames.append(pd.DataFrame(columns).assign(species=name))
    return with_families(pd.concat(frames, ignore_index=True))


def with_families(genes: pd.DataFrame) -> pd.DataFrame:
    """Fill in the families of genes without one and keep the records of a locus together."""
    genes = genes.copy()
    for column in ("gene", "species", "family", "locus", "contig", "fold"):
        genes[column] = genes[column].fillna("").astype(object).map(str)
    genes["has_family"] = genes["family"] != ""
    locus = genes["species"] + ":" + genes["locus"].where(genes["locus"] != "", genes["gene"])
    family = genes["family"].where(genes["has_family"], locus)
    if locus.duplicated().any():
        root = _merge(locus, family)
        family = family.map(lambda name: root.get(name, name))
    genes["family"] = family
    return genes.loc[:, list(GENE_COLUMNS)]


def _merge(locus: pd.Series[str], family: pd.Series[str]) -> dict[str, str]:
    """Families that share a locus become one, under the first name in alphabetical order."""
    parent: dict[str, str] = {}

    def find(name: str) -> str:
        while parent.get(name, name) != name:
            name = parent[name]
        return name

    first: dict[str, str] = {}
    for place, name in zip(locus, family, strict=True):
        a, b = find(first.setdefault(place, name)), find(name)
        if a != b:
            parent[max(a, b)] = min(a, b)
    return {name: find(name) for name in set(family)}


def family_notes(genes: pd.DataFrame) -> list[str]:
    """What to say of genes without a family."""
    alone = int((~genes["has_family"]).sum())
    if not alone:
        return []
    if alone == len(genes):
        return [
            f"no gene of {len(genes):,} has a family: each stands alone, so relatives may face "
            "each other across folds; make families with: fs families DATASET"
        ]
    return [
        f"{alone:,} of {len(genes):,} genes have no family: each is a singleton, its own family"
    ]
