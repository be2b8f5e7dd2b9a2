"""Reading for a shuffle by blocks: one run of the order at a time, in the order of the files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.loader.gather import Gatherer
from featurestore.loader.order import Share


class Runs:
    """Gives the rows of batches out of runs of the epoch's order, each of which is read whole.

    Parameters
    ----------
    gatherer : Gatherer
    order : int64 array, shape (n,)
        From :func:`featurestore.loader.order.block_permutation`.
    buffer_rows : int
        Rows of a run; of these the rank's own are read.
    share : Share
    """

    def __init__(
        self, gatherer: Gatherer, order: NDArray[np.int64], buffer_rows: int, share: Share
    ) -> None:
        self._gatherer, self._order, self._size = gatherer, order, buffer_rows
        self._place = np.empty(len(order), np.int64)
        self._place[order] = np.arange(len(order))
        self._ranks, self._rank, self._batch_size = share.world_size, share.rank, share.batch_size
        self._held: dict[int, tuple[NDArray[np.int64], dict[str, NDArray[Any]]]] = {}

    def fill(self, index: NDArray[np.int64], out: Mapping[str, NDArray[Any]]) -> None:
        """Rows at these positions, in the order given."""
        run = self._place[index] // self._size
        for number in np.unique(run).tolist():
            here = np.flatnonzero(run == number)
            rows, values = self._run(number)
            place = np.searchsorted(rows, index[here])
            for name, held in values.items():
                out[name][here] = held[place]
        for number in [n for n in self._held if n < run.max()]:
            del self._held[number]

    def _run(self, number: int) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        if number not in self._held:
            span = slice(number * self._size, (number + 1) * self._size)
            place = np.arange(len(self._order))[span]
            own = place % (self._ranks * self._batch_size) % self._ranks == self._rank
            rows = np.sort(self._order[span][own])
            values = self._gatherer.arrays(len(rows))
            self._gatherer.fill(rows, values)
            self._held[number] = rows, values
        return self._held[number]
