"""Runs an embedder over one long window a gene, never holding more of them than one batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse.digests import input_digests
from featurestore.build.shards.compute import STORED, EmbeddedRange, Keep, Lookup, embed_distinct
from featurestore.build.shards.scratch import Lend
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.windows.window_source import WindowSource
from featurestore.embedders.base import Embedder
from featurestore.schema import Status
from featurestore.sequence.iupac import N

AT_ONCE: Final = 16
"""Windows that are cut together to take their digests."""


class CutInputs:
    """Model inputs that are cut when a batch of them is wanted.

    Parameters
    ----------
    cut : called with positions (k,)
        Gives their codes, shape (k, input_bp).
    at : int64 array, shape (n,)
        Position of each input.
    """

    def __init__(
        self, cut: Callable[[NDArray[np.int64]], NDArray[np.uint8]], at: NDArray[np.int64]
    ) -> None:
        self._cut, self._at = cut, at

    def __len__(self) -> int:
        return len(self._at)

    def __getitem__(self, part: slice) -> NDArray[np.uint8]:
        at = self._at[part]
        return self._cut(at) if len(at) else np.empty((0, 0), np.uint8)


def digests_of(inputs: CutInputs) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Digest (n, 16) of each input, and whether it holds a base that counts (n,)."""
    digest = np.empty((len(inputs), DIGEST_BYTES), np.uint8)
    countable = np.empty(len(inputs), bool)
    for first in range(0, len(inputs), AT_ONCE):
        part = slice(first, min(first + AT_ONCE, len(inputs)))
        codes = inputs[part]
        digest[part] = input_digests(codes, np.ones(len(codes), bool))
        countable[part] = codes.min(axis=1) < N
    return digest, countable


def embed_genes(
    embedder: Embedder,
    source: WindowSource,
    first: int,
    last: int,
    known: Lookup | None = None,
    keep: Keep | None = None,
    lend: Lend = np.empty,
) -> EmbeddedRange:
    """Embed the windows of genes ``first`` … ``last`` − 1.

    Parameters
    ----------
    source : WindowSource
        Of one window a gene (:meth:`WindowSource.centred`).
    known, keep, lend
        As in :func:`~featurestore.build.shards.compute.embed_range`.
    """
    genes = np.arange(first, last, dtype=np.int64)
    digest, countable = digests_of(CutInputs(source.whole_inputs, genes))
    at = np.flatnonzero(countable)
    shapes = embedder.spec.shapes()
    filled = {name: lend((len(genes), *shape), STORED) for name, shape in shapes.items()}
    for values in filled.values():
        values[~countable] = np.nan
    computed, reused, bad = embed_distinct(
        embedder, lambda wanted: CutInputs(source.whole_inputs, genes[at[wanted]]), digest[at],
        filled, at, known, keep,
    )  # fmt: skip
    status = np.where(countable, Status.OK, Status.NO_SEQUENCE).astype(np.uint8)
    valid = np.repeat(countable[:, None], max(embedder.spec.positions, 1), axis=1)
    result = EmbeddedRange({}, status, digest, valid, computed, reused)
    for name, which in bad.items():
        for gene in at[which].tolist():
            status[gene] = Status.FAILED
            result.failures.append(
                f"gene {first + gene}: {name} is not finite in float16 (overflow past 65,504 or NaN)"
            )
    for name, values in filled.items():
        values[status != Status.OK] = np.nan
        result.outputs[name] = values.reshape(len(genes), *gene_shape(embedder, values.shape[1:]))
    return result


def gene_shape(embedder: Embedder, vector: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of what is stored of a gene, bins first, of an output whose vectors have this shape."""
    return vector if embedder.spec.positions else (1, *vector)
