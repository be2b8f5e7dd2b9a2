"""What a model predicts at a TSS: of a window, and of the window with some of its bases replaced.

The response of a gene is the sum over the chosen tracks of the mean of the three bins at its TSS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.long_range.genes import Gene, GeneWindows, Reading
from benchmarks.long_range.models import (
    ExpressionModel,
    WindowModel,
    of_convolved,
    patched,
    tss_bins,
)
from featurestore.errors import InputError, MeristemError, MissingDependencyError
from featurestore.sequence.iupac import N, reverse_complement

Codes = NDArray[np.uint8]

PLAIN = (Reading(),)


class Replacement(NamedTuple):
    """Bases put in the place of as many: a span of the contig, its new codes on the forward strand."""

    start: int
    end: int
    codes: bytes


@dataclass
class _Held:
    codes: list[Codes]
    convolved: list[Any]
    tracks: NDArray[np.float64]


class Responses:
    """Tracks at the TSS of one gene, averaged over readings of its window.

    Parameters
    ----------
    model : WindowModel
    windows : GeneWindows
    gene : Gene
    readings : sequence of Reading
        Shifts and strands that are averaged.

    Raises
    ------
    InputError
        For readings of the other strand by a model of expression, which knows the transcript's only.
    """

    def __init__(
        self, model: WindowModel, windows: GeneWindows, gene: Gene,
        readings: Sequence[Reading] = PLAIN,
    ) -> None:  # fmt: skip
        if isinstance(model, ExpressionModel) and any(r.reverse for r in readings):
            raise InputError(
                "a model of expression reads the strand of the transcript alone: leave out --rc"
            )
        if 2 * max(abs(r.shift) for r in readings) > model.bin_bp:
            raise InputError(
                f"shifts of at most half a bin of {model.bin_bp} bp, so that what is averaged is the "
                "same bin"
            )
        self.model, self.gene, self.readings = model, gene, tuple(readings)
        self._windows = windows
        self._kept: _Held | None = None

    @property
    def reference(self) -> NDArray[np.float64]:
        """Mean of the bins at the TSS of each track, shape (tracks,)."""
        return self._held().tracks

    def replaced(self, edits: Sequence[Replacement]) -> NDArray[np.float64]:
        """The same with bases replaced, one edit at a time, shape (edits, tracks)."""
        held = self._held()
        total = np.zeros((len(edits), len(self.model.tracks)))
        for number, reading in enumerate(self.readings):
            codes = held.codes[number]
            edited = np.repeat(codes[None], len(edits), axis=0)
            for row, edit in zip(edited, edits, strict=True):
                self._put(row, edit, reading)
            total += self._tracks(edited, reading, codes, held.convolved[number])
        return total / len(self.readings)

    def _held(self) -> _Held:
        if self._kept is None:
            codes, convolved = [], []
            total = np.zeros(len(self.model.tracks))
            for reading in self.readings:
                own = self._windows.window(self.gene, self.model.input_bp, reading)
                bins = _convolved(self.model, own)
                total += self._tracks(own[None], reading, own, bins)[0]
                codes.append(own)
                convolved.append(bins)
            self._kept = _Held(codes, convolved, total / len(self.readings))
        return self._kept

    def _put(self, row: Codes, edit: Replacement, reading: Reading) -> None:
        """Write an edit into a window, as far as it reaches into it."""
        length, new = len(row), np.frombuffer(edit.codes, np.uint8)
        low, high = self.gene.inside(edit.start, edit.end, length)
        low, high = low - reading.shift, high - reading.shift
        if self.gene.strand < 0:
            new = reverse_complement(new)
        if reading.reverse:
            low, high, new = length - high, length - low, reverse_complement(new)
        first, last = max(low, 0), min(high, length)
        if first < last:
            row[first:last] = new[first - low : last - low]

    def _tracks(
        self, edited: Codes, reading: Reading, codes: Codes, convolved: Any
    ) -> NDArray[np.float64]:
        """Mean of the bins at the TSS of windows in one reading, shape (n, tracks)."""
        wanted = tss_bins(self.model)
        if reading.reverse:
            wanted = slice(self.model.bins - wanted.stop, self.model.bins - wanted.start)
        if convolved is None:
            found = self.model.predict(edited)[:, wanted]
        else:
            found = _patched(self.model, edited, codes, convolved, wanted)
        if not np.isfinite(found).all():
            raise MeristemError(
                f"{self.gene.name}: the model gave what is no number; use --dtype fp32, or see to its "
                "weights"
            )
        return np.asarray(found.mean(axis=1, dtype=np.float64))


def _convolved(model: WindowModel, codes: Codes) -> Any:
    """What the convolutions make of a window; None for a model that has none to share."""
    import torch

    if not patched(model):
        return None
    with torch.no_grad():
        return model.module.prepared().convolved(model.module.one_hot(codes[None])[0])


def _patched(
    model: Any, edited: Codes, codes: Codes, convolved: Any, wanted: slice
) -> NDArray[np.float32]:
    import torch

    from featurestore.embedders.enformer.edits import convolved_edits

    with torch.no_grad():
        return np.stack([
            of_convolved(model, bins, wanted)
            for bins in convolved_edits(model, codes, convolved, edited)
        ])  # fmt: skip


def of_windows(model: WindowModel, codes: Codes) -> NDArray[np.float64]:
    """Mean of the bins at the TSS of windows in transcript orientation, shape (n, tracks).

    Windows that differ from the first in a few bases share its convolutions.
    """
    wanted = tss_bins(model)
    convolved = _convolved(model, codes[0]) if len(codes) > 1 else None
    if convolved is None:
        found = model.predict(codes)[:, wanted]
    else:
        found = _patched(model, codes, codes[0], convolved, wanted)
    return np.asarray(found.mean(axis=1, dtype=np.float64))


def gone(start: int, end: int) -> Replacement:
    """A span replaced by N."""
    return Replacement(start, end, bytes([N]) * (end - start))


def shuffled(codes: Codes, count: int, seed: int) -> Codes:
    """Shuffles that keep the number of every dinucleotide, and of N.

    Parameters
    ----------
    codes : uint8 array, shape (length,)
        IUPAC codes; those that name several bases count as N.
    count : int

    Returns
    -------
    uint8 array, shape (count, length)

    Raises
    ------
    MissingDependencyError
        Without tangermeme.
    """
    import torch

    try:
        from tangermeme.ersatz import dinucleotide_shuffle
    except ImportError as error:
        raise MissingDependencyError(
            "shuffles that keep dinucleotides are made by tangermeme: pip install 'meristem[interpret]'"
        ) from error
    plain = np.where(codes > N, N, codes)
    if len(codes) < 4:
        return np.repeat(plain[None], count, axis=0).astype(np.uint8)
    one_hot = np.eye(5, dtype=np.int8)[plain][:, :4].T[None]
    made = dinucleotide_shuffle(
        torch.from_numpy(np.ascontiguousarray(one_hot)), n=count, random_state=seed, allow_N=True
    )[0].numpy()
    return np.where(made.any(axis=1), made.argmax(axis=1), N).astype(np.uint8)
