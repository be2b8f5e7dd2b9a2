"""Low-rank changes of linear layers (Hu et al., ICLR 2022), so that fine-tuning has few weights."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from featurestore.embedders.enformer.layers import Attention


class LowRank(nn.Module):
    """A weight plus the product of two thin matrices, which begins as zero.

    Parameters
    ----------
    weight : tensor, shape (out, in)
    rank : int
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.down = nn.Parameter(torch.empty(rank, columns))
        self.up = nn.Parameter(torch.zeros(rows, rank))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """The changed weight."""
        return weight + self.up @ self.down


def add_low_rank(module: nn.Module, rank: int) -> None:
    """Freeze a module and give every attention layer in it low-rank changes that train."""
    module.requires_grad_(False)
    for layer in module.modules():
        if isinstance(layer, Attention):
            products: list[Any] = [layer.to_q, layer.to_k, layer.to_v, layer.to_out]
            for linear in products:
                change = LowRank(linear.weight, rank)
                parametrize.register_parametrization(linear, "weight", change)
                linear.parametrizations.weight.original.requires_grad_(False)


def merge_low_rank(module: nn.Module) -> None:
    """Put the changes into the weights, so that the module is an ordinary one again."""
    for layer in list(module.modules()):
        if parametrize.is_parametrized(layer, "weight"):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
