"""Digests of what the shards of a species are cut from, without cutting a window.

A shard whose own bases have not changed keeps its key, whatever else of the species has: it is
then taken over whole, as a link.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.windows.mapped import let_go
from featurestore.build.windows.window_source import WindowSource
from featurestore.sequence.windows import bin_count, window_span

_DIGEST_BYTES = 32


def window_content(source: WindowSource, shard_rows: int, input_bp: int | None) -> tuple[str, ...]:
    """Digest of all that the windows of the genes of each shard read.

    Parameters
    ----------
    shard_rows : int
        Genes of a shard.
    input_bp : int or None
        Length of the model input of a bin, centred on it; None: the bin's own bases.
    """
    spans = _spans(source, input_bp)
    add = _from_genome if source.from_genome else _from_sequences
    found = []
    for first, last in source.ranges(shard_rows):
        digest = hashlib.blake2b(repr(_frame(source)).encode(), digest_size=_DIGEST_BYTES)
        digest.update(np.ascontiguousarray(source.region_length[first:last]).data)
        for gene in range(first, last):
            add(source, gene, spans, digest.update)
        found.append(digest.hexdigest())
        source.let_go()
    return tuple(found)


def _frame(source: WindowSource) -> tuple[Any, ...]:
    """What shapes the arrays of every gene alike."""
    return source.bin_bp, source.bins, source.positions, len(source.regions), source.ragged


def _spans(source: WindowSource, input_bp: int | None) -> list[tuple[int, int]]:
    """Bases upstream and downstream of the anchor that a region and its model inputs reach."""
    spans = []
    for region in source.regions:
        before = after = 0
        if input_bp is not None:
            before = (input_bp - source.bin_bp) // 2
            bins = bin_count(region.length, source.bin_bp)
            after = (bins - 1) * source.bin_bp + input_bp - before - region.length
        spans.append((region.upstream + before, region.downstream + after))
    return spans


def _from_genome(
    source: WindowSource, gene: int, spans: list[tuple[int, int]],
    update: Callable[[bytes | memoryview], None],
) -> None:  # fmt: skip
    contig, strand = source.contig(gene), source.strand(gene)
    for region, (upstream, downstream) in enumerate(spans):
        low, high = window_span(source.anchor(gene, region), strand, upstream, downstream)
        inside = contig[max(low, 0) : max(min(high, len(contig)), 0)]
        update(b"%d %d %d %d;" % (strand, max(-low, 0), len(inside), max(high - len(contig), 0)))
        update(inside.data)


def _from_sequences(
    source: WindowSource, gene: int, spans: list[tuple[int, int]],
    update: Callable[[bytes | memoryview], None],
) -> None:  # fmt: skip
    for region in range(len(spans)):
        update(np.ascontiguousarray(source.region_code(gene, region)).data)


def row_content(values: NDArray[Any], shard_rows: int) -> tuple[str, ...]:
    """Digest of the rows of each shard of an array."""
    found = []
    for first in range(0, len(values), shard_rows):
        part = np.ascontiguousarray(values[first : first + shard_rows])
        digest = hashlib.blake2b(
            f"{part.dtype.str}{part.shape}".encode(), digest_size=_DIGEST_BYTES
        )
        digest.update(part.view(np.uint8).data if part.size else b"")
        let_go(values)
        found.append(digest.hexdigest())
    return tuple(found)
