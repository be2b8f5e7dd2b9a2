"""Task ``tracks``: predict tracks along the genome from long windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import Features
from benchmarks.inputs.tracks.signals import read_signals
from benchmarks.tasks.base import Predict, TaskData
from benchmarks.tracks.folding import Problem, TrackFolding
from benchmarks.tracks.genes import tss_bins
from benchmarks.tracks.tiles import layout_of
from featurestore.errors import InputError, unknown_name
from featurestore.sequence.long_windows import LongWindows
from learners.base import LearnerInfo
from learners.batch import FeatureBatch

WINDOW: Final = 196_608
LEARN_FROM: Final = ("tiles", "genes")
UNIT: Final = "log2(1+signal)"


class TracksTask:
    """Mean signal of bins from windows of the genome; scored at the TSS of genes, and over all bins.

    Parameters
    ----------
    tracks : Path, optional
        Table of tracks; needed to run, not to score.
    window : int
        Bases that a learner sees at a time.
    bin : int
        Bases of a bin.
    stretch : int, optional
        Bases of the stretches that folds are made of, about.
    tilings : int
        Times that what is learned from is covered with windows, in other surroundings each time.
    learn_from : {"tiles", "genes"}
        Whether what is learned from is covered with windows side by side, or there are windows around
        each TSS alone. What is under test is covered side by side always.
    """

    name: ClassVar[str] = "tracks"
    summary: ClassVar[str] = "predict tracks (bigWig) along the genome from long windows"
    default_target: ClassVar[str] = "tss"

    def __init__(
        self, tracks: Path | None = None, window: int = WINDOW, bin: int = 128,  # an option's name
        stretch: int | None = None, tilings: int = 1, learn_from: str = "tiles",
    ) -> None:  # fmt: skip
        self._table, self._stretch = tracks, stretch
        self._tilings, self._learn_from = tilings, learn_from
        self._layout = layout_of(window, bin)
        if stretch is not None and stretch < 64 * bin:
            raise InputError(f"--stretch {stretch:,}: give at least {64 * bin:,} bp (64 bins)")
        if learn_from not in LEARN_FROM:
            raise unknown_name("--learn-from", learn_from, LEARN_FROM)
        if not 1 <= tilings <= self._layout.bins:
            raise InputError(
                f"--tilings {tilings}: give 1 to {self._layout.bins} (bins of a window)"
            )

    def prepare(
        self, store: Any, species: Sequence[str], genes: pd.DataFrame, features: Features,
        target: str,
    ) -> TaskData:  # fmt: skip
        """Read tracks and lay them over the genes."""
        if target != self.default_target:
            raise InputError(
                f"--target {target} is not for task tracks: its targets are the tracks"
            )
        if self._table is None:
            raise InputError(
                "--task tracks needs a table of bigWig files or values: --tracks FILE (docs/tracks.md)"
            )
        genomes = {name: LongWindows(store, name) for name in species}
        contigs = {name: dict(genome.contigs) for name, genome in genomes.items()}
        signals = read_signals(self._table, contigs, store.species, self._layout.bin_bp)
        at = tss_bins(genes, signals)
        truth = at.truth
        scored = np.asarray(np.isfinite(truth).any(axis=1), np.bool_)
        reason = [
            why or ("" if known else "no track is measured at its TSS")
            for why, known in zip(at.reason, scored, strict=True)
        ]
        layout = self._layout
        identity = {**signals.identity(), "window": layout.window, "target_bins": layout.bins}
        if self._tilings > 1:
            identity["tilings"] = self._tilings
        if self._learn_from != "tiles":
            identity["learn_from"] = self._learn_from
        return TaskData(
            batch=FeatureBatch(
                blocks={},
                gene=genes["gene"].to_numpy(str),
                species=genes["species"].to_numpy(str),
                family=genes["family"].to_numpy(str),
                targets=truth,
                mask=np.isfinite(truth),
                target_names=signals.names,
            ),
            genes=genes,
            scored=scored,
            reason=reason,
            unit=UNIT,
            notes=list(signals.notes),
            extra={"identity": {"tracks": identity}},
            folding=TrackFolding(
                Problem(genomes, signals, at, layout, self._tilings, self._learn_from),
                self._stretch,
            ),
        )

    def predict(self, data: TaskData, rows: NDArray[np.int64], predict: Predict) -> pd.DataFrame:
        """Not by sides of a split: the folds of the task predict."""
        raise NotImplementedError("the folds of this task predict: TaskData.folding")

    def evaluate(
        self, predictions: pd.DataFrame, *, unit: str, bootstrap: int, seed: int
    ) -> pd.DataFrame:
        """Metrics over genes, of all tracks and of each."""
        from benchmarks.tracks.metrics import evaluate

        return evaluate(predictions, unit=unit, bootstrap=bootstrap, seed=seed)

    def evaluate_sums(self, sums: pd.DataFrame, *, bootstrap: int, seed: int) -> pd.DataFrame:
        """Metrics over bins, of each track."""
        from benchmarks.tracks.metrics import evaluate_bins

        return evaluate_bins(sums, bootstrap=bootstrap, seed=seed)


def check_learner(cls: type[Any]) -> None:
    """Refuse a learner that does not predict bin by bin.

    Raises
    ------
    InputError
    """
    info: LearnerInfo = cls.info
    if not hasattr(cls, "predict_tracks") or not {"long", "signal"} <= set(info.inputs):
        raise InputError(
            f"{info.name} does not predict tracks bin by bin (predict_tracks), which task tracks needs; "
            "use enformer (bench learners lists what each takes), or --task expression"
        )
