"""Draws by name: the same gene and tissue draw the same number, wherever they stand in a file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]


def keys_of(names: Iterable[str], *purpose: object) -> Keys:
    """A number of 64 bits for each name, by seed and purpose.

    Parameters
    ----------
    names : iterable of str
    *purpose
        What is drawn, and the seed: other words give independent numbers.
    """
    start = hashlib.blake2b("\t".join(map(str, purpose)).encode(), digest_size=16).digest()
    raw = b"".join(
        hashlib.blake2b(str(name).encode(), digest_size=8, key=start).digest() for name in names
    )
    return np.frombuffer(raw, "<u8").astype(np.uint64)


def gene_names(species: NDArray[np.object_], gene: NDArray[np.object_]) -> list[str]:
    """Names of genes that differ between species."""
    return [f"{one}\t{name}" for one, name in zip(species, gene, strict=True)]


def crossed(rows: Keys, columns: Keys) -> Keys:
    """A number for each pair, shape (rows, columns): splitmix64 of both."""
    with np.errstate(over="ignore"):
        mixed = rows[:, None] ^ _finish(columns + np.uint64(0x9E3779B97F4A7C15))[None, :]
        return _finish(mixed)


def _finish(x: Keys) -> Keys:
    """The finaliser of splitmix64 (Steele, Lea & Flood 2014): every bit depends on every bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)), np.uint64)


def lowest(draws: Keys, known: NDArray[np.bool_], count: NDArray[np.int64]) -> NDArray[np.bool_]:
    """The ``count`` known entries of each row whose draws are lowest, shape (n, t)."""
    top = np.uint64(np.iinfo(np.uint64).max)
    order = np.argsort(np.where(known, draws, top), axis=1, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(draws.shape[1])[None, :], axis=1)
    return np.asarray(known & (rank < count[:, None]), np.bool_)
