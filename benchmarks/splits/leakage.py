"""The leakage gate and the audit.

The **gate** refuses a split in which a gene family stands on two sides of a fold. The **audit**
refuses nothing: it lists genes under test whose windows overlap, or whose sequence largely
recurs, on the training side, so that scores can be given with and without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.splits.artefact import AlignedSplit, Sides, Split
from benchmarks.splits.overlap import gene_windows, overlap_counts
from benchmarks.splits.sketch import Sketches, sketch_source
from featurestore.errors import LeakageError

CONTAINMENT: Final = 0.5
"""A gene is concerned when this share of its sketched 31-mers recurs on the training side.

For two homologous sequences of identity i, containment of k-mers is about i^k (Mash; Ondov et
al., Genome Biol. 17:132, 2016): 0.5 is 97.8 % identity over the whole, or half of it identical.
"""

CONCERNED_COLUMNS: Final = (
    "gene", "species", "repeat", "fold", "family", "overlap", "identity",
)  # fmt: skip


@dataclass(frozen=True)
class LeakageReport:
    """What the gate found, over all repeats and folds.

    Parameters
    ----------
    families : list of str
        Families on two sides of at least one fold, in alphabetical order.
    genes : int
        Genes under test (or validation) with a relative on another side.
    examples : list of str
        The first few, in words.
    """

    families: list[str] = field(default_factory=list)
    genes: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def leaks(self) -> bool:
        """Whether any family stands on two sides."""
        return bool(self.families)

    def text(self) -> str:
        """One sentence with counts and examples."""
        if not self.leaks:
            return "no gene family stands on two sides of a fold"
        return (
            f"{len(self.families):,} gene families stand on two sides of a fold, which concerns "
            f"{self.genes:,} genes: {'; '.join(self.examples)}"
        )


def gate(split: Split, genes: pd.DataFrame, *, allow: bool = False) -> LeakageReport:
    """Refuse a split in which a family stands on two sides of a fold.

    Parameters
    ----------
    split : Split
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame`. Families are taken from here, not from the
        split, so that a file cannot vouch for itself.
    allow : bool
        Report only.

    Raises
    ------
    LeakageError
        Unless ``allow``; it says how many families and genes, with examples.
    """
    concerned: dict[str, None] = {}
    rows: set[int] = set()
    examples: list[str] = []
    for repeat in split.repeats:
        aligned = AlignedSplit(split, genes, repeat)
        for fold in aligned.folds:
            sides = aligned.sides(fold)
            straddling = _straddling(aligned, sides)
            held_out = np.concatenate([sides.test, sides.valid])
            touched = held_out[np.isin(aligned.family[held_out], straddling)]
            rows.update(touched.tolist())
            examples += [_example(genes, aligned, sides, int(c), fold) for c in straddling[:3]]
            names = aligned.families[_first_rows(aligned.family, straddling)]
            concerned.update(dict.fromkeys(names.tolist()))
    report = LeakageReport(sorted(concerned), len(rows), examples[:3])
    if report.leaks and not allow:
        raise LeakageError(
            f"split {split.name}: {report.text()}. Use --split families-5fold, or run it all the "
            "same with --allow-leakage, which every result then says"
        )
    return report


def _straddling(aligned: AlignedSplit, sides: Sides) -> NDArray[np.int64]:
    """Codes of families with rows on more than one side."""
    count = np.zeros(aligned.family_count, np.int64)
    for rows in (sides.train, sides.valid, sides.test):
        count[np.unique(aligned.family[rows])] += 1
    return np.flatnonzero(count > 1)


def _first_rows(codes: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    known, first = np.unique(codes, return_index=True)
    return first[np.searchsorted(known, wanted)]


def _example(genes: pd.DataFrame, aligned: AlignedSplit, sides: Sides, code: int, fold: int) -> str:
    places = []
    for name in ("train", "valid", "test"):
        rows = getattr(sides, name)
        here = rows[aligned.family[rows] == code]
        if len(here):
            places.append(f"{genes['gene'].iloc[int(here[0])]} in {name}")
    family = genes["family"].iloc[int(np.flatnonzero(aligned.family == code)[0])]
    return f"family {family} (fold {fold}: {', '.join(places)})"


@dataclass(frozen=True)
class AuditReport:
    """Genes under test that the training side knows more of than their family says.

    Parameters
    ----------
    concerned : DataFrame
        One row per gene under test and repeat, columns :data:`CONCERNED_COLUMNS`: ``family``
        True if a relative is on another side, ``overlap`` the number of windows of training or
        validation genes that overlap its own by a base or more, ``identity`` the share (0 … 1)
        of its sketched 31-mers found there, NaN where there is no sequence.
    tested : int
        Genes under test, over all repeats.
    notes : list of str
        What could not be looked at, and why.
    """

    concerned: pd.DataFrame
    tested: int
    notes: list[str]

    def select(self, reason: str) -> pd.DataFrame:
        """Genes concerned for one reason: ``family``, ``overlap`` or ``identity``."""
        column = self.concerned[reason]
        if reason == "identity":
            return self.concerned[column >= CONTAINMENT]
        return self.concerned[column.astype(bool)]

    def summary(self) -> dict[str, Any]:
        """Counts and examples per reason, plain JSON."""
        reasons: dict[str, dict[str, Any]] = {}
        for reason in ("family", "overlap", "identity"):
            genes = self.select(reason)
            reasons[reason] = {
                "genes": len(genes),
                "fraction": len(genes) / self.tested if self.tested else 0.0,
                "examples": genes["gene"].head(5).tolist(),
            }
        alike = self.select("identity")
        # Windows that overlap share sequence anyway; what else is alike is the news.
        reasons["identity"]["without_overlap"] = int((alike["overlap"] == 0).sum())
        return {
            "tested": self.tested, "containment": CONTAINMENT, "reasons": reasons,
            "notes": self.notes,
        }  # fmt: skip


def audit(
    store: Any,
    species: Sequence[str],
    genes: pd.DataFrame,
    split: Split,
    repeats: Sequence[int] | None = None,
    long: int = 0,
) -> AuditReport:
    """Measure overlap, identity and shared families across the sides of every fold.

    Overlap of windows by a sorted sweep, O(n log n) per fold; identity by containment of
    canonical 31-mers in a FracMinHash sketch, linear in the bases read.

    Parameters
    ----------
    store : featurestore.store.reader.Store
    species : sequence of str
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame` over the same species.
    split : Split
    repeats : sequence of int, optional
        All of the split's by default.
    long : int
        Bases around each TSS that features show beside the regions of the store.
    """
    notes: list[str] = []
    if long:
        notes.append(
            f"overlap is of windows of {long:,} bp around the TSS, which the features show"
        )
    windows = gene_windows(store, species, genes, long)
    if windows.unplaced:
        notes.append(f"{windows.unplaced:,} windows have no place on a contig: overlap not known")
    sketches = _sketches(store, species, notes)
    parts = []
    for repeat in split.repeats if repeats is None else repeats:
        aligned = AlignedSplit(split, genes, repeat)
        for fold in aligned.folds:
            sides = aligned.sides(fold)
            known = np.concatenate([sides.train, sides.valid])
            relatives = np.isin(aligned.family[sides.test], aligned.family[known])
            identity = np.full(len(sides.test), np.nan)
            if sketches is not None:
                identity = sketches.containment(sides.test, known)
            part = genes.loc[sides.test, ["gene", "species"]].assign(
                repeat=repeat, fold=fold, family=relatives,
                overlap=overlap_counts(windows, sides.test, known), identity=identity,
            )  # fmt: skip
            parts.append(part)
    table = pd.concat(parts, ignore_index=True)[list(CONCERNED_COLUMNS)]
    return AuditReport(table, len(table), notes)


def _sketches(store: Any, species: Sequence[str], notes: list[str]) -> Sketches | None:
    sources = []
    for one in species:
        if "onehot" not in store.embedders(one):
            notes.append(f"{one}: no onehot in the store, so sequences were not compared")
            return None
        sources.append(store.feature_source(one, "onehot"))
    return sketch_source(sources)


def without(predictions: pd.DataFrame, genes: pd.DataFrame) -> pd.DataFrame:
    """Predictions without some genes of some repeats."""
    keys = ["species", "gene", "repeat"]
    drop = pd.MultiIndex.from_frame(genes[keys])
    return predictions[~pd.MultiIndex.from_frame(predictions[keys]).isin(drop)]
