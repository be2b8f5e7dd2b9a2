"""Finds bins that were embedded before: model inputs are keyed by content.

The same bases under the same embedder are never computed twice: not for duplicated genes, not
after an annotation update, not for a second haplotype.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from featurestore.build.windows.window_kernels import DIGEST_BYTES, kernels


def input_digests(codes: NDArray[np.uint8], wanted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """BLAKE2b-128 of each model input.

    Parameters
    ----------
    codes : uint8 array, shape (…, input_bp)
    wanted : bool array, shape (…)
        Others get zeros.

    Returns
    -------
    uint8 array, shape (…, 16)
    """
    out = np.zeros((*wanted.shape, DIGEST_BYTES), np.uint8)
    flat, target = codes.reshape(-1, codes.shape[-1]), out.reshape(-1, DIGEST_BYTES)
    if (compiled := kernels(codes.nbytes)) is not None:
        compiled.digests(flat, wanted.ravel(), target)
        return out
    for i in np.flatnonzero(wanted.ravel()).tolist():
        value = hashlib.blake2b(flat[i].tobytes(), digest_size=DIGEST_BYTES).digest()
        target[i] = np.frombuffer(value, np.uint8)
    return out


def as_keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    """Digests of shape (n, 16) as n comparable items of 16 bytes."""
    return np.ascontiguousarray(digests).view(np.dtype((np.void, DIGEST_BYTES))).ravel()


def as_numbers(digests: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Digests of shape (n, 16) as pairs of numbers in the same order, shape (n, 2)."""
    pairs = np.ascontiguousarray(digests).reshape(-1, DIGEST_BYTES).view(">u8")
    return pairs.astype(np.uint64)


@dataclass(frozen=True)
class KnownBins:
    """Where vectors of an embedder lie, by input digest.

    Parameters
    ----------
    keys : uint64 array, shape (m, 2)
        Digests as :func:`as_numbers` gives them, sorted, each once.
    place : int64 array, shape (m,)
        Position of each key in the flattened grid of the source, (gene, region, bin) or (row,).
    """

    keys: NDArray[np.uint64]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, digests: NDArray[np.uint8], usable: NDArray[np.bool_]) -> KnownBins:
        """Index digests of shape (…, 16), ``usable`` (…)."""
        place = np.flatnonzero(usable.ravel()).astype(np.int64)
        keys = as_numbers(digests.reshape(-1, DIGEST_BYTES)[place])
        order = np.lexsort((keys[:, 1], keys[:, 0]))
        keys = keys[order]
        new = np.ones(len(keys), bool)
        new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
        return cls(keys[new], place[order[new]])

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Place of each digest of shape (n, 16), or −1."""
        wanted = as_numbers(digests)
        found = np.full(len(wanted), -1, np.int64)
        if not len(self.keys):
            return found
        first = self.keys[:, 0]
        at = np.searchsorted(first, wanted[:, 0])
        open_ = np.arange(len(wanted))
        while len(open_):  # a second round only where two digests share their first half
            open_ = open_[at[open_] < len(first)]
            open_ = open_[first[at[open_]] == wanted[open_, 0]]
            hit = self.keys[at[open_], 1] == wanted[open_, 1]
            found[open_[hit]] = self.place[at[open_[hit]]]
            open_ = open_[~hit]
            at[open_] += 1
        return found
