"""Log-probabilities of the four bases at positions of a genome: each distinct window once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.batching import Outputs, in_pieces
from featurestore.errors import InputError, MeristemError
from featurestore.score.genome import Bases, Codes
from featurestore.score.journal import Journal
from featurestore.score.model import MaskedModel
from featurestore.sequence.iupac import N, reverse_complement

Strands = Literal["window", "both"]
"""``window``: the one window of the original; ``both``: that and its mirror on the other strand."""

MOST_HELD: Final = 100_000
"""Windows whose values are remembered: records of one position lie close to each other."""

Values = NDArray[np.float64]


class Scorer:
    """Runs a masked model over positions, in batches of one shape.

    A window's value does not depend on its neighbours: every call of the model has the same
    shape, the last one padded with N. Where memory runs out the batch is halved.

    Parameters
    ----------
    model : MaskedModel
        Loaded.
    bases : Bases
    strands : {"window", "both"}
    batch : int, optional
        Windows of one call; default the model's.
    journal : Journal, optional
        Remembers values over a stop.

    Attributes
    ----------
    computed, reused, resumed : int
        Windows that the model ran on, that had been met before, and that an earlier run computed.
    """

    def __init__(
        self,
        model: MaskedModel,
        bases: Bases,
        *,
        strands: Strands = "window",
        batch: int | None = None,
        journal: Journal | None = None,
    ) -> None:
        if strands not in get_args(Strands):
            raise InputError(f"strands = {strands!r}: choose {' or '.join(get_args(Strands))}")
        self.model, self.bases, self.strands = model, bases, strands
        self.batch = batch or model.batch
        if self.batch < 1:
            raise InputError(f"batch = {batch}: give a number of windows from 1")
        self._journal = journal
        self._held: OrderedDict[bytes, Values] = OrderedDict()
        self.computed = self.reused = self.resumed = 0

    def log_probabilities(
        self,
        sites: Sequence[tuple[str, int]],
        on_window: Callable[[int, int], None] | None = None,
    ) -> Values:
        """Log-probabilities of A, C, G, T on the forward strand at each site.

        Parameters
        ----------
        sites : sequence of (contig, 0-based position)
        on_window : called with windows done and windows in all, after each call of the model

        Returns
        -------
        float64 array, shape (n, 4)
        """
        codes = masked_windows(self.bases, sites, self.model.window, self.model.mask_index)
        if self.strands == "window":
            return self._distinct(codes, on_window)
        mirrored = masked_windows(
            self.bases, sites, self.model.window, self.model.window - 1 - self.model.mask_index
        )
        both = self._distinct(np.concatenate([codes, reverse_complement(mirrored)]), on_window)
        # The other strand's A, C, G, T are this strand's T, G, C, A.
        return _normalised((both[: len(sites)] + both[len(sites) :, ::-1]) / 2)

    def _distinct(self, codes: Codes, on_window: Callable[[int, int], None] | None) -> Values:
        keys = [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in codes]
        found: dict[bytes, Values] = {}
        first: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            if key in self._held:
                found[key] = self._held[key]
            else:
                first.setdefault(key, row)
        wanted = list(first)
        replayed = self._journal.replay(wanted) if self._journal else []
        fresh = dict(zip(wanted, replayed, strict=False))
        rest = wanted[len(replayed) :]
        if rest:
            values = self._run(codes[[first[key] for key in rest]], rest, on_window)
            fresh.update(zip(rest, values, strict=True))
        self.computed += len(rest)
        self.resumed += len(replayed)
        self.reused += len(keys) - len(wanted)
        self._remember(fresh)
        found |= fresh
        return np.stack([found[key] for key in keys]) if keys else np.zeros((0, 4))

    def _remember(self, fresh: dict[bytes, Values]) -> None:
        self._held.update(fresh)
        while len(self._held) > MOST_HELD:
            self._held.popitem(last=False)

    def _run(
        self, codes: Codes, keys: list[bytes], on_window: Callable[[int, int], None] | None
    ) -> Values:
        done = 0

        def run(piece: Codes) -> Outputs:
            nonlocal done
            values = self.model.log_probabilities(piece)
            own = keys[done : done + len(piece)]
            if not np.isfinite(values[: len(own)]).all():
                raise MeristemError(
                    f"the model gave probabilities that are no numbers in dtype {self.model.dtype}: "
                    "score with --dtype fp32"
                )
            if self._journal:
                self._journal.append(own, values[: len(own)])
            done += len(own)
            if on_window:
                on_window(done, len(keys))
            return {"value": values}

        padded = np.full((-(-len(codes) // self.batch) * self.batch, codes.shape[1]), N, np.uint8)
        padded[: len(codes)] = codes
        values: Values = in_pieces(run, padded, self.batch)["value"]
        return values[: len(codes)]


def masked_windows(
    bases: Bases, sites: Sequence[tuple[str, int]], window: int, index: int
) -> Codes:
    """Windows of the forward strand with each site at ``index``, shape (n, window).

    The site itself reads N, so that windows that differ in it alone are one. Beyond the ends of a
    contig stands N, on the side where it ends.
    """
    codes = np.empty((len(sites), window), np.uint8)
    for row, (contig, position) in enumerate(sites):
        start = position - index
        codes[row] = bases.cut(contig, start, start + window)
    codes[:, index] = N
    return codes


def _normalised(values: Values) -> Values:
    """Log-values of which the exponentials add up to one over the last axis."""
    shifted = values - values.max(axis=-1, keepdims=True)
    result: Values = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result
