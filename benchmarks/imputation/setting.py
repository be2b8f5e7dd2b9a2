"""One seed of a problem: its folds by design, and which entries each mask hides in them."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation import hiding, masks
from benchmarks.imputation.designs import VALIDATION, GeneFold, by_block, by_chromosome, by_split
from benchmarks.imputation.draws import crossed
from benchmarks.imputation.masks import Mask, design_of, first_fold, percent_of, shows
from benchmarks.imputation.problem import Problem, Rows
from benchmarks.splits.artefact import AlignedSplit
from featurestore.errors import InputError

Bools = NDArray[np.bool_]


class Setting:
    """Folds and masks of a problem with one split and one seed.

    Parameters
    ----------
    problem : Problem
    aligned : AlignedSplit
        Decides the folds of the design ``genes``.
    seed : int
    asked : bool
        Whether somebody named the masks: one that does not apply then is an error, else a note.

    Attributes
    ----------
    masks : list of str
        Those that apply.
    notes : list of str
        Why others do not.
    """

    def __init__(
        self, problem: Problem, aligned: AlignedSplit, seed: int, *, asked: bool = False
    ) -> None:
        self.problem, self.seed = problem, seed
        self.split_name, self.split_digest = aligned.split.name, aligned.split.digest
        self.notes: list[str] = []
        self.kept_references: dict[tuple[int, str], dict[str, NDArray[np.float64]]] = {}
        self.fitted_references: dict[int, Any] = {}
        self._gene_folds = by_split(aligned, problem.scored)
        self.masks = [name for name in problem.masks if self._applies(name, asked)]
        if not self.masks:
            raise InputError(f"none of the masks applies to this table: {'; '.join(self.notes)}")

    def _applies(self, name: str, asked: bool) -> bool:
        why = ""
        if name in (masks.HALF, masks.GROUP) and len(self.problem.tissues) < 2:
            why = "there is only one tissue"
        elif name in (masks.BLOCK, masks.CHROMOSOME) and not self.folds_of(name):
            placed = int((self.problem.places.known & self.problem.scored).sum())
            why = (
                f"{placed:,} genes with values have a position, on "
                f"{len(set(self.problem.places.contig[self.problem.scored].tolist()) - {-1})} contigs; "
                + ("20 genes are needed" if name == masks.BLOCK else "two contigs are needed")
            )
        if not why:
            return True
        if asked:
            raise InputError(f"--mask {name} does not apply: {why}")
        self.notes.append(f"mask {name} does not apply and is left out: {why}")
        return False

    # Folds -------------------------------------------------------------------------------------

    def folds_of(self, design: str) -> list[GeneFold]:
        """Folds of a gene-wise design; empty for entries, and where a design cannot be."""
        if design == masks.GENES:
            return self._gene_folds
        return {masks.BLOCK: self._blocks, masks.CHROMOSOME: self._chromosomes}.get(design, [])

    @cached_property
    def _blocks(self) -> list[GeneFold]:
        keys = self.problem.gene_keys("block", self.seed)
        return by_block(self.problem.places, self.problem.scored, keys)

    @cached_property
    def _chromosomes(self) -> list[GeneFold]:
        keys = self.problem.gene_keys("chromosome", self.seed)
        return by_chromosome(self.problem.places, self.problem.scored, keys)

    @cached_property
    def folds(self) -> dict[int, GeneFold | int]:
        """Every fold by number: gene-wise ones, and the percentage of entries hidden."""
        found: dict[int, GeneFold | int] = {}
        for design in dict.fromkeys(design_of(name) for name in self.masks):
            if percent := percent_of(design):
                found[first_fold(design)] = percent
            else:
                found |= {fold.number: fold for fold in self.folds_of(design)}
        return found

    def masks_of(self, fold: int) -> list[str]:
        """Masks that are scored on a fold's fit."""
        one = self.folds[fold]
        design = f"entries-{one}" if isinstance(one, int) else one.design
        return [name for name in self.masks if design_of(name) == design]

    def asked_of(self, fold: int) -> frozenset[str]:
        """What the rows under test of a fold show of their profiles."""
        return frozenset(shows(name) for name in self.masks_of(fold))

    def scenarios(self, fold: int) -> list[str]:
        """Masks whose rows differ: what validation imitates, ``low-expression`` with its whole."""
        named = [masks.WHOLE if name == masks.LOW else name for name in self.masks_of(fold)]
        return list(dict.fromkeys(named))

    # What is hidden ----------------------------------------------------------------------------

    def hidden(self, mask: str, fold: int, rows: Rows, known: Bools) -> Bools:
        """Entries of some rows that a gene-wise mask hides, shape (len(rows), tissue)."""
        if mask == masks.HALF:
            # By gene, not by row: what a gene hides it hides in every genotype.
            keys = self.problem.gene_keys(mask, self.seed)[rows.gene]
            return hiding.half(known, keys, self.problem.tissue_keys(mask, self.seed))
        if mask == masks.GROUP:
            keys = self.problem.gene_keys(mask, self.seed)[rows.gene]
            return hiding.group(known, keys, self.groups(fold))
        if mask == masks.LOW:
            return known & self.low[rows.gene][:, None]
        return known

    def groups(self, fold: int) -> NDArray[np.int64]:
        """Groups of tissues by the training entries of a fold."""
        if fold not in self._groups:
            one = self.folds[fold]
            assert isinstance(one, GeneFold)  # noqa: S101 - only gene-wise masks have groups
            self._groups[fold] = hiding.tissue_groups(
                self.problem.values.mean[one.train], self.problem.tissues
            )
        return self._groups[fold]

    @cached_property
    def _groups(self) -> dict[int, NDArray[np.int64]]:
        return {}

    @cached_property
    def low(self) -> Bools:
        """Genes of the lowest fifth by mean over the whole table."""
        value = self.problem.values.mean
        count = np.isfinite(value).sum(axis=1)
        with np.errstate(invalid="ignore"):
            mean = np.where(count > 0, np.nansum(value, axis=1), np.nan) / np.maximum(count, 1)
        return hiding.low_genes(mean, self.problem.gene_keys(masks.LOW, self.seed))

    def entries(self, percent: int, rows: Rows, known: Bools) -> tuple[Bools, Bools]:
        """Entries that ``entries-N`` hides in some rows, and those that validate."""
        hide, hold = (self._draws(what, percent, rows) for what in ("hide", "hold"))
        return self._bounds(percent).of(hide, hold, known)

    def _draws(self, what: str, percent: int, rows: Rows) -> NDArray[np.uint64]:
        purpose = (f"entries-{percent}", what, self.seed)
        return crossed(self.problem.row_keys(rows, *purpose), self.problem.tissue_keys(*purpose))

    def _bounds(self, percent: int) -> hiding.EntryDraws:
        if self.problem.several:
            return hiding.EntryDraws.expected(percent / 100, VALIDATION)
        if percent not in self._known_bounds:
            every = self.all_rows
            known = np.isfinite(self.problem.values.read(every.gene, every.genotype))
            hide, hold = (self._draws(what, percent, every) for what in ("hide", "hold"))
            self._known_bounds[percent] = hiding.EntryDraws.exact(
                hide, hold, known, percent / 100, VALIDATION
            )
        return self._known_bounds[percent]

    @cached_property
    def _known_bounds(self) -> dict[int, hiding.EntryDraws]:
        return {}

    @cached_property
    def all_rows(self) -> Rows:
        """Rows that the entries of ``entries-N`` are of."""
        genes = np.flatnonzero(self.problem.scored).astype(np.int64)
        return self.problem.rows_of(genes, self.seed)

    def rows_in(self, genes: NDArray[np.int64]) -> Rows:
        """Rows of some genes, genotype by genotype."""
        inside = np.zeros(len(self.problem.scored), bool)
        inside[genes] = True
        return self.all_rows.take(np.flatnonzero(inside[self.all_rows.gene]))

    def __getstate__(self) -> dict[str, Any]:
        # What is kept for the learners of this process stays here.
        return {**self.__dict__, "kept_references": {}, "fitted_references": {}}

    # Artefacts ---------------------------------------------------------------------------------

    @cached_property
    def artefacts(self) -> dict[str, Mask]:
        """Every mask, laid over the rows that are tested."""
        return {name: self._artefact(name) for name in self.masks}

    def _artefact(self, name: str) -> Mask:
        rows, problem = self.all_rows, self.problem
        known = np.isfinite(problem.values.read(rows.gene, rows.genotype))
        table = np.full(known.shape, masks.NOT_HIDDEN, np.int16)
        design = design_of(name)
        recipe: dict[str, Any] = {"design": design}
        if percent := percent_of(name):
            table[self.entries(percent, rows, known)[0]] = first_fold(name)
            recipe |= {"percent": percent}
        for fold in self.folds_of(design):
            at = np.flatnonzero(np.isin(rows.gene, fold.test))
            here = self.hidden(name, fold.number, rows.take(at), known[at])
            table[at] = np.where(here, np.int16(fold.number), table[at])
        if design == masks.GENES:
            recipe |= {"split": self.split_name, "split_digest": self.split_digest}
        if name == masks.BLOCK:
            recipe |= {"stretch": masks.STRETCH}
        species, gene = (problem.genes[c].to_numpy(object)[rows.gene] for c in ("species", "gene"))
        genotype = None
        if problem.several:
            genotype = np.array(problem.values.genotypes, object)[rows.genotype]
        return Mask(name, self.seed, recipe, species, gene, problem.tissues, table, genotype)
