"""Completes tables by a trained run: measured entries as they are, missing ones with an interval."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation import masks
from benchmarks.imputation.batches import profile_blocks, view_batch
from benchmarks.imputation.conformal import Calibration
from benchmarks.imputation.folding import floor_of
from benchmarks.imputation.genotypes import GENES_AT_ONCE
from benchmarks.imputation.masks import first_fold, percent_of
from benchmarks.imputation.prepare import make_problem
from benchmarks.imputation.problem import Problem, Rows, few
from benchmarks.imputation.sources import ZeroedSource
from benchmarks.imputation.views import View
from benchmarks.inputs.features import resolve
from benchmarks.inputs.genes import gene_frame
from benchmarks.predict.apply import Matched
from featurestore.errors import InputError
from learners.batch import Block, BlockSource

MEASURED: Final = 0
IMPUTED: Final = 1
MISSING: Final = 2
MEANINGS: Final = ("measured", "imputed", "missing")


@dataclass(frozen=True)
class Filled:
    """Some genes, completed.

    Parameters
    ----------
    genes : int64 array, shape (n,)
        Rows of the table of genes.
    value, low, high : float32 arrays, shape (n, tissue, genotype)
        In the unit of the table; bounds of imputed entries alone.
    provenance : uint8 array, shape (n, tissue, genotype)
        0 measured, 1 imputed, 2 missing: nothing to learn the tissue from.
    """

    genes: NDArray[np.int64]
    value: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    provenance: NDArray[np.uint8]


class Completion:
    """A run applied to the table of a store.

    Parameters
    ----------
    matched : Matched
        Run and store.

    Attributes
    ----------
    tissues : tuple of str
        Those of the store, then those that the run knows beside them.
    notes : list of str

    Raises
    ------
    InputError
        If the run is of another task, or its unit is not that of the table.
    """

    def __init__(self, matched: Matched) -> None:
        self.trained, self.store = matched.trained, matched.store
        if self.trained.identity.get("task") != "imputation":
            raise InputError(f"{self.trained.path}: a run of task imputation is needed")
        self.genes = gene_frame(self.store, matched.species)
        self.problem: Problem = make_problem(
            self.store, matched.species, self.genes, masks.DEFAULT, drop=False
        )
        if self.problem.unit != self.trained.unit:
            raise InputError(
                f"{self.store.path}: values are in {self.problem.unit}, the run learned "
                f"{self.trained.unit}; declare the unit of the table in dataset.toml"
            )
        known = self.trained.targets
        self.tissues = (*self.problem.tissues, *(t for t in known if t not in self.problem.tissues))
        self.notes = [*self.problem.notes, *self._tissue_notes()]
        features = resolve(self.store, matched.species, matched.features)
        self._sources: dict[str, BlockSource] = {
            name: ZeroedSource(source, features.usable)
            for name, source in matched.named(features.sources).items()
        }
        self._profiles = "profile" in self.trained.identity["learner"].get("inputs", ())

    def _tissue_notes(self) -> list[str]:
        told = []
        if new := [t for t in self.trained.targets if t not in self.problem.tissues]:
            told.append(f"tissues of the run that the table lacks are imputed whole: {few(new)}")
        if foreign := [t for t in self.problem.tissues if t not in self.trained.targets]:
            told.append(
                "tissues that the run did not learn: missing entries there stay missing, and are "
                f"marked so: {few(foreign)}"
            )
        return told

    @property
    def genotypes(self) -> tuple[str, ...]:
        """Genotypes; one empty name where there is one."""
        return self.problem.values.genotypes

    @property
    def unit(self) -> str:
        """Unit of the completed table: that of the table as it was given."""
        unit = self.problem.unit
        return unit.removeprefix("log2(1+").removesuffix(")") if floor_of(unit) == 0.0 else unit

    def chunks(self, genes: NDArray[np.int64] | None = None) -> Iterator[Filled]:
        """The completed table, some genes at a time with all their genotypes."""
        wanted = np.arange(len(self.genes), dtype=np.int64) if genes is None else genes
        for start in range(0, len(wanted), GENES_AT_ONCE):
            yield self._filled(wanted[start : start + GENES_AT_ONCE])

    def _filled(self, genes: NDArray[np.int64]) -> Filled:
        count, own = len(self.genotypes), len(self.problem.tissues)
        rows = Rows(np.repeat(genes, count), np.tile(np.arange(count), len(genes)))
        value = np.full((len(rows), len(self.tissues)), np.nan)
        value[:, :own] = self.problem.values.read(rows.gene, rows.genotype)
        known = np.isfinite(value)
        low, high = np.full(value.shape, np.nan), np.full(value.shape, np.nan)
        column = np.array([self.tissues.index(name) for name in self.trained.targets], np.int64)
        asked = np.zeros(value.shape, bool)
        asked[:, column] = ~known[:, column]
        for chosen in self._choices(rows, np.any(known[:, column], axis=1), np.any(asked, axis=1)):
            predicted, reach = self._predicted(chosen, rows, value[:, column])
            at = np.ix_(chosen.at, column)
            fill = asked[at]
            bottom = floor_of(self.problem.unit)
            for out, new in (
                (value, predicted), (low, np.maximum(predicted - reach, bottom)), (high, predicted + reach),
            ):  # fmt: skip
                out[at] = np.where(fill, np.maximum(new, bottom), out[at])
        provenance = np.where(known, MEASURED, np.where(asked, IMPUTED, MISSING)).astype(np.uint8)
        shape = (len(genes), count, len(self.tissues))

        def laid(values: NDArray[Any]) -> NDArray[Any]:
            return np.ascontiguousarray(np.moveaxis(values.reshape(shape), 1, 2))

        ready = [laid(self._in_own_unit(x)) for x in (value, low, high)]
        return Filled(genes, ready[0], ready[1], ready[2], laid(provenance))

    def _in_own_unit(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """As the table has them: float32, in which a measured value is what was given."""
        if floor_of(self.problem.unit) == 0.0:
            values = np.exp2(values) - 1.0
        return values.astype(np.float32)

    # Which models --------------------------------------------------------------------------------

    def _choices(self, rows: Rows, some: NDArray[Any], asked: NDArray[Any]) -> Iterator[Chosen]:
        """Rows with missing entries, by the models that complete them."""
        for seen, way in ((True, self._for_some), (False, self._for_none)):
            at = np.flatnonzero(asked & (some == seen))
            # No model has learned from a gene without a value: all of them may speak.
            if not (way.by_gene and seen):
                if len(at):
                    yield Chosen(at, way.folds, way.scenario)
                continue
            fold = self._fold_of[rows.gene[at]]
            for one in np.unique(fold).tolist():
                folds = way.folds if one < 0 else (int(one),)
                yield Chosen(at[fold == one], folds, way.scenario)

    @cached_property
    def _fold_of(self) -> NDArray[np.int64]:
        """The fold of the split in which each gene was under test; −1 in none."""
        pairs = zip(self.genes["gene"], self.genes["species"], strict=True)
        found = [self.trained.fold_of(str(gene), str(species)) for gene, species in pairs]
        known = set(self._gene_folds)
        return np.array([-1 if f is None or f not in known else f for f in found], np.int64)

    @property
    def _gene_folds(self) -> tuple[int, ...]:
        return tuple(f for f in self.trained.folds if f < 1000)

    @property
    def _masks(self) -> list[str]:
        return list(self.trained.identity.get("masks") or ())

    def _of_design(self, design: str) -> tuple[int, ...]:
        first = first_fold(design)
        return tuple(f for f in self.trained.folds if first <= f < first + 1000)

    @cached_property
    def _for_some(self) -> Way:
        """Models for genes of which something is measured: those of entries, which saw most."""
        entries = sorted((percent_of(name), name) for name in self._masks if percent_of(name))
        if entries:
            name = entries[0][1]
            return Way((first_fold(name),), name, by_gene=False)
        for name in (masks.HALF, masks.GROUP):
            if name in self._masks:
                return Way(self._gene_folds, name, by_gene=True)
        return self._for_none

    @cached_property
    def _for_none(self) -> Way:
        """Models for genes of which nothing is: the mean over the folds of whole profiles."""
        if self._gene_folds and {masks.WHOLE, masks.LOW} & set(self._masks):
            return Way(self._gene_folds, masks.WHOLE, by_gene=True)
        for design in (masks.BLOCK, masks.CHROMOSOME):
            if design in self._masks:
                return Way(self._of_design(design), design, by_gene=False)
        if self._gene_folds:
            scenario = masks.HALF if masks.HALF in self._masks else masks.GROUP
            return Way(self._gene_folds, scenario, by_gene=True)
        return self._for_some

    def _predicted(
        self, chosen: Chosen, rows: Rows, value: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predictions of some rows and how far their intervals reach: means over the folds' models."""
        here, shown = rows.take(chosen.at), value[chosen.at]
        known = np.isfinite(shown)
        problem = self.problem
        other = None
        if problem.several:
            other = problem.values.elsewhere(here, lambda _, some: some)
            if other is not None:
                other = self._columns(other[0]), self._columns(other[1]).astype(bool)
        view = View(here, shown, known, ~known, np.full(len(here), chosen.scenario, object), other)
        asked = frozenset({"some" if known.any() else "none"})
        blocks: dict[str, Block] = {}
        if self._profiles:
            blocks = profile_blocks(problem, view, asked, self.trained.targets)
        blocks |= {name: Block(source, here.gene) for name, source in self._sources.items()}
        batch = view_batch(problem, view, blocks, self.trained.targets).without_targets()
        each = self.trained.predict_each(batch, chosen.folds)
        reach = [
            self._calibration(fold).reach(one, chosen.scenario)
            for fold, one in zip(chosen.folds, each, strict=True)
        ]
        return each.mean(axis=0), np.mean(reach, axis=0)

    def _columns(self, values: NDArray[Any]) -> NDArray[Any]:
        """Columns of the store's tissues as those of the run; zeros where the store lacks one."""
        out = np.zeros((len(values), len(self.trained.targets)), values.dtype)
        for i, name in enumerate(self.trained.targets):
            if name in self.problem.tissues:
                out[:, i] = values[:, self.problem.tissues.index(name)]
        return out

    def _calibration(self, fold: int) -> Calibration:
        facts: Sequence[dict[str, Any]] = self.trained.run.get("folds") or ()
        found = next((one.get("intervals") for one in facts if one.get("fold") == fold), None)
        return Calibration.from_facts(found or {})


@dataclass(frozen=True)
class Way:
    """Models that complete one kind of row.

    ``by_gene`` says that a gene of the run is completed by the fold in which it was under test.
    """

    folds: tuple[int, ...]
    scenario: str
    by_gene: bool


@dataclass(frozen=True)
class Chosen:
    """Rows that the same models complete."""

    at: NDArray[np.int64]
    folds: tuple[int, ...]
    scenario: str
