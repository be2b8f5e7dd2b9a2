"""Layers that the published sequence networks share, with the borders of Keras."""

from __future__ import annotations

import math
from typing import Final

from torch import Tensor, nn
from torch.nn import functional

EPSILON: Final = 1e-3
"""Of batch normalisation, as in Keras: a channel that hardly varies does not become rounding errors."""


class SameConv(nn.Module):
    """A convolution that keeps the length; of an odd number of padded positions, one more after.

    Parameters
    ----------
    channels, filters, width, dilation : int
    """

    def __init__(self, channels: int, filters: int, width: int, dilation: int = 1) -> None:
        super().__init__()
        around = dilation * (width - 1)
        self.around = around // 2, around - around // 2
        self.conv = nn.Conv1d(channels, filters, width, dilation=dilation)

    def forward(self, values: Tensor) -> Tensor:
        """(n, channel, position) → (n, filter, position)."""
        found: Tensor = self.conv(functional.pad(values, self.around))
        return found


class SameMaxPool(nn.Module):
    """The maximum of every ``size`` positions, ⌈length / size⌉ of them; padding is never one."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, values: Tensor) -> Tensor:
        """(n, channel, position) → (n, channel, ⌈position / size⌉)."""
        lacking = -values.shape[2] % self.size
        if lacking:
            around = lacking // 2, lacking - lacking // 2
            values = functional.pad(values, around, value=-math.inf)
        return functional.max_pool1d(values, self.size)


def pooled_length(length: int, *sizes: int) -> int:
    """Positions that are left after pooling."""
    for size in sizes:
        length = -(-length // size)
    return length


def rectified_block(
    channels: int, filters: int, width: int, pool: int, *, dropout: float, normalise: bool
) -> list[nn.Module]:
    """Two rectified convolutions, max-pooling and dropout, as deepCRE and PhytoExpr have them.

    Parameters
    ----------
    channels, filters, width, pool : int
    dropout : float
    normalise : bool
        Batch normalisation of the maxima, which neither publication has. Without it the output
        of a new network hardly depends on the sequence, and where expression is hard to predict
        training may never leave the mean.
    """
    return [
        SameConv(channels, filters, width), nn.ReLU(),
        SameConv(filters, filters, width), nn.ReLU(),
        SameMaxPool(pool), *([nn.BatchNorm1d(filters, eps=EPSILON)] if normalise else []), nn.Dropout(dropout),
    ]  # fmt: skip


def start_as_keras(network: nn.Module) -> None:
    """Start convolutions and dense layers as Keras does: weights after Glorot, biases zero."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
