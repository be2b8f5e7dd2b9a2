"""Features of genes with single bases changed: only the bins that a change touches are computed.

A change of a base alters the inputs of the bins whose window holds it: its own bin, those whose
context reaches it, and in a genome those of another region of the gene that covers the same base.
Equal inputs are computed once. What a learner then reads is the gene's own row with those bins put in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.mutagenesis.changes import Changes
from featurestore.build.reuse.digests import input_digests
from featurestore.build.shards.compute import embed_distinct, embed_range
from featurestore.build.windows.window_source import WindowSource
from featurestore.embedders.base import Embedder, EmbedderSpec, is_gene_centred
from featurestore.errors import InputError
from featurestore.schema import Status
from featurestore.sequence.windows import bin_count
from learners.batch import BlockSource
from learners.sources import row_valid

VECTOR_BYTES: Final = 1 << 28
"""Vectors of changed bins held at once."""

Tell = Callable[[int], None]
"""Takes the number of model inputs that were dealt with."""


class PerBin:
    """An embedder of which the build takes every bin apart, also where a recipe averages over them."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedder = embedder
        self.spec: EmbedderSpec = replace(embedder.spec, context="bin")
        self.pads_itself = getattr(embedder, "pads_itself", False)

    def load(self, device: str | None) -> None:
        """Load the embedder."""
        self.embedder.load(device)

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """As the embedder does."""
        return self.embedder.embed(codes)


@dataclass(frozen=True)
class Touched:
    """Inputs that changes alter, in order of change; arrays of shape (row,).

    ``change`` index into the changes, ``region`` and ``bin`` of the input, ``index`` of the base in it.
    """

    change: NDArray[np.int64]
    region: NDArray[np.int64]
    bin: NDArray[np.int64]
    index: NDArray[np.int64]


def touched_inputs(
    source: WindowSource, gene: int, changes: Changes, input_bp: int | None
) -> Touched:
    """The inputs of all bins of a gene that hold a changed base.

    Parameters
    ----------
    source : WindowSource
    gene : int
    changes : Changes
    input_bp : int or None
        Length of a model input, centred on the bin; None: the bin's own bases.
    """
    found = []
    for region in range(len(source.regions)):
        length = int(source.region_length[gene, region])
        if not length:
            continue
        at = _positions_in(source, gene, changes, region)
        width = source.bin_bp if input_bp is None else input_bp
        before = (width - source.bin_bp) // 2
        for bin_ in range(bin_count(length, source.bin_bp)):
            index = at - (bin_ * source.bin_bp - before)
            inside = (index >= 0) & (index < width)
            if input_bp is None:
                inside &= at < length
            rows = np.flatnonzero(inside)
            full = np.ones(len(rows), np.int64)
            found.append(np.stack([rows, full * region, full * bin_, index[rows]]))
    rows = np.concatenate(found, axis=1) if found else np.zeros((4, 0), np.int64)
    return Touched(*rows[:, np.argsort(rows[0], kind="stable")])


def touched_bases(source: WindowSource, gene: int, changes: Changes) -> Touched:
    """Where changed bases stand in the regions of a gene: ``bin`` is the position, ``index`` 0."""
    found = []
    for region in range(len(source.regions)):
        at = _positions_in(source, gene, changes, region)
        rows = np.flatnonzero((at >= 0) & (at < int(source.region_length[gene, region])))
        full = np.ones(len(rows), np.int64)
        found.append(np.stack([rows, full * region, at[rows], full * 0]))
    rows = np.concatenate(found, axis=1)
    return Touched(*rows[:, np.argsort(rows[0], kind="stable")])


_FAR: Final = 1 << 40
"""A position that no window holds."""


def _positions_in(
    source: WindowSource, gene: int, changes: Changes, region: int
) -> NDArray[np.int64]:
    """Positions of the changes as a region counts them; far off where it cannot hold them."""
    if not source.from_genome:
        return np.where(changes.region == region, changes.position, _FAR)
    # Position p of a region is base strand · anchor − upstream + p of the transcript's direction.
    begin = np.array([
        source.strand(gene) * source.anchor(gene, r) - settings.upstream
        for r, settings in enumerate(source.regions)
    ])  # fmt: skip
    return np.asarray(changes.position + begin[changes.region] - begin[region], np.int64)


@dataclass(frozen=True)
class Overlay:
    """What changes put into the features of a gene, by output of one embedder.

    Parameters
    ----------
    base : mapping of output to array, shape (region, bin, …)
        The gene itself, zeros where it lacks a region.
    change, region, bin : int64 arrays, shape (row,)
        In order of change.
    values : mapping of output to array, shape (row, …)
    usable : bool
        False where the gene itself has a region without vectors.
    failed : bool array, shape (change,)
        A vector of the change is not finite.
    """

    base: Mapping[str, NDArray[Any]]
    change: NDArray[np.int64]
    region: NDArray[np.int64]
    bin: NDArray[np.int64]
    values: Mapping[str, NDArray[Any]]
    usable: bool
    failed: NDArray[np.bool_]


def code_overlay(source: WindowSource, gene: int, changes: Changes) -> Overlay:
    """Changed bases of a gene, for learners of codes."""
    base = source.region_codes(gene, gene + 1)[0][0]
    at = touched_bases(source, gene, changes)
    failed = np.zeros(len(changes), np.bool_)
    values = {"code": changes.alt[at.change]}
    return Overlay({"code": base}, at.change, at.region, at.bin, values, True, failed)


def refuse_gene_centred(group: str, identity: Mapping[str, Any]) -> None:
    """Refuse an embedder that reads one long window a gene: it has no bins that a base touches.

    Raises
    ------
    InputError
    """
    if is_gene_centred(identity):
        raise InputError(
            f"embedder {group!r} reads one window of {identity['input_bp']:,} bp a gene, and mutagenesis computes "
            "the bins that a base touches: it takes runs on features of bins, such as kmer; models of long "
            "windows have 'bench saturate' and 'fs score'"
        )


class GeneEmbedding:
    """One embedder on one gene, its reference computed once.

    Parameters
    ----------
    embedder : Embedder
        Loaded.
    source : WindowSource
    gene : int
    """

    def __init__(self, embedder: Embedder, source: WindowSource, gene: int) -> None:
        self.embedder, self.source, self.gene = PerBin(embedder), source, gene
        self.whole_regions = embedder.spec.context == "region"
        found = embed_range(self.embedder, source, gene, gene + 1)
        self.inputs = source.bin_inputs(gene, gene + 1, embedder.spec.input_bp)[0]
        self.status = found.status[0]
        lacking = (self.status == Status.ABSENT) | ~found.valid[0].any(axis=1)
        self.per_bin = {name: values[0].copy() for name, values in found.outputs.items()}
        for values in self.per_bin.values():
            values[lacking] = 0
        fine = (self.status == Status.OK) | (self.status == Status.ABSENT)
        self.usable = bool(fine.all() and (self.status == Status.OK).any())

    @property
    def base(self) -> dict[str, NDArray[Any]]:
        """The gene's own features, by output."""
        if not self.whole_regions:
            return self.per_bin
        return {name: self._over_bins(values)[:, None] for name, values in self.per_bin.items()}

    def _weights(self, dims: int) -> NDArray[np.float32]:
        length = self.source.region_length[self.gene][:, None]
        size = self.source.bin_bp
        bases = np.clip(length - np.arange(self.source.bins) * size, 0, size)
        weight = bases / np.maximum(bases.sum(axis=1, keepdims=True), 1)
        return np.asarray(weight, np.float32).reshape(*weight.shape, *(1,) * dims)

    def _over_bins(self, values: NDArray[Any]) -> NDArray[Any]:
        """Mean over the bins of each region, weighted by bases, as the build takes it."""
        weighted = values.astype(np.float32) * self._weights(values.ndim - 2)
        return np.asarray(weighted.sum(axis=1), np.float16)

    @property
    def changes_at_once(self) -> int:
        """Changes whose vectors fill :data:`VECTOR_BYTES`."""
        spec = self.embedder.spec
        vector = 2 * sum(
            int(np.prod(shape, dtype=np.int64)) or 1 for shape in spec.shapes().values()
        )
        windows = 2 + (spec.input_bp or 0) // self.source.bin_bp
        width = spec.input_bp or self.source.bin_bp
        return max(3, VECTOR_BYTES // (windows * (vector + width)))

    def overlay(self, changes: Changes, tell: Tell = lambda count: None) -> Overlay:
        """Vectors of the bins that changes touch, each distinct input computed once."""
        at = touched_inputs(self.source, self.gene, changes, self.embedder.spec.input_bp)
        codes = self.inputs[at.region, at.bin]
        rows = np.arange(len(codes))
        if (codes[rows, at.index] != changes.ref[at.change]).any():
            raise AssertionError("a window does not hold the base that is changed in it")
        codes[rows, at.index] = changes.alt[at.change]
        out = {
            name: np.empty((len(codes), *shape), np.float16)
            for name, shape in self.embedder.spec.shapes().items()
        }
        digest = input_digests(codes, np.ones(len(codes), bool))
        _, _, bad = embed_distinct(self.embedder, lambda at: codes[at], digest, out, rows)
        tell(len(codes))
        failed = np.zeros(len(changes), np.bool_)
        for which in bad.values():
            failed[at.change[which]] = True
        if self.whole_regions:
            return self._regions(changes, at, out, failed)
        return Overlay(self.per_bin, at.change, at.region, at.bin, out, self.usable, failed)

    def _regions(
        self, changes: Changes, at: Touched, out: Mapping[str, NDArray[Any]],
        failed: NDArray[np.bool_],
    ) -> Overlay:  # fmt: skip
        """One vector a region: its mean moved by what its changed bins differ."""
        regions = len(self.source.regions)
        key, inverse = np.unique(at.change * regions + at.region, return_inverse=True)
        change, region = np.divmod(key, regions)
        values, base = {}, self.base
        for name, vectors in out.items():
            own = self.per_bin[name][at.region, at.bin].astype(np.float32)
            weight = self._weights(vectors.ndim - 1)[at.region, at.bin]
            moved = np.zeros((len(key), *vectors.shape[1:]), np.float32)
            np.add.at(moved, inverse, (vectors.astype(np.float32) - own) * weight)
            exact = (self.per_bin[name].astype(np.float32) * self._weights(vectors.ndim - 1)).sum(1)
            values[name] = (exact[region] + moved).astype(np.float16)
        zero = np.zeros(len(key), np.int64)
        return Overlay(base, change, region, zero, values, self.usable, failed)


class MutatedSource:
    """Rows of one feature: row 0 the gene itself, row i + 1 the gene with change i.

    A :class:`learners.batch.BlockSource` of the kind, shape and coordinates of ``like``.
    """

    def __init__(
        self, like: BlockSource, overlay: Overlay, output: str, row: int, count: int
    ) -> None:
        self.like, self.row, self.count = like, row, count
        self.kind, self.dims, self.shape = like.kind, like.dims, like.shape
        self.dtype, self.coords, self.valid = like.dtype, like.coords, like.valid
        self._base, self._values = overlay.base[output], overlay.values[output]
        self._region, self._bin = overlay.region, overlay.bin
        self._first = np.searchsorted(overlay.change, np.arange(count + 1))
        self.shard_start = np.arange(0, count + 1, 1024, dtype=np.int64)

    def __len__(self) -> int:
        return self.count + 1

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for, shape (len(rows), *shape), a new array."""
        values = np.repeat(self._base[None], len(rows), axis=0)
        change = rows - 1
        low = np.where(change >= 0, self._first[np.maximum(change, 0)], 0)
        high = np.where(change >= 0, self._first[np.maximum(change, 0) + 1], 0)
        count = high - low
        owner = np.repeat(np.arange(len(rows)), count)
        at = np.repeat(low - (np.cumsum(count) - count), count) + np.arange(len(owner))
        values[owner, self._region[at], self._bin[at]] = self._values[at]
        return values.reshape(len(rows), *self.shape)

    def row_valid(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Bins that each row has: those of the gene."""
        return row_valid(self.like, np.full(len(rows), self.row, np.int64))


def pieces_of(changes: Changes, at_once: int) -> Iterator[Changes]:
    """Changes in pieces of a bounded number."""
    for start in range(0, len(changes), at_once):
        yield changes.part(start, min(start + at_once, len(changes)))
