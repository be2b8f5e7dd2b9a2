"""Folds of imputation: what a learner is handed, and what it predicted of the entries under test."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation import masks
from benchmarks.imputation.conformal import Calibration, calibrate
from benchmarks.imputation.designs import GeneFold
from benchmarks.imputation.problem import Problem, Rows
from benchmarks.imputation.references import references
from benchmarks.imputation.setting import Setting
from benchmarks.imputation.sources import ELSEWHERE, PLACE, PROFILE, PlaceSource, PlaneSource
from benchmarks.splits.artefact import AlignedSplit, Sides
from benchmarks.tasks.base import Predict
from learners.base import Budget, LearnerInfo
from learners.batch import Block, BlockSource, FeatureBatch

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class View:
    """Some rows, what may be looked at of them, and which entries are asked for."""

    rows: Rows
    value: NDArray[np.float64]
    visible: Bools
    wanted: Bools
    mask: NDArray[np.object_]
    """Mask that each row imitates or is tested by."""


@dataclass
class Folds:
    """The folds of a problem for learners of one kind and one set of features.

    Parameters
    ----------
    setting : Setting
    sources : mapping of feature to BlockSource, rows as genes
    budget : Budget
        With which the distance-based references are fitted.
    """

    setting: Setting
    sources: Mapping[str, BlockSource]
    profiles: bool
    budget: Budget = field(default_factory=Budget)
    _intervals: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """The table."""
        return self.setting.problem

    @property
    def folds(self) -> Sequence[int]:
        """Numbers of the folds: 0 … by the split, 1000 + N entries, 2000 … blocks, 3000 … chromosomes."""
        return sorted(self.setting.folds)

    def identity(self) -> dict[str, Any]:
        """Masks with their digests."""
        return {"masks": {n: mask.identity() for n, mask in self.setting.artefacts.items()}}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be told of the masks."""
        return tuple(self.setting.notes)

    def facts(self, fold: int) -> dict[str, Any]:
        """The scales of the intervals, by scenario."""
        return {"intervals": self._intervals.get(fold, {})}

    def save(self, folder: Path) -> None:
        """Write the masks beside the run."""
        for name, mask in self.setting.artefacts.items():
            mask.write(folder / "masks" / f"{name}.parquet")

    def sides(self, fold: int) -> Sides:
        """Genes on each side; of ``entries-N`` every gene is on all three."""
        one = self.setting.folds[fold]
        if isinstance(one, GeneFold):
            return Sides(one.train, one.valid, one.test, one.excluded)
        every = np.flatnonzero(self.problem.scored).astype(np.int64)
        return Sides(every, every, every, np.zeros(0, np.int64))

    def told(self, fold: int) -> list[str]:
        """Genes that are kept out of training."""
        one = self.setting.folds[fold]
        if not isinstance(one, GeneFold) or not len(one.excluded):
            return []
        return [
            f"{one.design}, fold {fold}: {len(one.excluded):,} genes kept out of training, their "
            "families are under test"
        ]

    # Batches -----------------------------------------------------------------------------------

    def batches(self, fold: int) -> tuple[FeatureBatch, FeatureBatch]:
        """What is learned from and validated on."""
        train, valid = self.views(fold)
        asked = self.setting.asked_of(fold)
        return self._batch(train, asked), self._batch(valid, asked)

    def views(self, fold: int) -> tuple[View, View]:
        """What is learned from, and what validates."""
        one = self.setting.folds[fold]
        if not isinstance(one, GeneFold):
            return self._entry_views(one)
        rows, value = self._read(one.train)
        known = np.isfinite(value)
        train = _view(rows, value, known, known, "")
        rows, value = self._read(one.valid)
        known = np.isfinite(value)
        parts = []
        for mask in self.setting.scenarios(fold):
            hidden = self.setting.hidden(mask, fold, rows, known)
            parts.append(_view(rows, value, known & ~hidden, hidden, mask))
        return _with_some(train), _with_some(_stacked(parts))

    def _entry_views(self, percent: int) -> tuple[View, View]:
        rows = self.setting.all_rows
        value = self.problem.values.read(rows.gene, rows.genotype)
        known = np.isfinite(value)
        hidden, held = self.setting.entries(percent, rows, known)
        left = known & ~hidden & ~held
        mask = f"entries-{percent}"
        train = _view(rows, value, left, left, "")
        return _with_some(train), _with_some(_view(rows, value, left, held, mask))

    def _read(self, genes: NDArray[np.int64]) -> tuple[Rows, NDArray[np.float64]]:
        rows = self.setting.rows_in(genes)
        return rows, self.problem.values.read(rows.gene, rows.genotype)

    def _test_views(self, fold: int) -> list[View]:
        """Rows under test, a view for each scenario."""
        one = self.setting.folds[fold]
        if not isinstance(one, GeneFold):
            rows = self.setting.all_rows
            value = self.problem.values.read(rows.gene, rows.genotype)
            known = np.isfinite(value)
            hidden, _ = self.setting.entries(one, rows, known)
            return [_with_some(_view(rows, value, known & ~hidden, hidden, f"entries-{one}"))]
        rows, value = self._read(one.test)
        known = np.isfinite(value)
        found = []
        for mask in self.setting.scenarios(fold):
            hidden = self.setting.hidden(mask, fold, rows, known)
            view = _view(rows, value, known & ~hidden, hidden, mask)
            if mask == masks.WHOLE and mask not in self.setting.masks:
                low = self.setting.low[rows.gene]  # only low-expression was asked for
                view = _taken(view, np.flatnonzero(low))
            found.append(_with_some(view))
        return found

    def profile_batch(self, view: View, asked: frozenset[str]) -> FeatureBatch:
        """Some rows for a learner of profiles and places alone."""
        return replace(self, sources={}, profiles=True)._batch(view, asked)

    def _batch(self, view: View, asked: frozenset[str]) -> FeatureBatch:
        problem, genes = self.problem, self.problem.genes
        at = np.arange(len(view.rows), dtype=np.int64)
        blocks: dict[str, Block] = {}
        if self.profiles:
            plane = PlaneSource(view.value, view.visible, asked, problem.tissues)
            blocks[PROFILE] = Block(plane, at)
            blocks[PLACE] = Block(PlaceSource(problem.places.block()), view.rows.gene)
            if problem.several:
                mean, there = problem.values.elsewhere(view.rows, view.value, view.visible)  # type: ignore[attr-defined]
                blocks[ELSEWHERE] = Block(PlaneSource(mean, there, asked, problem.tissues), at)
        blocks |= {n: Block(s, view.rows.gene) for n, s in self.sources.items()}
        columns = [
            genes[name].to_numpy(str)[view.rows.gene] for name in ("gene", "species", "family")
        ]
        sample = np.array(problem.values.genotypes)[view.rows.genotype] if problem.several else None
        return FeatureBatch(
            blocks=blocks, gene=columns[0], species=columns[1], family=columns[2], sample=sample,
            targets=np.where(view.wanted, view.value, np.nan), mask=view.wanted,
            target_names=problem.tissues,
        )  # fmt: skip

    # Predictions -------------------------------------------------------------------------------

    def predict(self, fold: int, learner: Any, predict: Predict) -> pd.DataFrame:
        """One row per entry under test, by the fitted learner, with interval and references."""
        _, valid = self.views(fold)
        calibration = calibrate(learner, valid.value, valid.wanted, valid.mask)
        self._intervals[fold] = {} if calibration is None else calibration.facts()
        asked = self.setting.asked_of(fold)
        parts = []
        for view in self._test_views(fold):
            batch = self._batch(view, asked)
            predicted = predict(batch.without_targets())
            reference = references(self, fold, view)
            parts += [
                self._table(
                    fold, name, _taken(view, at), predicted[at], _rows(reference, at), calibration
                )
                for name, at in self._scored_as(fold, view)
            ]
        return pd.concat(parts, ignore_index=True)

    def _scored_as(self, fold: int, view: View) -> list[tuple[str, NDArray[np.int64]]]:
        """Masks whose entries a view holds, each with its rows."""
        mask = str(view.mask[0]) if len(view.mask) else masks.WHOLE
        every = np.arange(len(view.rows), dtype=np.int64)
        found = [(mask, every)] if mask in self.setting.masks else []
        if mask == masks.WHOLE and masks.LOW in self.setting.masks_of(fold):
            found.append((masks.LOW, np.flatnonzero(self.setting.low[view.rows.gene])))
        return found

    def _table(
        self, fold: int, mask: str, view: View, predicted: NDArray[np.float64],
        reference: Mapping[str, NDArray[np.float64]], calibration: Calibration | None,
    ) -> pd.DataFrame:  # fmt: skip
        problem, (row, tissue) = self.problem, np.nonzero(view.wanted)
        gene = view.rows.gene
        near = self._nearness(fold, gene)
        columns: dict[str, Any] = {
            name: problem.genes[name].to_numpy(object)[gene][row]
            for name in ("gene", "species", "family")
        }
        columns["contig"] = problem.places.names()[gene][row]
        if problem.several:
            columns["genotype"] = np.array(problem.values.genotypes, object)[view.rows.genotype][
                row
            ]
        columns["sample"] = np.array(problem.tissues, object)[tissue]
        columns["mask"] = np.full(len(row), mask, object)
        columns["y_true"] = view.value[row, tissue]
        columns["y_pred"] = predicted[row, tissue]
        floor = 0.0 if problem.unit.startswith("log2(1+") else -np.inf
        low = high = np.full(len(row), np.nan)
        if calibration is not None:
            reach = calibration.reach(predicted, str(view.mask[0]) if len(view.mask) else mask)
            low = np.maximum(predicted - reach, floor)[row, tissue]
            high = (predicted + reach)[row, tissue]
        columns |= {"y_low": low, "y_high": high}
        columns |= {"distance": near[0][row], "tandem": near[1][row]}
        columns |= {name: values[row, tissue] for name, values in reference.items()}
        return pd.DataFrame(columns)

    def _nearness(self, fold: int, genes: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[Any]]:
        """Distance to the nearest reference gene, and whether a tandem relative is among them."""
        one, places = self.setting.folds[fold], self.problem.places
        if isinstance(one, GeneFold):
            reference = np.concatenate([one.train, one.valid])
        else:
            reference = np.flatnonzero(self.problem.scored)
        return places.distance(genes, reference), places.tandem(genes, reference)


@dataclass
class Imputing:
    """Makes the folds of a run: what :class:`benchmarks.tasks.base.TaskData` calls ``folding``.

    Masks and references are made once for all learners of a seed.
    """

    problem: Problem
    sources: Mapping[str, BlockSource]
    asked: bool
    settings: dict[tuple[str, int], Setting]

    def __call__(self, aligned: AlignedSplit, seed: int, info: LearnerInfo) -> Folds:
        """Folds for a learner."""
        key = aligned.split.digest, seed
        if key not in self.settings:
            self.settings[key] = Setting(self.problem, aligned, seed, asked=self.asked)
        return Folds(self.settings[key], self.sources, "profile" in info.inputs)


def _view(rows: Rows, value: NDArray[np.float64], visible: Bools, wanted: Bools, mask: str) -> View:
    return View(rows, value, visible, wanted, np.full(len(rows), mask, object))


def _taken(view: View, at: NDArray[np.int64]) -> View:
    return View(
        view.rows.take(at), view.value[at], view.visible[at], view.wanted[at], view.mask[at]
    )


def _with_some(view: View) -> View:
    """Rows of which something is asked."""
    return _taken(view, np.flatnonzero(view.wanted.any(axis=1)))


def _stacked(views: Sequence[View]) -> View:
    def joined(of: Callable[[View], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([of(view) for view in views])

    rows = Rows(joined(lambda v: v.rows.gene), joined(lambda v: v.rows.genotype))
    return View(
        rows, joined(lambda v: v.value), joined(lambda v: v.visible), joined(lambda v: v.wanted),
        joined(lambda v: v.mask),
    )  # fmt: skip


def _rows(reference: Mapping[str, NDArray[np.float64]], at: NDArray[np.int64]) -> dict[str, Any]:
    return {name: values[at] for name, values in reference.items()}
