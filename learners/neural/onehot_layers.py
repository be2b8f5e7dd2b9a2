"""Layers that the published sequence networks share, with the borders of Keras."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional


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
