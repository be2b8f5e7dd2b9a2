"""The network of ``enformer_head``."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from learners.neural.inputs import Standardise, channels_of, with_channels


class HeadNetwork(nn.Module):
    """Bins of each feature to one vector by attention, all vectors to targets.

    Parameters
    ----------
    shapes : mapping of feature to (region, bin[, channel])
    targets, width : int
    dropout : float
    """

    def __init__(
        self, shapes: Mapping[str, tuple[int, ...]], targets: int, *, width: int, dropout: float
    ) -> None:
        super().__init__()
        self.names = list(shapes)
        self.standardised = nn.ModuleDict({n: Standardise(s) for n, s in shapes.items()})
        self.pools = nn.ModuleDict(
            {n: _Pool(s[0] * s[1], channels_of(s), width, dropout) for n, s in shapes.items()}
        )
        self.dense = nn.Sequential(
            nn.Linear(width * len(shapes), width), nn.GELU(), nn.Dropout(dropout),
            nn.Linear(width, targets),
        )  # fmt: skip

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """(n, targets)."""
        pooled = [
            self.pools[name](with_channels(self.standardised[name](values[name])).flatten(1, 2))
            for name in self.names
        ]
        out: Tensor = self.dense(torch.cat(pooled, dim=1))
        return out


class _Pool(nn.Module):
    """(n, bins, channels) → (n, width)."""

    def __init__(self, bins: int, channels: int, width: int, dropout: float) -> None:
        super().__init__()
        self.narrow = nn.Sequential(
            nn.Dropout(dropout / 2), nn.Linear(channels, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.weight = nn.Linear(width, 1)
        # Begins at the middle, where the TSS is.
        near = -((torch.arange(bins) - (bins - 1) / 2).abs() / max(bins / 8, 1))
        self.place = nn.Parameter(near)

    def forward(self, x: Tensor) -> Tensor:
        narrow = self.narrow(x)
        share = (self.weight(narrow)[..., 0] + self.place).softmax(dim=1)
        out: Tensor = (share[..., None] * narrow).sum(1)
        return out
