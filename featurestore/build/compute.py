"""Runs an embedder over the bins of a range of genes: each distinct input once, in fixed batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse import DIGEST_BYTES, as_keys, input_digests
from featurestore.build.slots import check_going_on, model_turn
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
SoFar = Callable[[int, dict[str, list[NDArray[Any]]]], None]
"""Takes the number of inputs embedded so far, and their vectors."""


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


def run_model(
    embedder: Embedder, inputs: NDArray[np.uint8], sofar: SoFar | None = None
) -> dict[str, list[NDArray[Any]]]:
    """Embed inputs of shape (n, input_bp) in batches of fixed size, the last one padded with N.

    A fixed shape keeps a row's value free of its neighbours. An embedder that says ``pads_itself``
    sees to that on its own, at a size that suits its device. Nothing but the model is run while
    the slot is held: what it gives is joined and cast afterwards, when another task has the slot.

    Returns
    -------
    by output, vectors batch by batch as the embedder gave them
    """
    size, shapes = embedder.spec.batch, embedder.spec.shapes()
    pads = embedder.spec.costly and not getattr(embedder, "pads_itself", False)
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in shapes}
    with model_turn() if embedder.spec.costly else nullcontext():
        for start in range(0, len(inputs), size):
            batch = inputs[start : start + size]
            count = len(batch)
            if count < size and pads:
                filler = np.full((size - count, batch.shape[1]), N, np.uint8)
                batch = np.concatenate([batch, filler])
            result = embedder.embed(batch)
            for name, shape in shapes.items():
                values = result[name]
                if values.shape != (expected := (len(batch), *shape)):
                    raise MeristemError(
                        f"embedder {embedder.spec.type!r} gave {name!r} of shape {values.shape} where {expected} belongs"
                    )
                parts[name].append(values[:count])
            check_going_on()
            if sofar is not None:
                sofar(start + count, parts)
    return parts


def joined(embedder: Embedder, parts: dict[str, list[NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Batches of :func:`run_model` as one array by output, float16; overflow becomes infinity."""
    out: dict[str, NDArray[Any]] = {}
    for name, shape in embedder.spec.shapes().items():
        pieces = parts[name]
        table = out[name] = np.empty((sum(map(len, pieces)), *shape), STORED)
        at = 0
        with np.errstate(over="ignore"):  # reported as a failure where it is looked for
            for piece in pieces:
                table[at : at + len(piece)] = piece
                at += len(piece)
    return out


def in_batches(embedder: Embedder, codes: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Vectors of inputs of shape (n, input_bp), by output, shape (n, …) float16."""
    return joined(embedder, run_model(embedder, codes))


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
    countable = valid & (codes.min(axis=-1, initial=N) < 4)
    digest = input_digests(codes, valid)
    flat, at = codes.reshape(-1, codes.shape[-1]), np.flatnonzero(countable)
    everywhere = len(at) == countable.size
    vectors, computed, reused = embed_distinct(
        embedder,
        lambda wanted: flat if everywhere and len(wanted) == len(flat) else flat[at[wanted]],
        digest.reshape(-1, DIGEST_BYTES)[at],
        known,
        keep,
    )
    status = np.full(lengths.shape, Status.OK, np.uint8)
    status[~countable.any(axis=-1)] = Status.NO_SEQUENCE
    status[lengths == 0] = Status.ABSENT
    result = EmbeddedRange({}, status, digest, valid, computed, reused)
    _check_finite(vectors, countable, status, first, result.failures)
    for name, shape in embedder.spec.shapes().items():
        full = vectors.pop(name)  # where every bin is countable, this is the array already
        if not everywhere:
            packed, full = full, np.zeros((countable.size, *shape), STORED)
            full[at] = packed
        full = result.outputs[name] = full.reshape(*valid.shape, *shape)
        if (bad := status != Status.OK).any():
            full[bad] = np.nan
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
    representative, inverse = first_occurrences(digest)
    have = np.zeros(len(representative), bool)
    found: dict[str, NDArray[Any]] = {}
    if known is not None and len(representative):
        have, found = known(digest[representative].reshape(-1, DIGEST_BYTES))
    wanted = representative if not have.any() else representative[~have]
    kept, last = 0, time.monotonic()

    def sofar(stop: int, parts: dict[str, list[NDArray[Any]]]) -> None:
        nonlocal kept, last
        if keep is None or stop >= len(wanted) or time.monotonic() - last <= KEEP_SECONDS:
            return
        fresh = {n: v[kept:stop] for n, v in joined(embedder, parts).items()}
        keep(digest[wanted[kept:stop]], fresh)
        kept, last = stop, time.monotonic()

    inputs = codes(wanted) if len(wanted) else np.zeros((0, 0), np.uint8)
    vectors = joined(embedder, run_model(embedder, inputs, sofar if keep else None))
    if have.any():
        for name, fresh in vectors.items():
            vectors[name] = np.empty((len(have), *fresh.shape[1:]), STORED)
            vectors[name][have], vectors[name][~have] = found[name], fresh
    if inverse is not None:
        vectors = {name: values[inverse] for name, values in vectors.items()}
    return vectors, len(wanted), len(digest) - len(wanted)


def first_occurrences(
    digest: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Where each distinct digest stands first, in order, and which of them each one is.

    Returns
    -------
    positions, int64 (m,); number of its digest by input, int64 (n,), None where all are distinct
    """
    count = len(digest)
    # Half the digest mostly tells all apart, and numbers are sorted far faster than bytes.
    half = np.ascontiguousarray(digest).view(np.uint64)[:, 0]
    if len(np.unique(half)) == count:
        return np.arange(count), None
    _, first, inverse = np.unique(as_keys(digest), return_index=True, return_inverse=True)
    if len(first) == count:
        return np.arange(count), None
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return first[order].astype(np.int64), rank[inverse]


_EXPONENT: Final = np.uint16(0x7C00)
_SIGN_OFF: Final = np.uint16(0x7FFF)
_LOOK_ROWS: Final = 1024


def _not_finite(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows of a float16 array (n, …) hold a NaN or an infinity, shape (n,)."""
    bits = values.reshape(len(values), -1).view(np.uint16)
    bad = np.zeros(len(bits), bool)
    for at in range(0, len(bits), _LOOK_ROWS):  # by pieces that stay in the cache
        piece = bits[at : at + _LOOK_ROWS] & _SIGN_OFF
        if piece.size and piece.max() >= _EXPONENT:
            bad[at : at + _LOOK_ROWS] = piece.max(axis=1) >= _EXPONENT
    return bad


def _check_finite(
    vectors: Mapping[str, NDArray[Any]],
    countable: NDArray[np.bool_],
    status: NDArray[np.uint8],
    first: int,
    failures: list[str],
) -> None:
    """Mark regions with a vector that float16 cannot hold, and say which."""
    for name, values in vectors.items():
        bad = _not_finite(values)
        if not bad.any():
            continue
        gene, region, _ = np.nonzero(countable)
        for g, r in sorted(set(zip(gene[bad].tolist(), region[bad].tolist(), strict=True))):
            status[g, r] = Status.FAILED
            failures.append(
                f"gene {first + g}, region {r}: {name} is not finite in float16 (overflow past 65,504 or NaN)"
            )
