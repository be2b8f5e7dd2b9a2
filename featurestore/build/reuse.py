"""Finds bins that were embedded before: model inputs are keyed by content.

The same bases under the same embedder are never computed twice: not for duplicated genes, not
after an annotation update, not for a second haplotype.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

DIGEST_BYTES: Final = 16


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
    for i in np.flatnonzero(wanted.ravel()).tolist():
        value = hashlib.blake2b(flat[i].tobytes(), digest_size=DIGEST_BYTES).digest()
        target[i] = np.frombuffer(value, np.uint8)
    return out


def as_keys(digests: NDArray[np.uint8]) -> NDArray[np.void]:
    """Digests of shape (n, 16) as n comparable items of 16 bytes."""
    return np.ascontiguousarray(digests).view(np.dtype((np.void, DIGEST_BYTES))).ravel()


@dataclass(frozen=True)
class KnownBins:
    """Vectors of an earlier store of the same embedder, by input digest.

    Parameters
    ----------
    keys : sorted void16 array, shape (m,)
    place : int64 array, shape (m,)
        Position of each key in the flattened grid of the source, (gene, region, bin) or (row,).
    """

    keys: NDArray[np.void]
    place: NDArray[np.int64]

    @classmethod
    def of(cls, digests: NDArray[np.uint8], usable: NDArray[np.bool_]) -> KnownBins:
        """Index digests of shape (…, 16), ``usable`` (…)."""
        place = np.flatnonzero(usable.ravel()).astype(np.int64)
        keys = as_keys(digests.reshape(-1, DIGEST_BYTES)[place])
        unique, first = np.unique(keys, return_index=True)
        return cls(unique, place[first])

    def find(self, digests: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Place of each digest of shape (n, 16), or −1."""
        wanted = as_keys(digests)
        if not len(self.keys):
            return np.full(len(wanted), -1, np.int64)
        at = np.searchsorted(self.keys, wanted).astype(np.int64)
        hit = at < len(self.keys)
        hit[hit] = self.keys[at[hit]] == wanted[hit]
        return np.where(hit, self.place[np.minimum(at, len(self.place) - 1)], -1)
