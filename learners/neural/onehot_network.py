"""The modules behind :class:`learners.neural.onehot_cnn.OneHotCNN`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from learners.neural.inputs import shifted
from learners.neural.motif_scan import MotifResponse
from learners.neural.onehot_layers import SameConv, SameMaxPool, pooled_length
from learners.neural.onehot_windows import Bases, Piece

_MOST_POSITIONS: Final = 200
"""That the residual blocks of a region read; of a longer one the means of several; it makes regions of 5,000 bp a quarter to a third
cheaper."""


@dataclass(frozen=True)
class MotifSize:
    """How large the network of motifs is.

    Parameters
    ----------
    motifs, width : int
        Filters of the first layer, and the bases each spans.
    pool : int
        Positions of which the strongest match counts.
    channels, blocks, block_width : int
        Of the residual blocks, dilated 1, 2, 4, 8, 1 ….
    dense : int
    dropout, block_dropout : float
    shift : int
        In training, each region is moved by up to so many bases either way.
    """

    motifs: int
    width: int
    pool: int
    channels: int
    blocks: int
    block_width: int
    dense: int
    dropout: float
    block_dropout: float
    shift: int


class MotifTower(MotifResponse):
    """One region: motifs with an exponential response, then residual dilated convolutions.

    Parameters
    ----------
    size : MotifSize
    """

    def __init__(self, size: MotifSize) -> None:
        super().__init__(size.motifs, size.width, size.pool)
        self.mix = nn.Conv1d(size.motifs, size.channels, 1)
        self.blocks = nn.Sequential(*[_Block(size, 2 ** (i % 4)) for i in range(size.blocks)])
        self.last = nn.Sequential(nn.BatchNorm1d(size.channels), nn.GELU())

    def forward(self, bases: Tensor) -> Tensor:
        """(n, position, 4) → (n, channel, position after pooling)."""
        strength = super().forward(bases)
        coarser = -(-strength.shape[2] // _MOST_POSITIONS)
        if coarser > 1:
            strength = segment_means(strength, -(-strength.shape[2] // coarser))
        found: Tensor = self.last(self.blocks(self.mix(strength)))
        return found


class _Block(nn.Module):
    """x + convolutions of it."""

    def __init__(self, size: MotifSize, dilation: int) -> None:
        super().__init__()
        channels = size.channels
        self.inner = nn.Sequential(
            nn.BatchNorm1d(channels), nn.GELU(), SameConv(channels, channels, size.block_width, dilation),
            nn.BatchNorm1d(channels), nn.GELU(), nn.Conv1d(channels, channels, 1),
            nn.Dropout1d(size.block_dropout),
        )  # fmt: skip

    def forward(self, values: Tensor) -> Tensor:
        after: Tensor = values + self.inner(values)
        return after


class MotifNetwork(nn.Module):
    """Codes → (n, t): a tower per region, means over segments of each, dense layers over all.

    Parameters
    ----------
    pieces : sequence of Piece
    targets : int
    size : MotifSize
    shared : bool
        One tower for all regions instead of one each.
    """

    def __init__(
        self, pieces: Sequence[Piece], targets: int, *, size: MotifSize, shared: bool
    ) -> None:
        super().__init__()
        self.bases, self.shift = Bases(pieces), size.shift
        self.towers = nn.ModuleList([MotifTower(size) for _ in range(1 if shared else len(pieces))])
        self.segments = [segments_of(p.length, size.pool) for p in pieces]
        width = size.channels * sum(self.segments)
        self.head = nn.Sequential(
            nn.Dropout(size.dropout), nn.Linear(width, size.dense), nn.GELU(),
            nn.Dropout(size.dropout), nn.Linear(size.dense, targets),
        )  # fmt: skip

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        parts: list[Tensor] = []
        for number, codes in enumerate(self.bases.codes(values)):
            tower = self.towers[number % len(self.towers)]
            seen = self.bases.by_position(shifted(codes, self.shift) if self.training else codes)
            parts.append(segment_means(tower(seen), self.segments[number]).flatten(1))
        scores: Tensor = self.head(torch.cat(parts, dim=1))
        return scores


def segments_of(length: int, pool: int) -> int:
    """Segments that a region is cut into: about 250 bp each, of a short one six."""
    return max(1, min(max(6, round(length / 250)), pooled_length(length, pool)))


def segment_means(found: Tensor, segments: int) -> Tensor:
    """Mean in each of a number of segments: where something lies is kept roughly.

    Written out, as adaptive pooling has no deterministic gradient on CUDA.

    Parameters
    ----------
    found : Tensor, shape (n, channel, position)

    Returns
    -------
    Tensor, shape (n, channel, segments)
        The last ones are zero where positions do not suffice for all.
    """
    size = -(-found.shape[2] // segments)
    short = size * segments - found.shape[2]
    padded = functional.pad(found, (0, short)) if short else found
    return padded.reshape(*padded.shape[:2], segments, size).mean(dim=3)


class WashburnNetwork(nn.Module):
    """Codes → (n, t), after Washburn et al., PNAS 116:5542, 2019.

    Per region three blocks of two convolutions of 64 filters of width 8, rectified, max-pooling
    by 8 and dropout; dense layers of 128 and 64 over all regions.

    Parameters
    ----------
    pieces : sequence of Piece
    targets : int
    dropout : float
    shared : bool
        One tower for all regions instead of one each.
    """

    def __init__(
        self, pieces: Sequence[Piece], targets: int, *, dropout: float, shared: bool
    ) -> None:
        super().__init__()
        self.bases = Bases(pieces)
        count = 1 if shared else len(pieces)
        self.towers = nn.ModuleList([self._tower(dropout) for _ in range(count)])
        width = sum(64 * pooled_length(piece.length, 8, 8, 8) for piece in pieces)
        self.head = nn.Sequential(
            nn.Linear(width, 128), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(128, 64), nn.ReLU(), nn.Dropout(dropout), nn.Linear(64, targets),
        )  # fmt: skip

    @staticmethod
    def _tower(dropout: float) -> nn.Sequential:
        layers: list[nn.Module] = []
        for channels in (4, 64, 64):
            layers += [
                SameConv(channels, 64, 8), nn.ReLU(), SameConv(64, 64, 8), nn.ReLU(),
                SameMaxPool(8), nn.Dropout(dropout),
            ]  # fmt: skip
        return nn.Sequential(*layers)

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        parts = [
            self.towers[number % len(self.towers)](bases).flatten(1)
            for number, bases in enumerate(self.bases(values))
        ]
        scores: Tensor = self.head(torch.cat(parts, dim=1))
        return scores
