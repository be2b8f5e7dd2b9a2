"""Windows of sequence for training, each batch a function of seed and step alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.pretrain.corpus import Corpus
from featurestore.sequence.iupac import N


@dataclass(frozen=True)
class Windows:
    """Windows of one batch.

    Parameters
    ----------
    code : uint8 array, shape (n, window)
        N beyond the ends of a record.
    repeat : bool array, shape (n, window), or None
    """

    code: NDArray[np.uint8]
    repeat: NDArray[np.bool_] | None


def generator(*key: int) -> np.random.Generator:
    """A stream of its own for each key; the same on every machine."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _gather(
    corpus: Corpus, rows: NDArray[np.int64], first: NDArray[np.int64], window: int
) -> Windows:
    low, high = corpus.start[rows][:, None], (corpus.start + corpus.length)[rows][:, None]
    at = first[:, None] + np.arange(window)
    inside = (at >= low) & (at < high)
    at = at.clip(0, len(corpus.code) - 1)
    code = np.where(inside, corpus.code[at], np.uint8(N))
    repeat = None if corpus.repeat is None else corpus.repeat[at] & inside
    return Windows(code, repeat)


def draw(corpus: Corpus, rng: np.random.Generator, count: int, window: int) -> Windows:
    """Windows around bases drawn evenly from all A, C, G and T of a corpus.

    A record shorter than the window stands in it whole, at a place drawn evenly. Strands are not
    drawn: the model is equivariant to the reverse complement, so that both give one gradient up
    to rounding.

    Raises
    ------
    InputError
        If nearly nothing of the corpus is A, C, G or T.
    """
    ends = np.cumsum(corpus.length)
    drawn = np.zeros(0, np.int64)
    for _ in range(64):
        more = rng.integers(0, ends[-1], count)
        rows = np.searchsorted(ends, more, side="right")
        base = corpus.start[rows] + more - (ends - corpus.length)[rows]
        drawn = np.concatenate([drawn, more[corpus.code[base] < N]])
        if len(drawn) >= count:
            break
    else:
        raise InputError("the sequence to pre-train on holds hardly any A, C, G or T")
    drawn = drawn[:count]
    rows = np.searchsorted(ends, drawn, side="right")
    base = corpus.start[rows] + drawn - (ends - corpus.length)[rows]
    one, other = corpus.start[rows], (corpus.start + corpus.length)[rows] - window
    first = base - rng.integers(0, window, count)
    return _gather(corpus, rows, first.clip(np.minimum(one, other), np.maximum(one, other)), window)


def tile(corpus: Corpus, window: int) -> tuple[Windows, NDArray[np.int64]]:
    """Windows that cover every record once, side by side, and the record of each.

    The last window of a record is filled with N.
    """
    count = -(-corpus.length // window)
    rows = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
    return _gather(corpus, rows, corpus.start[rows] + nth * window, window), rows
