"""Tracks of windows that differ from one window in a few bases, at the cost of what differs.

Each convolution sees a few neighbours only, so an allele changes a handful of bins of what the
convolutions make of a window: these are computed again from the bases around it and put into the
bins of the reference, and the transformer runs on the result. The numbers are those of the whole
window up to rounding. The convolutions are three quarters of the cost of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.embedders.enformer.track_model import TrackModel

Codes = NDArray[np.uint8]

MOST_LAID: Final = 32_768
"""Bases of stretches that go through the convolutions end to end."""


@dataclass(frozen=True)
class Stretch:
    """What of a window has to be computed again for some changed bases.

    Parameters
    ----------
    bins : (int, int)
        Bins before the crop whose convolutions change, half-open.
    bases : (int, int)
        Bases of the window that decide them, half-open, whole bins.
    """

    bins: tuple[int, int]
    bases: tuple[int, int]


def stretch_of(
    reference: Codes, edited: Codes, reaches: Sequence[int], bin_bp: int
) -> Stretch | None:
    """What differs between two windows of one length; None where they read the same.

    Parameters
    ----------
    reference, edited : uint8 arrays, shape (length,)
    reaches : sequence of int
        Neighbours on either side that the convolution before each halving sees.
    """
    changed = np.flatnonzero(reference != edited)
    if not len(changed):
        return None
    low, high, length = int(changed[0]), int(changed[-1]) + 1, len(reference)
    for reach in reaches:
        low = max(low - reach, 0) // 2
        high = -(-min(high + reach, length) // 2)
        length //= 2
    first, last = low, high
    for reach in reversed(reaches):
        first, last = 2 * first - reach, 2 * last + reach
    start = max(first // bin_bp, 0) * bin_bp
    stop = min(-(-last // bin_bp) * bin_bp, len(reference))
    return Stretch((low, high), (start, stop))


def convolved_edits(
    model: TrackModel, reference: Codes, bins: Tensor, edited: Codes
) -> Iterator[Tensor]:
    """What the convolutions make of windows that differ from one window.

    Parameters
    ----------
    model : TrackModel
    reference : uint8 array, shape (length,)
    bins : tensor, shape (bins, dim)
        What ``Prepared.convolved`` makes of the reference.
    edited : uint8 array, shape (n, length)

    Yields
    ------
    tensor, shape (bins, dim)
        One for each window, in their order; ``bins`` itself where nothing differs.
    """
    reaches, size = model.module.prepared().reaches, model.bin_bp
    stretches = [stretch_of(reference, row, reaches, size) for row in edited]
    fresh = _computed(model, edited, stretches)
    for index, stretch in enumerate(stretches):
        if stretch is None:
            yield bins
            continue
        patched = bins.clone()
        patched[slice(*stretch.bins)] = fresh[index]
        yield patched


def _computed(
    model: TrackModel, edited: Codes, stretches: Sequence[Stretch | None]
) -> dict[int, Tensor]:
    """The changed bins of each window, by its index."""
    found: dict[int, Tensor] = {}
    for group in _laid(stretches, edited.shape[1]):
        own = [(i, s) for i in group if (s := stretches[i]) is not None]
        laid = np.concatenate([edited[i, slice(*s.bases)] for i, s in own])
        bins = model.module.prepared().convolved(model.module.one_hot(laid[None])[0])
        at = 0
        for index, stretch in own:
            first = at + stretch.bins[0] - stretch.bases[0] // model.bin_bp
            found[index] = bins[first : first + stretch.bins[1] - stretch.bins[0]]
            at += (stretch.bases[1] - stretch.bases[0]) // model.bin_bp
    return found


def _laid(stretches: Sequence[Stretch | None], length: int) -> Iterator[list[int]]:
    """Which stretches go through the convolutions end to end.

    Neighbours see each other only in bins that are thrown away. One that ends where its window
    ends is computed alone: there the convolutions see zeros.
    """
    group: list[int] = []
    size = 0
    for index, stretch in enumerate(stretches):
        if stretch is None:
            continue
        start, stop = stretch.bases
        if start == 0 or stop == length:
            yield [index]
            continue
        if group and size + stop - start > MOST_LAID:
            yield group
            group, size = [], 0
        group.append(index)
        size += stop - start
    if group:
        yield group


def tracks_of(model: TrackModel, bins: Tensor, wanted: slice | None = None) -> NDArray[np.float32]:
    """Tracks of one window from its convolutions.

    Parameters
    ----------
    bins : tensor, shape (bins, dim)
    wanted : slice, optional
        Of the predicted bins; all.

    Returns
    -------
    float32 array, shape (bins wanted, tracks)
    """
    heads: dict[str, list[int]] = {}
    for track in model.tracks:
        heads.setdefault(track.head, []).append(track.index)
    embedding = model.module.prepared().embedded(bins, wanted)
    found = model.module.heads_of(embedding, list(heads))
    parts = [found[head][:, torch.as_tensor(index, device=embedding.device)] for head, index in heads.items()]  # fmt: skip
    together = torch.cat(parts, dim=1).float().cpu().numpy()
    # Tracks of several heads may be asked for in turns.
    place = {key: i for i, key in enumerate((h, t) for h, index in heads.items() for t in index)}
    result: NDArray[np.float32] = together[:, [place[t.head, t.index] for t in model.tracks]]
    return result
