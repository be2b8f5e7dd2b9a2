"""Windows relative to TSS and TTS: where they lie and what they read, strand-aware.

Anchors are boundaries between bases. On the − strand transcript direction runs towards
smaller coordinates, so a window lies mirrored on the contig and reads reverse-complemented;
position 0 is always the most upstream base. A mirrored window (downstream bases taken for
upstream ones) is this field's classic error: the tests plant marker sequences against it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.model import Region
from featurestore.sequence.iupac import COMPLEMENT, N


def window_span(anchor: int, strand: int, upstream: int, downstream: int) -> tuple[int, int]:
    """Span on the forward strand, 0-based half-open; may run off the contig.

    Parameters
    ----------
    anchor : int
        Boundary, 0-based on the forward strand.
    strand : {1, -1}
    upstream, downstream : int
        bp before and after the boundary in transcript direction.
    """
    if strand >= 0:
        return anchor - upstream, anchor + downstream
    return anchor - downstream, anchor + upstream


def cut_window(
    contig: NDArray[np.uint8], start: int, end: int, strand: int
) -> tuple[NDArray[np.uint8], int]:
    """Bases of a span in transcript orientation, and how many of them lie off the contig.

    Parameters
    ----------
    contig : uint8 array, shape (length,)
        Codes of the forward strand.
    start, end : int
        0-based half-open; what lies off the contig reads N.

    Returns
    -------
    codes : uint8 array, shape (end - start,)
    padded : int
    """
    low, high = min(max(start, 0), len(contig)), max(min(end, len(contig)), 0)
    inside = contig[low:high] if low < high else contig[:0]
    padded = (end - start) - len(inside)
    if padded:
        codes = np.full(end - start, N, np.uint8)
        if len(inside):
            codes[low - start : low - start + len(inside)] = inside
    else:
        codes = inside
    return (COMPLEMENT[codes[::-1]] if strand < 0 else codes.copy()), padded


def bin_count(length: int, bin_bp: int) -> int:
    """Bins of a region; the last may be short."""
    return -(-length // bin_bp)


def bin_starts(regions: Sequence[Region], bin_bp: int) -> NDArray[np.int32]:
    """First base of each bin in bp from the anchor, shape (region, bin); negative upstream.

    Bins that a region does not have continue its grid: ``bin_valid`` marks them.
    """
    most = max(bin_count(r.length, bin_bp) for r in regions)
    offset = np.arange(most, dtype=np.int32) * bin_bp
    return np.stack([offset - r.upstream for r in regions]).astype(np.int32)


def bin_validity(
    lengths: NDArray[np.int32], regions: Sequence[Region], bin_bp: int
) -> NDArray[np.bool_]:
    """Whether each bin holds a base of its region, shape (gene, region, bin).

    Parameters
    ----------
    lengths : int32 array, shape (gene, region)
    """
    most = max(bin_count(r.length, bin_bp) for r in regions)
    result: NDArray[np.bool_] = np.arange(most)[None, None, :] * bin_bp < lengths[:, :, None]
    return result
