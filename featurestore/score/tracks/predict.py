"""Tracks of a window and of its alleles, averaged over shifts and strands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.embedders.enformer.edits import convolved_edits, tracks_of
from featurestore.embedders.enformer.track_model import TrackModel
from featurestore.score.genome import Bases
from featurestore.score.tracks.plan import Item
from featurestore.score.tracks.windows import Pass, Place, read_window

Bins = NDArray[np.float32]


@dataclass
class _Reference:
    """A window of the reference in every pass: its bases, its convolutions, its mean tracks."""

    place: Place
    wanted: slice
    codes: list[NDArray[np.uint8]]
    convolved: list[Tensor]
    tracks: Bins


class Predictor:
    """Runs a model over windows and their alleles; the last window of the reference is kept.

    Parameters
    ----------
    model : TrackModel
    bases : Bases
    passes : sequence of Pass

    Attributes
    ----------
    references, alleles : int
        Windows that were computed, all passes of one counted once.
    """

    def __init__(self, model: TrackModel, bases: Bases, passes: Sequence[Pass]) -> None:
        self.model, self.bases, self.passes = model, bases, list(passes)
        self.references = self.alleles = 0
        self._held: _Reference | None = None

    def windows(self, place: Place, one: Pass, items: Sequence[Item]) -> NDArray[np.uint8]:
        """Codes of the alleles' windows in one pass, shape (n, window)."""
        size = self.model.input_bp
        return np.stack([
            read_window(self.bases, place, size, one, i.edit, i.anchor) for i in items
        ])  # fmt: skip

    def tracks(self, place: Place, items: Sequence[Item], wanted: slice) -> tuple[Bins, list[Bins]]:
        """Tracks of the reference and of each allele.

        Parameters
        ----------
        wanted : slice
            Of the predicted bins.

        Returns
        -------
        float32 array, shape (bins wanted, tracks), and one for each item
        """
        with torch.no_grad():
            held = self._reference(place, wanted)
            sums: list[Bins] = [np.zeros_like(held.tracks) for _ in items]
            for number, one in enumerate(self.passes):
                codes, bins = held.codes[number], held.convolved[number]
                edited = convolved_edits(self.model, codes, bins, self.windows(place, one, items))
                for total, changed in zip(sums, edited, strict=True):
                    total += self._read(changed, one, wanted)
        self.alleles += len(items)
        return held.tracks, [total / np.float32(len(self.passes)) for total in sums]

    def _reference(self, place: Place, wanted: slice) -> _Reference:
        if self._held is not None and (self._held.place, self._held.wanted) == (place, wanted):
            return self._held
        size, model = self.model.input_bp, self.model.module
        codes = [read_window(self.bases, place, size, one) for one in self.passes]
        convolved = [model.prepared().convolved(model.one_hot(row[None])[0]) for row in codes]
        total: Bins = np.zeros((wanted.stop - wanted.start, len(self.model.tracks)), np.float32)
        for bins, one in zip(convolved, self.passes, strict=True):
            total += self._read(bins, one, wanted)
        self.references += 1
        self._held = _Reference(
            place, wanted, codes, convolved, total / np.float32(len(self.passes))
        )
        return self._held

    def _read(self, bins: Tensor, one: Pass, wanted: slice) -> Bins:
        if not one.reverse:
            return tracks_of(self.model, bins, wanted)
        count = self.model.bins
        mirrored = slice(count - wanted.stop, count - wanted.start)
        return tracks_of(self.model, bins, mirrored)[::-1]
