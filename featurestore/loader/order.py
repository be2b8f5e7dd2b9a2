"""Which rows come when: permutations that follow from seed and epoch alone, and each rank's share.

Only raw 64-bit draws of PCG64 are used, seeded through ``SeedSequence``: NumPy promises these
never to change, on any platform, which it does not promise of ``Generator.permutation``
(NEP 19).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


def _draws(n: int, seed: int, epoch: int, use: int) -> NDArray[np.uint64]:
    """``n`` raw draws, apart for each seed, epoch and use."""
    return np.random.PCG64(np.random.SeedSequence([seed, epoch, use])).random_raw(n)


def permutation(n: int, seed: int, epoch: int) -> Rows:
    """A permutation of 0 … n − 1, the same on every platform.

    Parameters
    ----------
    n : int
    seed, epoch : int
        Not negative.

    Returns
    -------
    int64 array, shape (n,)
    """
    return np.argsort(_draws(n, seed, epoch, 0), kind="stable").astype(np.int64)


def block_permutation(block: Rows, buffer_rows: int, seed: int, epoch: int) -> Rows:
    """A permutation that stays within blocks: these in random order, mixed a buffer at a time.

    Rows of one block lie together on disk. Blocks are put in random order and cut into runs of
    ``buffer_rows`` rows; within a run the rows are in random order.

    Parameters
    ----------
    block : int64 array, shape (n,)
        Number of the block of each row, 0 … blocks − 1.
    buffer_rows : int
    seed, epoch : int
        Not negative.

    Returns
    -------
    int64 array, shape (n,)
    """
    n = len(block)
    blocks = int(block.max()) + 1 if n else 0
    place = np.empty(blocks, np.int64)
    place[np.argsort(_draws(blocks, seed, epoch, 1), kind="stable")] = np.arange(blocks)
    by_block = np.argsort(place[block], kind="stable")
    run = np.arange(n) // buffer_rows
    within = np.lexsort((_draws(n, seed, epoch, 2), run))
    return by_block[within].astype(np.int64)


@dataclass(frozen=True)
class Share:
    """The batches of one rank.

    Batch k of all ranks together is a run of ``batch_size * world_size`` rows of the epoch's
    order; a rank takes every ``world_size``-th of them, from its own number on. So every rank
    has as many batches as any other, of equal size; where the last run does not divide, a rank
    that would be one short repeats a row of the start.
    """

    rows: int
    batch_size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    @property
    def _step(self) -> int:
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.rows // self._step if self.drop_last else -(-self.rows // self._step)

    def take(self, order: Rows, batch: int) -> tuple[Rows, int]:
        """Rows of one batch, and how many at its end only repeat others (0 or 1)."""
        run = order[batch * self._step : (batch + 1) * self._step]
        own = run[self.rank :: self.world_size]
        short = -(-len(run) // self.world_size) - len(own)
        if short:
            own = np.append(own, order[self.rank % self.rows])
        return own, short
