"""What a learner reads of windows: base codes, and the signal of their target bins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs.tracks.binning import UNKNOWN
from benchmarks.inputs.tracks.signals import Signals
from benchmarks.tracks.tiles import Tiles
from featurestore.sequence.long_windows import LongWindows

GENOME: Final = "genome"
TRACKS: Final = "tracks"
"""Names of the two blocks."""

_SHARD: Final = 64


class _Rows:
    """What both sources share."""

    valid: NDArray[np.bool_] | None = None
    shape: tuple[int, ...]

    def __init__(self, tiles: Tiles) -> None:
        self.tiles = tiles
        self.coords: Mapping[str, NDArray[Any]] = {}
        self.shard_start = np.arange(0, max(len(tiles), 1), _SHARD, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.tiles)


class WindowSource(_Rows):
    """Forward-strand IUPAC codes of whole windows, N off the contig: kind ``long``, shape (window,)."""

    kind = "long"
    dims: tuple[str, ...] = ("position",)
    dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __init__(self, tiles: Tiles, genomes: Mapping[str, LongWindows]) -> None:
        super().__init__(tiles)
        self.genomes = genomes
        self.shape = (tiles.layout.window,)

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Codes of windows in the order asked for."""
        length = self.tiles.layout.window
        out = np.empty((len(rows), length), np.uint8)
        centre = self.tiles.start + length // 2
        for i, row in enumerate(rows.tolist()):
            genome = self.genomes[str(self.tiles.species[row])]
            out[i] = genome.read(str(self.tiles.contig[row]), int(centre[row]), 1, length)
        return out


class SignalSource(_Rows):
    """Mean signal of target bins: kind ``signal``, shape (bin, track), −1 where nothing is to be learned.

    Parameters
    ----------
    learn : mapping of species to bool array, one per bin of its signal, optional
        Bins that may be learned from; without it nothing is told at all, as where a learner predicts.

    Attributes
    ----------
    bin_bp : int
    head_of : tuple of str
        Species of each track.
    strand_of : int64 array, shape (track,)
        1, −1, or 0 for both strands or neither.
    opposite : tuple of int
        Of each track the one that it becomes where the sequence is turned.
    """

    kind = "signal"
    dims: tuple[str, ...] = ("bin", "track")
    dtype: np.dtype[Any] = np.dtype(np.float32)

    def __init__(
        self, tiles: Tiles, signals: Signals, learn: Mapping[str, NDArray[np.bool_]] | None = None
    ) -> None:
        super().__init__(tiles)
        self._signals = signals if learn is not None else None
        self._learn = learn or {}
        self.shape = (tiles.layout.bins, len(signals.tracks))
        self.coords = {"track": np.array(signals.names, np.str_)}
        self.bin_bp, self.head_of = signals.bin_bp, signals.head_of
        self.strand_of, self.opposite = signals.strand_of, signals.opposite

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Signal of windows in the order asked for."""
        out = np.full((len(rows), *self.shape), UNKNOWN, np.float32)
        if self._signals is None:
            return out
        tiles = self.tiles
        for i, row in enumerate(rows.tolist()):
            species, contig = str(tiles.species[row]), str(tiles.contig[row])
            first, low, high = int(tiles.first[row]), int(tiles.low[row]), int(tiles.high[row])
            at = self._signals.species[species].first[contig]
            known = self._learn[species][at + low : at + high]
            part = self._signals.read(species, contig, low, high - low)
            part[~known] = UNKNOWN
            out[i, low - first : high - first] = part
        return out
