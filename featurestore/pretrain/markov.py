"""Baselines of a masked model: the base given its neighbours, counted in the training sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.pretrain.corpus import Corpus
from featurestore.sequence.iupac import COMPLEMENT, N

BASELINES: Final = {
    "base composition": (0, 0),
    "Markov, 5 bases before": (5, 0),
    "4 bases before and 4 after": (4, 4),
    "5 bases before and 5 after": (5, 5),
}
"""Neighbours before and after, by name."""

_PIECE: Final = 1 << 22


def contexts(
    code: NDArray[np.uint8], left: int, right: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The number of each base's neighbours, and whether base and neighbours all are A, C, G or T.

    Parameters
    ----------
    code : uint8 array, shape (…, length)
        Neighbours are taken along the last axis; beyond its ends there are none.
    left, right : int
        Neighbours before and after the base.

    Returns
    -------
    key : int64 array, shape (…, length)
        0 … 4^(left + right) − 1 where known.
    known : bool array, shape (…, length)
    """
    length = code.shape[-1]
    key, known = np.zeros(code.shape, np.int64), code < N
    for offset in (*range(-left, 0), *range(1, right + 1)):
        neighbour = np.full_like(code, N)
        if offset < 0:
            neighbour[..., -offset:] = code[..., : max(length + offset, 0)]
        else:
            neighbour[..., : max(length - offset, 0)] = code[..., offset:]
        key = key * 4 + (neighbour & 3)
        known &= neighbour < N
    return key, known


@dataclass(frozen=True)
class Neighbours:
    """P(base | ``left`` bases before it, ``right`` bases after it), with add-one smoothing.

    ``right = 0`` is a Markov chain of order ``left``; ``left = right = 0`` the base composition.

    Parameters
    ----------
    left, right : int
    counts : int64 array, shape (4^(left + right), 4)
    """

    left: int
    right: int
    counts: NDArray[np.int64]

    @classmethod
    def fit(cls, corpus: Corpus, left: int, right: int, *, both_strands: bool) -> Neighbours:
        """Count a corpus, as it reads or with its reverse complement."""
        size = 4 ** (left + right)
        counts = np.zeros(size * 4, np.int64)
        for code in _pieces(corpus, left + right):
            for strand in (code, COMPLEMENT[code[::-1]]) if both_strands else (code,):
                key, known = contexts(strand, left, right)
                counts += np.bincount(key[known] * 4 + strand[known], minlength=size * 4)
        return cls(left, right, counts.reshape(size, 4))

    def log_probability(
        self, code: NDArray[np.uint8], at: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Log-probability (natural) of the bases where ``at``, both of shape (…, length); neighbours must be known."""
        key, _ = contexts(code, self.left, self.right)
        found = self.counts[key[at]]
        own = np.take_along_axis(found, code[at][:, None].astype(np.int64), 1)[:, 0]
        result: NDArray[np.float64] = np.log(own + 1) - np.log(found.sum(1) + 4)
        return result


def _pieces(corpus: Corpus, gap: int) -> list[NDArray[np.uint8]]:
    """Records with N between them, about :data:`_PIECE` bases at a time."""
    pieces: list[NDArray[np.uint8]] = []
    pending: list[NDArray[np.uint8]] = []
    held, wall = 0, np.full(gap, N, np.uint8)
    for i in range(len(corpus.start)):
        pending += [corpus.record(i), wall]
        held += int(corpus.length[i])
        if held >= _PIECE:
            pieces.append(np.concatenate(pending))
            pending, held = [], 0
    return [*pieces, np.concatenate(pending)] if pending else pieces
