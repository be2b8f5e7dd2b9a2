"""Runs an embedder over the bins of a range of genes: each distinct input once, in fixed batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse.digests import input_digests
from featurestore.build.shards.scratch import Lend
from featurestore.build.shards.slots import check_going_on, model_turn
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.windows.window_source import WindowSource
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
Parts = dict[str, list[NDArray[Any]]]
"""By output, vectors batch by batch as a model gave them."""
SoFar = Callable[[int, Parts], None]
"""Takes the number of inputs embedded so far, and their vectors; may take these away."""


class ModelInputs(Protocol):
    """Model inputs in order: an array of shape (n, input_bp), or what is cut as it is wanted."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> NDArray[np.uint8]: ...


@dataclass
class EmbeddedRange:
    """What the shard of an embedder holds.

    ``outputs`` by name, shape (gene, region, bin[, channel]) float16; ``status`` (gene, region);
    ``digest`` (gene, region, bin, 16); ``valid`` (gene, region, bin). Of an embedder of one window
    a gene, without region, and ``digest`` (gene, 16).
    """

    outputs: dict[str, NDArray[Any]]
    status: NDArray[np.uint8]
    digest: NDArray[np.uint8]
    valid: NDArray[np.bool_]
    computed: int = 0
    reused: int = 0
    failures: list[str] = field(default_factory=list)


def run_model(embedder: Embedder, inputs: ModelInputs, sofar: SoFar | None = None) -> Parts:
    """Embed inputs of shape (n, input_bp) in batches of fixed size, the last one padded with N.

    A fixed shape keeps a row's value free of its neighbours. An embedder that says ``pads_itself``
    sees to that on its own, at a size that suits its device, and may take fewer at a time there
    (``step``). Nothing but the model is run while
    the slot is held: what it gives is joined and cast afterwards, when another task has the slot.

    Returns
    -------
    by output, vectors batch by batch as the embedder gave them
    """
    size, shapes = getattr(embedder, "step", embedder.spec.batch), embedder.spec.shapes()
    pads = embedder.spec.costly and not getattr(embedder, "pads_itself", False)
    parts: Parts = {name: [] for name in shapes}
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


def joined(embedder: Embedder, parts: Parts) -> dict[str, NDArray[Any]]:
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


def in_batches(embedder: Embedder, codes: ModelInputs) -> dict[str, NDArray[Any]]:
    """Vectors of inputs of shape (n, input_bp), by output, shape (n, …) float16."""
    return joined(embedder, run_model(embedder, codes))


def embed_range(
    embedder: Embedder,
    source: WindowSource,
    first: int,
    last: int,
    known: Lookup | None = None,
    keep: Keep | None = None,
    lend: Lend = np.empty,
) -> EmbeddedRange:
    """Embed genes ``first`` … ``last`` − 1.

    A bin without a countable base gives zeros; one whose vector is not finite in float16 makes
    its region's status ``failed``, with NaN in all its bins. ``keep`` is handed what has been
    computed so far, every :data:`KEEP_SECONDS`. ``lend`` makes the big arrays.
    """
    codes = source.bin_inputs(first, last, embedder.spec.input_bp, lend)
    lengths = np.asarray(source.region_length[first:last])
    valid = bin_validity(lengths, source.regions, source.bin_bp)
    countable = valid & (codes.min(axis=-1, initial=N) < N)
    digest = input_digests(codes, valid)
    flat, at = codes.reshape(-1, codes.shape[-1]), np.flatnonzero(countable)
    filled = {
        name: lend((countable.size, *shape), STORED)
        for name, shape in embedder.spec.shapes().items()
    }
    if len(at) < countable.size:
        for values in filled.values():
            values[~countable.ravel()] = 0
    computed, reused, bad = embed_distinct(
        embedder, lambda wanted: rows_at(flat, at[wanted], lend), digest.reshape(-1, DIGEST_BYTES)[at],
        filled, at, known, keep,
    )  # fmt: skip
    status = np.full(lengths.shape, Status.OK, np.uint8)
    status[~countable.any(axis=-1)] = Status.NO_SEQUENCE
    status[lengths == 0] = Status.ABSENT
    result = EmbeddedRange({}, status, digest, valid, computed, reused)
    _tell_failures(bad, np.argwhere(countable), status, first, result.failures)
    for name, values in filled.items():
        full = values.reshape(*valid.shape, *values.shape[1:])
        if (without := status != Status.OK).any():
            full[without] = np.nan
        result.outputs[name] = full
    return (
        _over_regions(result, lengths, source.bin_bp)
        if embedder.spec.context == "region"
        else result
    )


def rows_at(rows: NDArray[Any], at: NDArray[np.int64], lend: Lend) -> NDArray[Any]:
    """Rows at increasing positions; not copied where they follow each other."""
    if len(at) and at[-1] - at[0] + 1 == len(at):
        return rows[at[0] : at[-1] + 1]
    out = lend((len(at), *rows.shape[1:]), rows.dtype)
    return np.take(rows, at, axis=0, out=out, mode="clip") if len(at) else out


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
    codes: Callable[[NDArray[np.int64]], ModelInputs],
    digest: NDArray[np.uint8],
    out: Mapping[str, NDArray[Any]],
    at: NDArray[np.int64],
    known: Lookup | None = None,
    keep: Keep | None = None,
) -> tuple[int, int, dict[str, NDArray[np.bool_]]]:
    """Write the vectors of inputs, each distinct one looked up or computed once.

    Parameters
    ----------
    codes : called with increasing positions (k,) among the inputs
        Gives their codes, shape (k, input_bp), or what cuts them batch by batch.
    digest : uint8 array, shape (n, 16)
    out : by output, float16 array, shape (m, …)
    at : int64 array, shape (n,), increasing
        Row of ``out`` for each input; other rows are left alone.
    keep : called with digests and vectors of what was computed since it was last called

    Returns
    -------
    inputs computed; inputs reused; by output which inputs have a value that float16 cannot hold,
    bool (n,)
    """
    filling = _Filling(out, at)
    representative, inverse = first_occurrences(digest)
    wanted = representative
    if known is not None and len(representative):
        have, found = known(digest[representative].reshape(-1, DIGEST_BYTES))
        if have.any():
            filling.put(representative[have], found)
            wanted = representative[~have]
    last = time.monotonic()

    def sofar(count: int, parts: Parts) -> None:
        nonlocal last
        if keep is None or count >= len(wanted) or time.monotonic() - last <= KEEP_SECONDS:
            return
        fresh = wanted[filling.batches(wanted, parts)]
        keep(digest[fresh], {name: values[at[fresh]] for name, values in out.items()})
        last = time.monotonic()

    if len(wanted):
        filling.batches(wanted, run_model(embedder, codes(wanted), sofar if keep else None))
    if inverse is not None:
        filling.repeat(representative[inverse])
    return len(wanted), len(digest) - len(wanted), filling.bad


class _Filling:
    """Vectors on their way into the arrays of a shard.

    Parameters
    ----------
    out : by output, float16 array, shape (m, …)
    at : int64 array, shape (n,)
        Row of each input.
    """

    def __init__(self, out: Mapping[str, NDArray[Any]], at: NDArray[np.int64]) -> None:
        self._out, self._at, self._done = out, at, 0
        self.bad = {name: np.zeros(len(at), bool) for name in out}

    def batches(self, wanted: NDArray[np.int64], parts: Parts) -> slice:
        """Write what the model gave for the next of the wanted inputs; says which these were."""
        began = self._done
        for values in zip(*parts.values(), strict=True):
            stop = self._done + len(values[0])
            self.put(wanted[self._done : stop], dict(zip(parts, values, strict=True)))
            self._done = stop
        for pieces in parts.values():
            pieces.clear()
        return slice(began, self._done)

    def put(self, inputs: NDArray[np.int64], vectors: Mapping[str, NDArray[Any]]) -> None:
        """Write vectors of some inputs; what float16 cannot hold becomes infinity, and is noted."""
        if not len(inputs):
            return
        rows = self._at[inputs]
        following = rows[-1] - rows[0] + 1 == len(rows)
        for name, values in vectors.items():
            with np.errstate(over="ignore"):
                if following:
                    written = self._out[name][rows[0] : rows[-1] + 1]
                    written[...] = values
                else:
                    written = values.astype(STORED, copy=False)
                    self._out[name][rows] = written
            self.bad[name][inputs] = _not_finite(written)

    def repeat(self, first: NDArray[np.int64]) -> None:
        """Give inputs that occurred before, as ``first`` (n,) says, the vectors of these."""
        again = np.flatnonzero(first != np.arange(len(first)))
        for start in range(0, len(again), _LOOK_ROWS):
            some = again[start : start + _LOOK_ROWS]
            for values in self._out.values():
                values[self._at[some]] = values[self._at[first[some]]]
        for bad in self.bad.values():
            bad[:] = bad[first]


def first_occurrences(
    digest: NDArray[np.uint8],
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Where each distinct digest stands first, in order, and which of them each one is.

    Returns
    -------
    positions, int64 (m,); number of its digest by input, int64 (n,), None where all are distinct
    """
    pairs = np.ascontiguousarray(digest).reshape(-1, DIGEST_BYTES).view(np.uint64)
    # Half a digest mostly tells all apart, and numbers are sorted far faster than bytes.
    ordered = np.sort(pairs[:, 0])
    if (ordered[1:] != ordered[:-1]).all():
        return np.arange(len(pairs)), None
    order = np.argsort(pairs[:, 0], kind="stable")
    changes = pairs[order[1:]] != pairs[order[:-1]]
    if (changes[:, 1] & ~changes[:, 0]).any():  # two digests that share a half
        order = np.lexsort((pairs[:, 1], pairs[:, 0]))
        changes = pairs[order[1:]] != pairs[order[:-1]]
    new = np.concatenate([[True], changes.any(axis=1)])
    first = order[new]  # the sort is stable: of equal digests the first comes first
    if len(first) == len(pairs):
        return np.arange(len(pairs)), None
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    inverse = np.empty(len(pairs), np.int64)
    inverse[order] = rank[np.cumsum(new) - 1]
    return np.sort(first), inverse


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


def _tell_failures(
    bad: Mapping[str, NDArray[np.bool_]],
    place: NDArray[np.int64],
    status: NDArray[np.uint8],
    first: int,
    failures: list[str],
) -> None:
    """Mark regions with a vector that float16 cannot hold, and say which.

    Parameters
    ----------
    place : int64 array, shape (n, 3): gene, region, bin of each input
    """
    for name, which in bad.items():
        for g, r in sorted({(int(g), int(r)) for g, r, _ in place[which]}):
            status[g, r] = Status.FAILED
            failures.append(
                f"gene {first + g}, region {r}: {name} is not finite in float16 (overflow past 65,504 or NaN)"
            )
