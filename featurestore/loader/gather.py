"""Reads the rows of a batch from the sources of one or several species, straight into its memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.loader.buffers import BufferPool
from featurestore.loader.order import Rows

LEAST_BYTES: Final = 1 << 20
"""A thread is given no less than this of a batch: below, handing over costs more than copying."""


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
    threads : int
        Threads that one batch is read with.
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
        threads: int = 1,
        cache_bytes: int = 0,
        spare: int = 4,
    ) -> None:
        self._sources = [dict(one) for one in sources]
        self._species, self._row = species, row
        first = sources[0]
        self.shapes = {name: tuple(source.shape) for name, source in first.items()}
        self.dtypes = {name: source.dtype for name, source in first.items()}
        self._row_bytes = {
            name: int(np.prod(self.shapes[name])) * dtype.itemsize
            for name, dtype in self.dtypes.items()
        }
        self._pool = BufferPool(spare)
        self._threads = ThreadPoolExecutor(threads, "meristem-gather") if threads > 1 else None
        self._pieces = threads
        self._to_hold = len(row) * sum(self._row_bytes.values()) <= cache_bytes

    def arrays(self, n: int) -> dict[str, NDArray[Any]]:
        """Memory for ``n`` rows of each feature."""
        return {
            name: self._pool.array((n, *shape), self.dtypes[name])
            for name, shape in self.shapes.items()
        }

    def fill(self, positions: Rows, out: Mapping[str, NDArray[Any]]) -> None:
        """Read the rows at these positions into ``out``, in the order given."""
        if self._to_hold:
            self._hold()
        for name, values in out.items():
            pieces = min(self._pieces, len(positions) * self._row_bytes[name] // LEAST_BYTES)
            if self._threads is None or pieces < 2:
                self._fill(name, positions, values)
                continue
            cuts = np.linspace(0, len(positions), pieces + 1).astype(int).tolist()
            spans = [slice(a, b) for a, b in pairwise(cuts)]
            waiting = [
                self._threads.submit(self._fill, name, positions[span], values[span])
                for span in spans[1:]
            ]
            self._fill(name, positions[spans[0]], values[spans[0]])
            for one in waiting:
                one.result()

    def _fill(self, name: str, positions: Rows, out: NDArray[Any]) -> None:
        rows = self._row[positions]
        if len(self._sources) == 1:
            read_into(self._sources[0][name], rows, out)
            return
        species = self._species[positions]
        for number in np.unique(species).tolist():
            here = species == number
            out[here] = self._sources[number][name].read(rows[here])

    def _hold(self) -> None:
        """Put everything into memory, once."""
        for number, features in enumerate(self._sources):
            rows = np.sort(self._row[self._species == number])
            for name, source in features.items():
                features[name] = _Held(source, rows)
        self._to_hold = False

    def close(self) -> None:
        """Let the threads go."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
