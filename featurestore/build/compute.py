"""Runs an embedder over the bins of a range of genes: each distinct input once, in fixed batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse import DIGEST_BYTES, as_keys, input_digests
from featurestore.build.window_source import WindowSource
from featurestore.embedders.base import Embedder
from featurestore.errors import MeristemError
from featurestore.schema import Status
from featurestore.sequence.iupac import N
from featurestore.sequence.windows import bin_validity

STORED = np.dtype("<f2")
Lookup = Callable[[NDArray[np.uint8]], tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]]
"""Digests (n, 16) → which are known (n,), and by output their vectors (k, channels)."""


@dataclass
class EmbeddedRange:
    """What the shard of an embedder holds.

    ``outputs`` by name, shape (gene, region, bin[, channel]) float16; ``status`` (gene, region);
    ``digest`` (gene, region, bin, 16); ``valid`` (gene, region, bin).
    """

    outputs: dict[str, NDArray[Any]]
    status: NDArray[np.uint8]
    digest: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    computed: int = 0
    reused: int = 0
    failures: list[str] = field(default_factory=list)


def in_batches(
    embedder: Embedder, codes: NDArray[np.uint8], outputs: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    """Embed inputs of shape (n, input_bp) in batches of fixed size, the last one padded with N.

    A fixed shape keeps a row's value free of its neighbours.
    """
    size = embedder.spec.batch
    collected: dict[str, list[NDArray[Any]]] = {name: [] for name in outputs}
    for start in range(0, len(codes), size):
        batch = codes[start : start + size]
        if (short := size - len(batch)) and embedder.spec.costly:
            batch = np.concatenate([batch, np.full((short, batch.shape[1]), N, np.uint8)])
        result = embedder.embed(batch)
        for name, channels in outputs.items():
            values = result[name]
            expected = (len(batch), channels) if channels else (len(batch),)
            if values.shape != expected:
                raise MeristemError(
                    f"embedder {embedder.spec.type!r} gave {name!r} of shape {values.shape} where {expected} belongs"
                )
            collected[name].append(values[: len(codes) - start])
    empty = {name: np.zeros((0, c) if c else (0,), np.float32) for name, c in outputs.items()}
    return {
        name: np.concatenate(parts) if parts else empty[name] for name, parts in collected.items()
    }


def embed_range(
    embedder: Embedder, source: WindowSource, first: int, last: int, known: Lookup | None = None
) -> EmbeddedRange:
    """Embed genes ``first`` … ``last`` − 1.

    A bin without a countable base gives zeros; one whose vector is not finite in float16 makes
    its region's status ``failed``, with NaN in all its bins.
    """
    outputs = dict(embedder.spec.outputs)
    codes = source.bin_inputs(first, last, embedder.spec.input_bp)
    lengths = np.asarray(source.region_length[first:last])
    valid = bin_validity(lengths, source.regions, source.bin_bp)
    countable = valid & (codes < 4).any(axis=-1)
    digest = input_digests(codes, valid)
    flat = codes[countable]
    vectors, computed, reused = embed_distinct(
        embedder, lambda wanted: flat[wanted], digest[countable], outputs, known
    )

    status = np.full(lengths.shape, Status.OK, np.uint8)
    status[~countable.any(axis=-1)] = Status.NO_SEQUENCE
    status[lengths == 0] = Status.ABSENT
    result = EmbeddedRange({}, status, digest, valid, computed, reused)
    _check_finite(vectors, countable, status, first, result.failures)
    for name, channels in outputs.items():
        full = np.zeros((*valid.shape, channels) if channels else valid.shape, STORED)
        full[countable] = vectors[name]
        full[status != Status.OK] = np.nan
        result.outputs[name] = full
    return result


def embed_distinct(
    embedder: Embedder,
    codes: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    digest: NDArray[np.uint8],
    outputs: Mapping[str, int],
    known: Lookup | None,
) -> tuple[dict[str, NDArray[Any]], int, int]:
    """Vectors of inputs, in order; each distinct one looked up or computed once.

    Parameters
    ----------
    codes : called with positions (k,) among the inputs
        Gives their codes, shape (k, input_bp).
    digest : uint8 array, shape (n, 16)

    Returns
    -------
    vectors by output, shape (n[, channels]) float16; inputs computed; inputs reused
    """
    _, representative, inverse = np.unique(as_keys(digest), return_index=True, return_inverse=True)
    have = np.zeros(len(representative), bool)
    found: dict[str, NDArray[Any]] = {}
    if known is not None and len(representative):
        have, found = known(digest[representative].reshape(-1, DIGEST_BYTES))
    wanted = representative[~have].astype(np.int64)
    fresh = in_batches(
        embedder, codes(wanted) if len(wanted) else np.zeros((0, 0), np.uint8), outputs
    )
    vectors = {}
    for name, channels in outputs.items():
        distinct = np.empty(
            (len(representative), channels) if channels else len(representative), STORED
        )
        with np.errstate(
            over="ignore"
        ):  # overflow becomes infinity, which is reported as a failure
            distinct[~have] = fresh[name].astype(STORED)
        if have.any():
            distinct[have] = found[name]
        vectors[name] = distinct[inverse]
    return vectors, int((~have).sum()), len(inverse) - int((~have).sum())


def _check_finite(
    vectors: Mapping[str, NDArray[Any]],
    countable: NDArray[np.bool_],
    status: NDArray[np.uint8],
    first: int,
    failures: list[str],
) -> None:
    """Mark regions with a vector that float16 cannot hold, and say which."""
    gene, region, _ = np.nonzero(countable)
    for name, values in vectors.items():
        bad = (
            ~np.isfinite(values.reshape(len(values), -1)).all(axis=1)
            if len(values)
            else np.zeros(0, bool)
        )
        for g, r in sorted(set(zip(gene[bad].tolist(), region[bad].tolist(), strict=True))):
            status[g, r] = Status.FAILED
            failures.append(
                f"gene {first + g}, region {r}: {name} is not finite in float16 (overflow past 65,504 or NaN)"
            )
