"""What is kept of predicted windows: amounts at genes, and sums over bins. No window is kept whole."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.tracks.signals import Signals
from benchmarks.tracks.genes import AROUND, TssBins
from benchmarks.tracks.tiles import Tiles

Floats = NDArray[np.float64]

SUMS: Final = ("n", "y", "p", "yy", "pp", "yp", "ly", "lp", "lyy", "lpp", "lyp")
"""Sums over bins: count; observed, predicted, squares, products; the same of log2(1 + x)."""


class Scoring:
    """Takes predicted windows of one fold as they come.

    Parameters
    ----------
    tiles : Tiles
        Windows under test.
    stretches : DataFrame
        ``species, contig, start, end`` (bp); ``Tiles.stretch`` are its rows.
    genes : TssBins
    rows : int64 array
        Genes under test.
    stretch_of : int64 array, shape (len(rows),)
        Stretch in which each of them begins.
    signals : Signals
    """

    def __init__(
        self, tiles: Tiles, stretches: pd.DataFrame, genes: TssBins, rows: NDArray[np.int64],
        stretch_of: NDArray[np.int64], signals: Signals,
    ) -> None:  # fmt: skip
        self.tiles, self.signals, self._genes = tiles, signals, genes
        self.stretches = stretches
        self._used = np.unique(tiles.stretch)
        tracks = len(signals.tracks)
        self._sums = np.zeros((len(self._used), len(SUMS), tracks))
        self.rows = rows
        self._total = np.zeros((len(rows), tracks))
        self._known = np.zeros((len(rows), tracks))
        self._inside = [np.flatnonzero(stretch_of == one) for one in self._used.tolist()]
        self._seen = np.zeros(len(tiles), np.int64)

    def add(self, row: int, predicted: NDArray[np.float32]) -> None:
        """One window, shape (bin, track)."""
        tiles = self.tiles
        first, low, high = int(tiles.first[row]), int(tiles.low[row]), int(tiles.high[row])
        contig = str(tiles.contig[row])
        y = self.signals.read(str(tiles.species[row]), contig, low, high - low).astype(np.float64)
        p = predicted[low - first : high - first].astype(np.float64)
        number = int(np.searchsorted(self._used, tiles.stretch[row]))
        self._add_genes(number, low, high, y, p)
        span = self.stretches.iloc[int(tiles.stretch[row])]
        size = self.signals.bin_bp
        start = max(int(span["start"]) // size - low, 0)
        end = min(-(-int(span["end"]) // size), high) - low
        self._sums[number] += _sums(y[start:end], p[start:end])
        self._seen[row] += 1

    def _add_genes(self, number: int, low: int, high: int, y: Floats, p: Floats) -> None:
        of = self._inside[number]
        at = self._genes.bin[self.rows[of]]
        for offset in range(-AROUND, AROUND + 1):
            here = np.flatnonzero((at + offset >= low) & (at + offset < high))
            bins = at[here] + offset - low
            known = y[bins] >= 0
            self._total[of[here]] += np.where(known, p[bins], 0.0)
            self._known[of[here]] += known

    def check(self) -> None:
        """Refuse predictions that leave windows out or give some twice."""
        if (self._seen != 1).any():
            lost, twice = int((self._seen == 0).sum()), int((self._seen > 1).sum())
            raise ValueError(
                f"predict_tracks gave {lost} of {len(self._seen)} windows not at all and {twice} more "
                "than once; it is to give each row of the batch once"
            )

    def predictions(self) -> pd.DataFrame:
        """One row for each gene under test and track that is measured there."""
        truth = self._genes.truth[self.rows]
        gene, track = np.nonzero(np.isfinite(truth))
        with np.errstate(invalid="ignore"):
            # Amounts below zero are none.
            mean = np.maximum(self._total / np.maximum(self._known, 1), 0.0)
        frame = self._genes.genes.iloc[self.rows[gene]]
        columns = {name: frame[name].to_numpy(object) for name in ("gene", "species", "family")}
        columns["contig"] = frame["contig"].to_numpy(object)
        columns["sample"] = np.array(self.signals.names, object)[track]
        columns["y_true"] = truth[gene, track]
        columns["y_pred"] = np.log2(1 + mean[gene, track])
        return pd.DataFrame(columns)

    def sums(self) -> pd.DataFrame:
        """One row for each stretch under test and track of its species: sums over its bins."""
        names, heads = np.array(self.signals.names, object), self.signals.head_of
        parts = []
        for number, one in enumerate(self._used.tolist()):
            span = self.stretches.iloc[one]
            own = [i for i, head in enumerate(heads) if head == span["species"]]
            part = pd.DataFrame(self._sums[number][:, own].T, columns=list(SUMS))
            place = {name: span[name] for name in ("species", "contig", "start", "end")}
            parts.append(part.assign(**place, track=names[own]))
        columns = ["species", "contig", "start", "end", "track", *SUMS]
        if not parts:
            return pd.DataFrame(columns=columns)
        return pd.concat(parts, ignore_index=True)[columns]


def _sums(y: Floats, p: Floats) -> Floats:
    """Sums over the bins that are known, shape (len(SUMS), track)."""
    known = y >= 0
    y, p = np.where(known, y, 0.0), np.where(known, p, 0.0)
    ly, lp = np.log2(1 + y), np.log2(1 + np.maximum(p, 0.0))
    terms = (known, y, p, y * y, p * p, y * p, ly, lp, ly * ly, lp * lp, ly * lp)
    return np.stack([term.sum(axis=0, dtype=np.float64) for term in terms])
