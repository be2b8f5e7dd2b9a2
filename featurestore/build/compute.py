"""Runs an embedder over the bins of a range of genes: each distinct input once, in fixed batches."""

from __future__ import annotations

import time
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
"""Digests (n, 16) → which are known (n,), and by output their vectors (k, …)."""
Keep = Callable[[NDArray[np.uint8], dict[str, NDArray[Any]]], None]
"""Takes digests (n, 16) and by output their vectors (n, …): work that a kill must not lose."""

KEEP_SECONDS = 60.0
"""A kill loses at most about this much of the work on a shard."""
PART_BATCHES = 8
"""Batches between two looks at the clock."""


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


def in_batches(embedder: Embedder, codes: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Embed inputs of shape (n, input_bp) in batches of fixed size, the last one padded with N.

    A fixed shape keeps a row's value free of its neighbours. An embedder that says ``pads_itself``
    sees to that on its own, at a size that suits its device.
    """
    size = embedder.spec.batch
    pads = embedder.spec.costly and not getattr(embedder, "pads_itself", False)
    collected: dict[str, list[NDArray[Any]]] = {name: [] for name in embedder.spec.shapes()}
    for start in range(0, len(codes), size):
        batch = codes[start : start + size]
        if (short := size - len(batch)) and pads:
            batch = np.concatenate([batch, np.full((short, batch.shape[1]), N, np.uint8)])
        result = embedder.embed(batch)
        for name, shape in embedder.spec.shapes().items():
            values = result[name]
            if values.shape != (expected := (len(batch), *shape)):
                raise MeristemError(
                    f"embedder {embedder.spec.type!r} gave {name!r} of shape {values.shape} where {expected} belongs"
                )
            collected[name].append(values[: len(codes) - start])
    return {
        name: np.concatenate(collected[name])
        if collected[name]
        else np.zeros((0, *shape), np.float32)
        for name, shape in embedder.spec.shapes().items()
    }


def embed_range(
    embedder: Embedder,
    source: WindowSource,
    first: int,
    last: int,
    known: Lookup | None = None,
    keep: Keep | None = None,
) -> EmbeddedRange:
    """Embed genes ``first`` … ``last`` − 1.

    A bin without a countable base gives zeros; one whose vector is not finite in float16 makes
    its region's status ``failed``, with NaN in all its bins. ``keep`` is handed what has been
    computed so far, every :data:`KEEP_SECONDS`.
    """
    codes = source.bin_inputs(first, last, embedder.spec.input_bp)
    lengths = np.asarray(source.region_length[first:last])
    valid = bin_validity(lengths, source.regions, source.bin_bp)
    countable = valid & (codes < 4).any(axis=-1)
    digest = input_digests(codes, valid)
    flat = codes[countable]
    vectors, computed, reused = embed_distinct(
        embedder, lambda wanted: flat[wanted], digest[countable], known, keep
    )

    status = np.full(lengths.shape, Status.OK, np.uint8)
    status[~countable.any(axis=-1)] = Status.NO_SEQUENCE
    status[lengths == 0] = Status.ABSENT
    result = EmbeddedRange({}, status, digest, valid, computed, reused)
    _check_finite(vectors, countable, status, first, result.failures)
    for name, shape in embedder.spec.shapes().items():
        full = np.zeros((*valid.shape, *shape), STORED)
        full[countable] = vectors[name]
        full[status != Status.OK] = np.nan
        result.outputs[name] = full
    return (
        _over_regions(result, lengths, source.bin_bp)
        if embedder.spec.context == "region"
        else result
    )


def _over_regions(result: EmbeddedRange, lengths: NDArray[Any], bin_bp: int) -> EmbeddedRange:
    """One bin a region: the mean over its bins, each weighted by the bases it holds of the region."""
    bins = result.valid.shape[2]
    bases = np.clip(lengths[..., None] - np.arange(bins) * bin_bp, 0, bin_bp)
    weight = bases / np.maximum(bases.sum(-1, keepdims=True), 1)
    for name, values in result.outputs.items():
        shaped = weight.reshape(*weight.shape, *(1,) * (values.ndim - 3))
        mean = (values.astype(np.float32) * shaped).sum(axis=2, keepdims=True)
        result.outputs[name] = mean.astype(STORED)
    joined = result.digest.reshape(*result.digest.shape[:2], -1)
    valid: NDArray[np.bool_] = np.asarray(result.valid.any(axis=2))
    result.digest = input_digests(joined, valid)[:, :, None]
    result.valid = valid[..., None]
    return result


def embed_distinct(
    embedder: Embedder,
    codes: Callable[[NDArray[np.int64]], NDArray[np.uint8]],
    digest: NDArray[np.uint8],
    known: Lookup | None,
    keep: Keep | None = None,
) -> tuple[dict[str, NDArray[Any]], int, int]:
    """Vectors of inputs, in order; each distinct one looked up or computed once.

    Parameters
    ----------
    codes : called with positions (k,) among the inputs
        Gives their codes, shape (k, input_bp).
    digest : uint8 array, shape (n, 16)
    keep : called with digests and vectors of what was computed since it was last called

    Returns
    -------
    vectors by output, shape (n, …) float16; inputs computed; inputs reused
    """
    _, representative, inverse = np.unique(as_keys(digest), return_index=True, return_inverse=True)
    have = np.zeros(len(representative), bool)
    found: dict[str, NDArray[Any]] = {}
    if known is not None and len(representative):
        have, found = known(digest[representative].reshape(-1, DIGEST_BYTES))
    wanted = representative[~have].astype(np.int64)
    vectors = {
        name: np.empty((len(representative), *shape), STORED)
        for name, shape in embedder.spec.shapes().items()
    }
    for name, values in found.items():
        vectors[name][have] = values
    at = np.flatnonzero(~have)
    step = PART_BATCHES * embedder.spec.batch
    kept, last = 0, time.monotonic()
    for start in range(0, len(wanted), step):
        fresh = in_batches(embedder, codes(wanted[start : start + step]))
        stop = min(start + step, len(wanted))
        # Overflow becomes infinity, which is reported as a failure.
        with np.errstate(over="ignore"):
            for name, values in fresh.items():
                vectors[name][at[start:stop]] = values.astype(STORED)
        if keep is not None and stop < len(wanted) and time.monotonic() - last > KEEP_SECONDS:
            keep(digest[wanted[kept:stop]], {n: v[at[kept:stop]] for n, v in vectors.items()})
            kept, last = stop, time.monotonic()
    done = int((~have).sum())
    return {name: values[inverse] for name, values in vectors.items()}, done, len(inverse) - done


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
