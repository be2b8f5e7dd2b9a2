"""Folds of imputation: what a learner is handed, and what it predicted of the entries under test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation import masks
from benchmarks.imputation.batches import profile_blocks, view_batch
from benchmarks.imputation.conformal import Calibration, calibrate
from benchmarks.imputation.designs import GeneFold
from benchmarks.imputation.problem import Problem
from benchmarks.imputation.references import references
from benchmarks.imputation.setting import Setting
from benchmarks.imputation.views import View, learning_views, test_views
from benchmarks.splits.artefact import AlignedSplit, Sides
from benchmarks.tasks.base import Predict
from learners.base import Budget, LearnerInfo
from learners.batch import Block, BlockSource, FeatureBatch


@dataclass
class Folds:
    """The folds of a problem for learners of one kind and one set of features.

    Parameters
    ----------
    setting : Setting
    sources : mapping of feature to BlockSource, rows as genes
    profiles : bool
        Whether the learner takes profiles and places.
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

    def facts(self, fold: int) -> dict[str, Any]:
        """The scales of the intervals, by scenario."""
        intervals = self._intervals.get(fold, {})
        told = []
        if not intervals and fold == self.folds[0]:
            told = [
                "the learner gives no predictions of validation rows that it had not seen (held_out), so "
                "its imputed values have no interval"
            ]
        return {"intervals": intervals, "notes": told}

    def batches(self, fold: int) -> tuple[FeatureBatch, FeatureBatch]:
        """What is learned from and validated on."""
        train, valid = learning_views(self.setting, fold)
        asked = self.setting.asked_of(fold)
        return self._batch(train, asked), self._batch(valid, asked)

    def _batch(self, view: View, asked: frozenset[str]) -> FeatureBatch:
        blocks = profile_blocks(self.problem, view, asked) if self.profiles else {}
        blocks |= {name: Block(source, view.rows.gene) for name, source in self.sources.items()}
        return view_batch(self.problem, view, blocks)

    def predict(self, fold: int, learner: Any, predict: Predict) -> pd.DataFrame:
        """One row per entry under test, by the fitted learner, with interval and references."""
        _, valid = learning_views(self.setting, fold)
        calibration = calibrate(learner, valid.value, valid.wanted, valid.mask)
        self._intervals[fold] = {} if calibration is None else calibration.facts()
        asked = self.setting.asked_of(fold)
        parts = []
        for view in test_views(self.setting, fold):
            predicted = predict(self._batch(view, asked).without_targets())
            reference = references(self.setting, fold, view, self.budget)
            for name, at in self._scored_as(fold, view):
                chosen = {key: values[at] for key, values in reference.items()}
                parts.append(
                    self._table(fold, name, view.take(at), predicted[at], chosen, calibration)
                )
        return pd.concat(parts, ignore_index=True)

    def _scored_as(self, fold: int, view: View) -> list[tuple[str, NDArray[np.int64]]]:
        """Masks whose entries a view holds, each with its rows."""
        mask = view.name or self.setting.scenarios(fold)[0]
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
        distance, tandem = self._nearness(fold, gene)
        columns: dict[str, Any] = {
            name: problem.genes[name].to_numpy(object)[gene][row]
            for name in ("gene", "species", "family")
        }
        columns["contig"] = problem.places.names()[gene][row]
        if problem.several:
            names = np.array(problem.values.genotypes, object)
            columns["genotype"] = names[view.rows.genotype][row]
        columns["sample"] = np.array(problem.tissues, object)[tissue]
        columns["mask"] = np.full(len(row), mask, object)
        columns["y_true"] = view.value[row, tissue]
        columns["y_pred"] = predicted[row, tissue]
        low = high = np.full(len(row), np.nan)
        if calibration is not None:
            reach = calibration.reach(predicted, view.name)
            low = np.maximum(predicted - reach, floor_of(problem.unit))[row, tissue]
            high = (predicted + reach)[row, tissue]
        columns |= {"y_low": low, "y_high": high}
        columns |= {"distance": distance[row], "tandem": tandem[row]}
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


def floor_of(unit: str) -> float:
    """Least value there can be: 0 in log2(1 + x), no bound where the table's own unit is a logarithm."""
    return 0.0 if unit.startswith("log2(1+") else -np.inf


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
