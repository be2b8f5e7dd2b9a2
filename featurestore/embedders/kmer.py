"""``kmer``: k-mer frequencies of each bin, stranded or canonical."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.errors import InputError

MAX_K: Final = 8


def kmer_names(k: int) -> list[str]:
    """All 4^k words in the order of their number, A C G T = 0 … 3, first base most significant."""
    return ["".join(word) for word in product("ACGT", repeat=k)]


def canonical_columns(k: int) -> tuple[list[str], NDArray[np.int64]]:
    """Canonical words (the smaller of word and reverse complement) and the column of every word."""
    words = kmer_names(k)
    partner = str.maketrans("ACGT", "TGCA")
    canonical = [min(w, w.translate(partner)[::-1]) for w in words]
    names = sorted(set(canonical))
    column = {name: i for i, name in enumerate(names)}
    return names, np.array([column[c] for c in canonical], np.int64)


class Kmer:
    """Frequencies of every k-mer among the countable k-mers of a bin.

    Parameters
    ----------
    k : int or sequence of int
        Word lengths, each 1 … 8.
    canonical : bool
        Count a word and its reverse complement as one. Default false: promoters have a direction.
    """

    def __init__(self, k: int | Sequence[int] = (1, 2, 3), canonical: bool = False) -> None:
        sizes = (k,) if isinstance(k, int) else tuple(k)
        if not sizes or any(not isinstance(x, int) or not 1 <= x <= MAX_K for x in sizes):
            raise InputError(
                f"kmer: k = {k!r}; give one or several whole numbers from 1 to {MAX_K}, e.g. k = [1, 2, 3]"
            )
        self.k = sizes
        self.canonical = bool(canonical)
        self._maps = {x: canonical_columns(x) for x in sizes} if self.canonical else {}
        self.channels = [
            n for x in sizes for n in (self._maps[x][0] if self.canonical else kmer_names(x))
        ]
        self.spec = EmbedderSpec(
            type="kmer",
            outputs={"embedding": len(self.channels)},
            input_bp=None,
            rc_rule="canonical: a word counts with its reverse complement"
            if canonical
            else "stranded",
            iupac_rule="a word with a base other than A C G T is not counted",
            pooling="frequency among the countable words of each length in the bin",
            parameters={"k": list(sizes), "canonical": self.canonical},
            # Counts are held as n × 4^k numbers: long words mean smaller batches.
            batch=min(4096, max(16, 2**25 // 4 ** max(sizes))),
            costly=False,
        )

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Frequencies, shape (n, length) → (n, channels); zeros where no word is countable."""
        return {"embedding": np.concatenate([self._frequencies(codes, k) for k in self.k], axis=1)}

    def _frequencies(self, codes: NDArray[np.uint8], k: int) -> NDArray[np.float32]:
        n, length = codes.shape
        width = 4**k
        if length < k:
            return np.zeros((n, len(self._maps[k][0]) if self.canonical else width), np.float32)
        word = np.zeros((n, length - k + 1), np.int32)
        countable = np.ones(word.shape, bool)
        for i in range(k):
            base = codes[:, i : length - k + 1 + i]
            word = word * 4 + (base & 3)
            countable &= base < 4
        # Uncountable words go to a column of their own that is cut off again.
        row = np.arange(n, dtype=np.int64)[:, None] * (width + 1)
        column = (np.where(countable, word, width) + row).ravel()
        counts = np.bincount(column, minlength=n * (width + 1)).reshape(n, width + 1)[:, :width]
        if self.canonical:
            names, column_of = self._maps[k]
            folded = np.zeros((n, len(names)), counts.dtype)
            for number, target in enumerate(column_of.tolist()):
                folded[:, target] += counts[:, number]
            counts = folded
        total = counts.sum(axis=1, keepdims=True)
        frequency: NDArray[np.float32] = (counts / np.maximum(total, 1)).astype(np.float32)
        return frequency
