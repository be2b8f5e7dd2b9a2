"""Reads the rows of a batch from the sources of one or several species, straight into its memory."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.loader.buffers import BufferPool
from featurestore.loader.order import Rows


class RowSource(Protocol):
    """Rows of one feature, readable by number. May also have ``read_into(rows, out)``."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one row."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored dtype."""

    @property
    def shard_start(self) -> Rows:
        """First row of each shard, ascending from 0."""

    def read(self, rows: Rows) -> NDArray[Any]:
        """Rows in the order asked for, a new array."""


def read_into(source: RowSource, rows: Rows, out: NDArray[Any]) -> None:
    """Rows in the order asked for, into ``out``, without an array between where the source can."""
    direct = getattr(source, "read_into", None)
    if direct is None:
        out[...] = source.read(rows)
    else:
        direct(rows, out)


class _Held:
    """Some rows of a source, in memory."""

    def __init__(self, source: RowSource, rows: Rows) -> None:
        self.shape, self.dtype, self.shard_start = source.shape, source.dtype, source.shard_start
        self._values = source.read(rows)
        self._place = np.full(int(rows.max()) + 1 if len(rows) else 0, -1, np.int64)
        self._place[rows] = np.arange(len(rows))

    def read(self, rows: Rows) -> NDArray[Any]:
        taken: NDArray[Any] = self._values[self._place[rows]]
        return taken

    def read_into(self, rows: Rows, out: NDArray[Any]) -> None:
        # With mode="raise" numpy would fill a copy of out first.
        np.take(self._values, self._place[rows], axis=0, out=out, mode="clip")


class Gatherer:
    """Rows of several features over one or several species, by position.

    Parameters
    ----------
    sources : sequence of mapping of feature name to RowSource
        One mapping per species, all of the same features and row shapes.
    species, row : int64 arrays, shape (n,)
        Of each position: which mapping, and which row of its sources.
    cache_bytes : int
        Where all positions are no larger than this, they are read once and kept.
    spare : int
        Batches whose memory is kept for further ones.
    """

    def __init__(
        self,
        sources: Sequence[Mapping[str, RowSource]],
        species: Rows,
        row: Rows,
        *,
        cache_bytes: int = 0,
        spare: int = 4,
    ) -> None:
        self._sources = [dict(one) for one in sources]
        self._species, self._row = species, row
        first = sources[0]
        self.shapes = {name: tuple(source.shape) for name, source in first.items()}
        self.dtypes = {name: source.dtype for name, source in first.items()}
        row_bytes = sum(
            int(np.prod(self.shapes[name])) * dtype.itemsize for name, dtype in self.dtypes.items()
        )
        self._pool = BufferPool(spare)
        self._holding = threading.Lock()
        self._to_hold = len(row) * row_bytes <= cache_bytes

    def arrays(self, n: int) -> dict[str, NDArray[Any]]:
        """Memory for ``n`` rows of each feature."""
        return {
            name: self._pool.array((n, *shape), self.dtypes[name])
            for name, shape in self.shapes.items()
        }

    def fill(self, positions: Rows, out: Mapping[str, NDArray[Any]]) -> None:
        """Read the rows at these positions into ``out``, in the order given; by any thread.

        Positions of one species are best given together.
        """
        if self._to_hold:
            self._hold()
        for name, values in out.items():
            self._fill(name, positions, values)

    def _fill(self, name: str, positions: Rows, out: NDArray[Any]) -> None:
        rows = self._row[positions]
        if len(self._sources) == 1:
            read_into(self._sources[0][name], rows, out)
            return
        # Batches come species by species, so that each is read straight into its place.
        species = self._species[positions]
        cuts = [0, *(np.flatnonzero(np.diff(species)) + 1).tolist(), len(positions)]
        for start, end in pairwise(cuts):
            if end > start:
                source = self._sources[int(species[start])][name]
                read_into(source, rows[start:end], out[start:end])

    def _hold(self) -> None:
        """Put everything into memory, once."""
        with self._holding:
            if not self._to_hold:
                return
            for number, features in enumerate(self._sources):
                rows = np.sort(self._row[self._species == number])
                for name, source in features.items():
                    features[name] = _Held(source, rows)
            self._to_hold = False
