"""Which part of the stored regions a network reads, and its bases as fractional one-hot.

A network of the field was published for one window around TSS and TTS; a store has its own. What
is asked for is cut out by coordinates: region, anchor, bp up- and downstream (see
:func:`learners.layout.layout_of`). Position 0 of a region is its most upstream base.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurestore.errors import InputError
from featurestore.sequence.iupac import ONE_HOT, N

GAP: Final = len(ONE_HOT)
"""Code of a position between two sequences: no base at all, zeros."""


@dataclass(frozen=True)
class Window:
    """A window around an anchor, in transcript direction.

    Parameters
    ----------
    anchor : {"tss", "tts"}
    upstream, downstream : int
        bp before and after the boundary; a negative one ends on the other side of it.
    """

    anchor: str
    upstream: int
    downstream: int

    @property
    def length(self) -> int:
        """In bp."""
        return self.upstream + self.downstream

    def __str__(self) -> str:
        ends = f"{-self.upstream:+,} … {self.downstream:+,}".replace("-", "−")
        return f"{ends} at the {self.anchor.upper()}"


@dataclass(frozen=True)
class Piece:
    """Positions [start, stop) of one stored region, with so many N before and after.

    Parameters
    ----------
    feature : str
    region, start, stop : int
        Where it is stored; nothing of it where start equals stop.
    before, after : int
    window : Window or None
        What it is of, N included; None where the store does not say.
    """

    feature: str
    region: int
    start: int
    stop: int
    before: int = 0
    after: int = 0
    window: Window | None = None

    @property
    def length(self) -> int:
        """Positions, N included."""
        return self.before + self.stop - self.start + self.after


def whole_regions(layout: Mapping[str, Any]) -> list[Piece]:
    """All regions of all features, as they are."""
    return [
        Piece(name, region, 0, feature["shape"][1], window=_stored(feature, region))
        for name, feature in layout.items()
        for region in range(feature["shape"][0])
    ]


def cut(
    layout: Mapping[str, Any],
    windows: Sequence[Window],
    *,
    learner: str,
    published: bool,
    allow_short: bool = False,
) -> list[Piece]:
    """What of the stored regions is in some windows.

    Parameters
    ----------
    layout : mapping
        Of :func:`learners.layout.layout_of`.
    windows : sequence of Window
        In the order in which the network reads them.
    learner : str
        For messages.
    published : bool
        The windows to the base. False takes what there is of them, the regions as they are where
        nobody says where these lie.
    allow_short : bool
        Of a published window, fill up with N what is not stored.

    Returns
    -------
    list of Piece
        One per window; fewer if not ``published`` and the store has nothing of one.

    Raises
    ------
    InputError
        If the stored regions do not cover what is asked for; with the windows of both.
    """
    regions = whole_regions(layout)
    known = [(region, region.window) for region in regions if region.window is not None]
    if len(known) < len(regions):
        lengths = [region.length for region in regions]
        if not published or lengths == [window.length for window in windows]:
            return regions
        raise InputError(
            f"{learner} as published reads {_list(windows)}; these features do not say where their "
            f"regions lie, of {_list(lengths)} bp. Give it a store, or preset=small"
        )
    found = [(window, _best(window, known)) for window in windows]
    pieces = [piece for _, piece in found if published or piece.start < piece.stop]
    short = [window for window, piece in found if piece.before or piece.after]
    if (published and short and not allow_short) or not any(p.start < p.stop for p in pieces):
        instead = "preset=small, or allow_short=true, which fills up with N"
        raise InputError(
            f"{learner} reads {_list(windows)}, and the store has {_list(w for _, w in known)}: not "
            f"all of {_list(short)} is there. Build a store with these windows in [regions], or use "
            f"{instead if published else 'another learner'}"
        )
    return (
        pieces
        if published
        else [_bare(window, piece) for window, piece in found if piece in pieces]
    )


def _stored(feature: Mapping[str, Any], region: int) -> Window | None:
    windows = feature.get("windows")
    return None if windows is None else Window(**windows[region])


def _best(window: Window, regions: Iterable[tuple[Piece, Window]]) -> Piece:
    """The piece of the region that has most of a window; an empty one if none has any."""
    nothing = Piece("", 0, 0, 0, window.length, 0, window)
    candidates = [_overlap(window, *r) for r in regions if r[1].anchor == window.anchor]
    return max([nothing, *candidates], key=lambda piece: piece.stop - piece.start)


def _overlap(window: Window, region: Piece, stored: Window) -> Piece:
    """A window in positions of a region, which is as long as the longest of its feature."""
    start, stop = stored.upstream - window.upstream, stored.upstream + window.downstream
    low, high = max(start, 0), min(stop, stored.length)
    if low >= high:
        return Piece("", 0, 0, 0, window.length, 0, window)
    return Piece(region.feature, region.region, low, high, low - start, stop - high, window)


def _bare(window: Window, piece: Piece) -> Piece:
    """A piece without the N around it."""
    left = Window(window.anchor, window.upstream - piece.before, window.downstream - piece.after)
    return replace(piece, before=0, after=0, window=left)


def _list(things: Iterable[object]) -> str:
    return " and ".join(map(str, things))


class Bases(nn.Module):
    """Codes (n, region, position) → fractional one-hot (n, 4, position) of some pieces.

    R = ½A + ½G; N = ¼ each, or zeros.

    Parameters
    ----------
    pieces : sequence of Piece
    unknown_is_zero : bool
        Whether N and what is filled up with it reads zeros.
    """

    def __init__(self, pieces: Sequence[Piece], *, unknown_is_zero: bool = False) -> None:
        super().__init__()
        self.pieces = list(pieces)
        letters = torch.zeros(GAP + 1, 4)
        letters[:GAP] = torch.from_numpy(ONE_HOT.copy())
        if unknown_is_zero:
            letters[N] = 0
        self.register_buffer("letters", letters, persistent=False)

    def codes(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Codes of each piece, (n, position), N where it is filled up."""
        some = next(iter(values.values()))
        return [
            functional.pad(
                # A window of which nothing is stored has no region to be read from.
                values[p.feature][:, p.region, p.start : p.stop] if p.feature else some[:, 0, :0],
                (p.before, p.after),
                value=N,
            )
            for p in self.pieces
        ]

    def by_position(self, codes: Tensor) -> Tensor:
        """Codes (n, position) → (n, position, 4)."""
        letters: Tensor = self.letters  # type: ignore[assignment] # a buffer is a tensor
        return functional.embedding(codes.int(), letters)

    def one_hot(self, codes: Tensor) -> Tensor:
        """Codes (n, position) → (n, 4, position)."""
        return self.by_position(codes).transpose(1, 2).contiguous()

    def forward(self, values: Mapping[str, Tensor]) -> list[Tensor]:
        """Each piece alone, (n, 4, position)."""
        return [self.one_hot(codes) for codes in self.codes(values)]
