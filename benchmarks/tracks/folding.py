"""Folds of task ``tracks``: windows that are learned from, and what was predicted of stretches under test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.tracks.signals import Signals
from benchmarks.splits.artefact import AlignedSplit, Sides
from benchmarks.tasks.base import Predict
from benchmarks.tracks.genes import TssBins, near_relatives
from benchmarks.tracks.regions import (
    TEST,
    TRAIN,
    VALID,
    Regions,
    make_regions,
    sides_of_bins,
)
from benchmarks.tracks.scoring import Scoring
from benchmarks.tracks.sources import GENOME, TRACKS, SignalSource, WindowSource
from benchmarks.tracks.tiles import Layout, Span, Tiles, around, tile
from featurestore.errors import InputError
from featurestore.sequence.long_windows import LongWindows
from learners.base import LearnerInfo
from learners.batch import Block, FeatureBatch


@dataclass(frozen=True)
class Problem:
    """What all learners share: genomes, signals, genes, and how long windows are.

    ``tilings`` is how often training stretches are covered with windows; ``learn_from`` says whether
    these lie side by side ("tiles") or around each TSS ("genes").
    """

    genomes: Mapping[str, LongWindows]
    signals: Signals
    genes: TssBins
    layout: Layout
    tilings: int = 1
    learn_from: str = "tiles"


@dataclass(frozen=True)
class FoldBins:
    """One fold.

    Parameters
    ----------
    learn : mapping of side (0 training, 1 validation) to mapping of species to bool array per bin
        Bins that may be learned from.
    train, valid, test : Tiles
    genes : int64 array
        Genes under test.
    stretch_of : int64 array
        Stretch in which each begins.
    relatives, masked : int
        Genes whose family is under test, and bins near them that are not learned from.
    """

    learn: Mapping[int, Mapping[str, NDArray[np.bool_]]]
    train: Tiles
    valid: Tiles
    test: Tiles
    genes: NDArray[np.int64]
    stretch_of: NDArray[np.int64]
    relatives: int
    masked: int


@dataclass
class Setting:
    """Stretches of one repeat, with the folds that were looked at."""

    problem: Problem
    regions: Regions
    _folds: dict[int, FoldBins] = field(default_factory=dict)

    @cached_property
    def stretch_of(self) -> NDArray[np.int64]:
        """Row of the stretch in which each gene begins, shape (gene,); −1 without a place."""
        genes, size = self.problem.genes, self.problem.signals.bin_bp
        found = np.full(len(genes.bin), -1, np.int64)
        placed = genes.placed
        for (species, contig), rows in self.regions.table.groupby(["species", "contig"]):
            here = placed[(placed["species"] == species) & (placed["contig"] == contig)]
            starts = rows["start"].to_numpy(np.int64) // size
            at = np.searchsorted(starts, here["bin"].to_numpy(np.int64), side="right") - 1
            found[here["row"].to_numpy(np.int64)] = rows.index.to_numpy(np.int64)[at]
        return found

    def fold(self, number: int) -> FoldBins:
        """One fold; the latest is kept."""
        if number not in self._folds:
            self._folds.clear()
            self._folds[number] = self._made(number)
        return self._folds[number]

    def _made(self, number: int) -> FoldBins:
        problem, table = self.problem, self.regions.table
        tested = np.flatnonzero(self.regions.side(number) == TEST)
        under = np.isin(self.stretch_of, tested)
        family = pd.factorize(problem.genes.genes["family"])[0]
        kin = np.isin(family, np.unique(family[under]))
        near = near_relatives(problem.genes.genes, kin, problem.signals)
        side = sides_of_bins(self.regions, problem.signals, number)
        learn = {
            one: {name: (bins == one) & ~near[name] for name, bins in side.items()}
            for one in (TRAIN, VALID)
        }
        masked = sum(int(((bins != TEST) & near[name]).sum()) for name, bins in side.items())
        train, valid = (self._learning(side, one, learn[one]) for one in (TRAIN, VALID))
        rows = np.flatnonzero(under & np.isfinite(problem.genes.mean).any(axis=1))
        relatives = int((kin & ~under & (problem.genes.bin >= 0)).sum())
        return FoldBins(
            learn, train, valid, tile(self._under_test(table, tested), problem.layout), rows,
            self.stretch_of[rows], relatives, masked,
        )  # fmt: skip

    def _learning(
        self, side: Mapping[str, NDArray[np.int8]], one: int,
        learn: Mapping[str, NDArray[np.bool_]],
    ) -> Tiles:  # fmt: skip
        """Windows over what lies together on one side, but for those with nothing to learn.

        Of windows around genes, those of the genes that may be learned from.
        """
        signals, spans = self.problem.signals, []
        for name, here in signals.species.items():
            for contig, at in here.first.items():
                bins = side[name][at : at + here.bins(contig, signals.bin_bp)] == one
                edges = np.flatnonzero(np.diff(np.concatenate([[0], bins.view(np.int8), [0]])))
                spans += [
                    Span(name, contig, low, high) for low, high in edges.reshape(-1, 2).tolist()
                ]
        tilings = self.problem.tilings if one == TRAIN else 1
        if self.problem.learn_from == "genes":
            tiles = around(self._places(spans, learn), self.problem.layout, tilings)
        else:
            tiles = tile(spans, self.problem.layout, tilings)
        starts = [
            signals.species[str(s)].first[str(c)]
            for s, c in zip(tiles.species, tiles.contig, strict=True)
        ]
        some = [
            bool(learn[str(species)][at + low : at + high].any())
            for species, at, low, high in zip(
                tiles.species, starts, tiles.low.tolist(), tiles.high.tolist(), strict=True
            )
        ]
        return tiles.take(np.flatnonzero(some).astype(np.int64))

    def _places(
        self, spans: list[Span], learn: Mapping[str, NDArray[np.bool_]]
    ) -> list[tuple[Span, int]]:  # fmt: skip
        """Bins at a TSS that may be learned from, each with its span."""
        signals, found = self.problem.signals, []
        placed = self.problem.genes.placed.groupby(["species", "contig"])
        genes = {key: rows["bin"].to_numpy(np.int64) for key, rows in placed}
        for span in spans:
            bins = np.unique(genes.get((span.species, span.contig), np.zeros(0, np.int64)))
            bins = bins[(bins >= span.start) & (bins < span.end)]
            at = signals.species[span.species].first[span.contig]
            found += [(span, int(one)) for one in bins if learn[span.species][at + one]]
        return found

    def _under_test(self, table: pd.DataFrame, rows: NDArray[np.int64]) -> list[Span]:
        """Stretches under test, with a bin more on either side: a TSS may stand at the very edge."""
        signals, spans = self.problem.signals, []
        for row in rows.tolist():
            one = table.iloc[row]
            here, size = signals.species[one["species"]], signals.bin_bp
            start, end = int(one["start"]) // size, -(-int(one["end"]) // size)
            end = min(end + 1, here.bins(one["contig"], size))
            spans.append(Span(one["species"], one["contig"], max(start - 1, 0), end, row))
        return spans


@dataclass
class TrackFolds:
    """The folds of a run."""

    setting: Setting
    rows: str = "windows"
    _sums: dict[int, pd.DataFrame] = field(default_factory=dict)

    @property
    def folds(self) -> range:
        """As many as the split has."""
        return range(self.setting.regions.count)

    @property
    def notes(self) -> tuple[str, ...]:
        """How folds are made."""
        table = self.setting.regions.table
        told = ", ".join(f"{n:,}" for n in np.bincount(table["fold"], table["genes"]).astype(int))
        return (
            f"folds are {len(table):,} stretches of the genome, not the families of the split: {told} "
            "genes begin in those under test; bins near their relatives are not learned from",
        )

    def identity(self) -> dict[str, Any]:
        """Stretches with their digest."""
        regions = self.setting.regions
        return {"regions": {"digest": regions.digest, **regions.recipe}}

    def sides(self, fold: int) -> Sides:
        """Numbers of the windows on each side."""
        one = self.setting.fold(fold)
        train, valid, test = (
            np.arange(len(tiles), dtype=np.int64) for tiles in (one.train, one.valid, one.test)
        )
        return Sides(train, valid, test, np.zeros(0, np.int64))

    def told(self, fold: int) -> list[str]:
        """Bins that are kept out of training."""
        one = self.setting.fold(fold)
        if not one.masked:
            return []
        known = sum(int(b.sum()) for of in one.learn.values() for b in of.values())
        share = 100 * one.masked / (known + one.masked)
        return [
            f"fold {fold}: {one.masked:,} of {known + one.masked:,} bins ({share:.1f} %) outside the "
            f"stretches under test are not learned from: they lie near genes under test or near one of "
            f"{one.relatives:,} genes of their families"
        ]

    def batches(self, fold: int) -> tuple[FeatureBatch, FeatureBatch]:
        """Windows that are learned from and validated on."""
        one = self.setting.fold(fold)
        return self._batch(one.train, one.learn[TRAIN]), self._batch(one.valid, one.learn[VALID])

    def _batch(self, tiles: Tiles, learn: Mapping[str, NDArray[np.bool_]] | None) -> FeatureBatch:
        """Windows; without ``learn`` no label is in reach."""
        problem = self.setting.problem
        signal = SignalSource(tiles, problem.signals, learn)
        rows = np.arange(len(tiles), dtype=np.int64)
        targets = None if learn is None else _means(signal)
        family = np.char.add(np.char.add(tiles.species, ":"), tiles.contig)
        return FeatureBatch(
            blocks={
                GENOME: Block(WindowSource(tiles, problem.genomes), rows),
                TRACKS: Block(signal, rows),
            },
            gene=tiles.names, species=tiles.species, family=family, targets=targets,
            mask=None if targets is None else np.isfinite(targets),
            target_names=problem.signals.names,
        )  # fmt: skip

    def predict(self, fold: int, learner: Any, predict: Predict) -> pd.DataFrame:
        """One row per gene under test and track."""
        one, problem = self.setting.fold(fold), self.setting.problem
        scoring = Scoring(
            one.test, self.setting.regions.table, problem.genes, one.genes, one.stretch_of,
            problem.signals,
        )  # fmt: skip
        if learner is not None:
            batch = self._batch(one.test, None)
            for index, tracks in learner.predict_tracks(batch):
                values = _checked(np.asarray(tracks), len(index), batch)
                for row, window in zip(np.asarray(index).tolist(), values, strict=True):
                    scoring.add(row, window)
            scoring.check()
        self._sums[fold] = scoring.sums()
        return scoring.predictions()

    def sums(self, fold: int) -> pd.DataFrame:
        """Sums over the bins of a fold that was predicted, by stretch and track."""
        return self._sums[fold]

    def facts(self, fold: int) -> dict[str, Any]:
        """Nothing."""
        return {}

    def save(self, folder: Path) -> None:
        """Write the stretches beside the run."""
        folder.mkdir(parents=True, exist_ok=True)
        self.setting.regions.write(folder / "regions.parquet")


def _means(signal: SignalSource) -> NDArray[np.float64]:
    """Mean of each track over the bins of each window that may be learned from; NaN where none."""
    out = np.full((len(signal), signal.shape[1]), np.nan)
    for row in range(len(signal)):
        values = signal.read(np.array([row], np.int64))[0]
        known = values >= 0
        count = known.sum(axis=0)
        total = np.where(known, values, 0).sum(axis=0, dtype=np.float64)
        out[row, count > 0] = total[count > 0] / count[count > 0]
    return out


def _checked(
    tracks: NDArray[np.float32], rows: int, batch: FeatureBatch
) -> NDArray[np.float32]:  # fmt: skip
    wanted = (rows, *batch.blocks[TRACKS].source.shape)
    if tracks.shape != wanted:
        raise ValueError(f"predict_tracks gave shape {tracks.shape}, expected {wanted}")
    if not np.isfinite(tracks).all():
        raise ValueError(
            f"predict_tracks gave {int((~np.isfinite(tracks)).sum()):,} values that are NaN or infinite"
        )
    return tracks


@dataclass
class TrackFolding:
    """Makes the folds of a run: what :class:`benchmarks.tasks.base.TaskData` calls ``folding``.

    Stretches are cut once for all learners of a seed.
    """

    problem: Problem
    stretch: int | None = None
    settings: dict[tuple[int, int], Setting] = field(default_factory=dict)

    def __call__(self, aligned: AlignedSplit, seed: int, info: LearnerInfo) -> TrackFolds:
        """Folds for a learner."""
        if not re.fullmatch(r"families-\d+fold", aligned.split.name):
            raise InputError(
                f"--split {aligned.split.name} is not for task tracks, which cuts genomes into stretches "
                "and keeps families apart itself: give families-5fold, or another number of folds"
            )
        key = len(aligned.folds), aligned.repeat
        if key not in self.settings:
            one = self.problem
            regions = make_regions(one.signals, one.genes.placed, *key, self.stretch)
            self.settings[key] = Setting(one, regions)
        return TrackFolds(self.settings[key])
