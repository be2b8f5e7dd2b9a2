"""The module behind :class:`learners.neural.gated.Gated`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from learners.neural.inputs import Bases, Channels, Layout, Standardise, channels_of

SEGMENTS: Final = 20
"""Parts of a region that the encoder of codes tells apart."""


@dataclass(frozen=True)
class GatedSizes:
    """Sizes of the network.

    Parameters
    ----------
    channels : int
        That each bin of an embedder is brought to.
    width : int
        Of the encoding of an embedder.
    hidden : int
        Of the head.
    dropout : float
        Of numbers: before the encodings and before the last layer.
    input_dropout : float
        Of the standardised numbers of bins and tables.
    embedder_dropout : float
        Chance that a gene in training sees nothing of an embedder; one is always left.
    """

    channels: int
    width: int
    hidden: int
    dropout: float
    input_dropout: float
    embedder_dropout: float


class GatedNetwork(nn.Module):
    """Several features, each with an encoder of its own, weighed for each gene → (n, t).

    The gate sees all encodings and gives each feature a weight; weights of a gene are positive and
    sum to 1. The head sees the weighted sum.

    Parameters
    ----------
    layout : mapping
        Features of kinds ``bins`` (region, bin[, channel]), ``codes`` (region, position) and
        ``tabular`` (any shape).
    targets : int
    sizes : GatedSizes
    """

    def __init__(self, layout: Layout, targets: int, sizes: GatedSizes) -> None:
        super().__init__()
        self.names, self.sizes = list(layout), sizes
        made = [_encoder(f["kind"], tuple(f["shape"]), sizes) for f in layout.values()]
        self.encoders = nn.ModuleList(made)
        self.gate = nn.Linear(len(made) * sizes.width, len(made))
        self.head = nn.Sequential(
            nn.Linear(sizes.width, sizes.hidden), nn.GELU(), nn.Dropout(sizes.dropout),
            nn.Linear(sizes.hidden, targets),
        )  # fmt: skip

    def standardised(self) -> dict[str, Standardise]:
        """Layers that are to measure the training rows, by feature."""
        return {
            name: layer
            for name, encoder in zip(self.names, self.encoders, strict=True)
            for layer in encoder.children()
            if isinstance(layer, Standardise)
        }

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        return self.weighed(values)[0]

    def weighed(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Standardised targets, shape (n, t), and the weights of features, shape (n, features)."""
        found = [encoder(values[n]) for n, encoder in zip(self.names, self.encoders, strict=True)]
        encoded = torch.stack(found, dim=1)
        shown = self._shown(encoded)
        logits = self.gate((encoded * shown[:, :, None]).flatten(1))
        gates = logits.float().masked_fill(~shown, -math.inf).softmax(dim=1)
        scores: Tensor = self.head((gates[:, :, None] * encoded).sum(dim=1))
        return scores, gates

    def _shown(self, encoded: Tensor) -> Tensor:
        """Which features each gene sees: all, but for training."""
        rows, features = encoded.shape[:2]
        chance = self.sizes.embedder_dropout
        if not self.training or chance == 0 or features == 1:
            return torch.ones(rows, features, dtype=torch.bool, device=encoded.device)
        shown = torch.rand(rows, features, device=encoded.device) >= chance
        return shown | ~shown.any(dim=1, keepdim=True)


def _encoder(kind: str, shape: tuple[int, ...], sizes: GatedSizes) -> nn.Sequential:
    """Values of one feature to an encoding, shape (n, width), of equal scale for all features."""
    layers: list[nn.Module]
    if kind == "codes":
        layers = [Bases(), _Tower(shape[0])]
        wide = shape[0] * SEGMENTS * _Tower.filters
    elif kind == "bins":
        narrow = nn.Linear(channels_of(shape), sizes.channels)
        layers = [
            Standardise(shape),
            nn.Dropout(sizes.input_dropout),
            Channels(),
            narrow,
            nn.GELU(),
            nn.Flatten(),
        ]
        wide = shape[0] * shape[1] * sizes.channels
    else:
        layers = [Standardise(shape), nn.Dropout(sizes.input_dropout), nn.Flatten()]
        wide = math.prod(shape)
    return nn.Sequential(
        *layers, nn.Dropout(sizes.dropout), nn.Linear(wide, sizes.width), nn.LayerNorm(sizes.width),
        nn.GELU(),
    )  # fmt: skip


class _Tower(nn.Module):
    """One-hot bases (n, region, position, 4) to means over segments of each region, flattened.

    The stride of 4 makes it ten times cheaper than a convolution at every base; the filters are
    wide enough that three see each base.
    """

    filters: Final = 32

    def __init__(self, regions: int) -> None:
        super().__init__()
        self.towers = nn.ModuleList([self._one() for _ in range(regions)])

    def _one(self) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv1d(4, self.filters, 12, stride=4, padding=6),
            nn.ReLU(),
            nn.AvgPool1d(4, ceil_mode=True),
            nn.BatchNorm1d(self.filters),
            nn.Conv1d(self.filters, self.filters, 5, padding=2),
            nn.ReLU(),
            nn.BatchNorm1d(self.filters),
        )

    def forward(self, bases: Tensor) -> Tensor:
        """Shape (n, region · filter · segment)."""
        found = [
            _segments(tower(bases[:, region].transpose(1, 2)))
            for region, tower in enumerate(self.towers)
        ]
        return torch.cat(found, dim=1)


def _segments(values: Tensor) -> Tensor:
    """Means of equal segments; adaptive pooling has no deterministic gradient on CUDA."""
    length = values.shape[2]
    size = max(1, -(-length // SEGMENTS))
    padded = functional.pad(values, (0, size * SEGMENTS - length))
    return padded.reshape(*padded.shape[:2], SEGMENTS, size).mean(dim=3).flatten(1)
