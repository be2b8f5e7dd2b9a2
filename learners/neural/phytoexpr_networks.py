"""The networks of PhytoExpr (Li et al., PNAS 121:e2319811121, 2024), from descriptions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from learners.neural.onehot_layers import (
    EPSILON,
    SameConv,
    SameMaxPool,
    pooled_length,
    rectified_block,
    start_as_keras,
)
from learners.neural.onehot_windows import Bases, Piece, Window

INSIDE: Final = 1000
"""bp inside the gene, at either end."""


def windows(outside: int) -> tuple[Window, Window]:
    """So many bp outside of the gene at either end, and 1,000 inside."""
    return Window("tss", outside, INSIDE), Window("tts", INSIDE, outside)


@dataclass(frozen=True)
class TransformerSize:
    """How large it is; the defaults are the published numbers.

    Parameters
    ----------
    dim : int
        Channels of the transformer; the stem has half of them.
    stages, layers, heads, key_dim : int
    step : int
        The filters of the tower's stages are multiples of it.
    dropout : float
    """

    dim: int = 512
    stages: int = 5
    layers: int = 6
    heads: int = 10
    key_dim: int = 32
    step: int = 128
    dropout: float = 0.2

    @property
    def filters(self) -> list[int]:
        """Of each stage: from half of ``dim`` to ``dim`` in equal ratios, rounded to ``step``."""
        shares = [1.0] if self.stages == 1 else [i / (self.stages - 1) for i in range(self.stages)]
        return [round(self.dim / 2 * 2**share / self.step) * self.step for share in shares]


class Output(nn.Module):
    """The last layer: in the unit of the target, given back standardised.

    Parameters
    ----------
    width, targets : int
    activation : {"linear", "softplus", "relu"}
        Of the prediction itself, which the last two keep above zero.
    mean, deviation : float64 array, shape (t,)
        Of the training targets. The bias starts where the prediction is the mean: a rectifier
        that starts below zero for all rows would never learn.
    """

    def __init__(
        self,
        width: int,
        targets: int,
        *,
        activation: str,
        mean: NDArray[np.float64],
        deviation: NDArray[np.float64],
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(width, targets)
        self.activation = activation
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32), persistent=False)
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32), persistent=False)  # fmt: skip
        if activation != "linear":
            start = torch.tensor(mean, dtype=torch.float32)
            if activation == "softplus":
                start = torch.log(torch.expm1(start.clamp(min=1e-3)))
            with torch.no_grad():
                self.linear.bias.copy_(start)

    def forward(self, values: Tensor) -> Tensor:
        """(n, width) → standardised targets, (n, t)."""
        found: Tensor = self.linear(values)
        if self.activation == "linear":
            return found
        found = functional.softplus(found) if self.activation == "softplus" else found.relu()
        standardised: Tensor = (found - self.mean) / self.deviation  # type: ignore[operator] # buffers are tensors
        return standardised


class _Normed(nn.Module):
    """BatchNorm → GELU → convolution."""

    def __init__(self, channels: int, filters: int, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels, eps=EPSILON, momentum=0.1)  # Keras's 0.9
        self.conv = SameConv(channels, filters, width)

    def forward(self, values: Tensor) -> Tensor:
        found: Tensor = self.conv(functional.gelu(self.norm(values)))
        return found


class _Residual(nn.Module):
    """x + 1×1 convolution of it, then the maximum of every four positions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pointwise = _Normed(channels, channels, 1)
        self.pool = SameMaxPool(4)

    def forward(self, values: Tensor) -> Tensor:
        pooled: Tensor = self.pool(values + self.pointwise(values))
        return pooled


class _Attention(nn.Module):
    """Multi-head attention whose heads are narrower than dim / heads, biases throughout."""

    def __init__(self, dim: int, heads: int, key_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(dim, 3 * heads * key_dim)
        self.out = nn.Linear(heads * key_dim, dim)

    def forward(self, values: Tensor) -> Tensor:
        rows, tokens, _ = values.shape
        parts = self.query_key_value(values).reshape(rows, tokens, 3, self.heads, -1)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        found: Tensor = self.out(mixed.transpose(1, 2).reshape(rows, tokens, -1))
        return found


class _Layer(nn.Module):
    """Attention and a feed-forward part of twice the width, both residual, normalised before."""

    def __init__(self, size: TransformerSize) -> None:
        super().__init__()
        dim = size.dim
        self.attention_norm = nn.LayerNorm(dim, eps=EPSILON)
        self.attention = _Attention(dim, size.heads, size.key_dim)
        self.dropout = nn.Dropout(size.dropout)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(dim, eps=EPSILON), nn.Linear(dim, 2 * dim), nn.Dropout(0.75 * size.dropout),
            nn.ReLU(), nn.Linear(2 * dim, dim), nn.Dropout(size.dropout),
        )  # fmt: skip

    def forward(self, values: Tensor) -> Tensor:
        values = values + self.dropout(self.attention(self.attention_norm(values)))
        after: Tensor = values + self.feed_forward(values)
        return after


class PhytoExprTransformer(nn.Module):
    """Codes of the pieces, end to end → (n, t).

    Parameters
    ----------
    pieces : sequence of Piece
    size : TransformerSize
    output : mapping
        Parameters of :class:`Output` but the width.
    """

    def __init__(self, pieces: Sequence[Piece], size: TransformerSize, **output: Any) -> None:
        super().__init__()
        self.bases = Bases(pieces)
        self.length = sum(piece.length for piece in pieces)
        channels = size.dim // 2
        self.stem = nn.Sequential(SameConv(4, channels, 15), _Residual(channels))
        stages: list[nn.Module] = []
        for filters in size.filters:
            stages += [_Normed(channels, filters, 5), _Residual(filters)]
            channels = filters
        self.tower = nn.Sequential(*stages)
        self.transformer = nn.Sequential(*[_Layer(size) for _ in range(size.layers)])
        self.last = _Normed(channels, 2 * size.dim, 1)
        self.dropout = nn.Dropout(size.dropout)
        tokens = pooled_length(self.length, *[4] * (1 + size.stages))
        self.output = Output(2 * size.dim * tokens, **output)

    def tokens(self, values: Mapping[str, Tensor]) -> Tensor:
        """What the transformer reads, (n, token, dim)."""
        bases = self.bases.one_hot(torch.cat(self.bases.codes(values), dim=1))
        found: Tensor = self.tower(self.stem(bases)).transpose(1, 2)
        return found

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        mixed = self.transformer(self.tokens(values)).transpose(1, 2)
        last = functional.gelu(self.dropout(self.last(mixed)))
        scores: Tensor = self.output(last.transpose(1, 2).flatten(1))
        return scores


@dataclass(frozen=True)
class SubModel:
    """One network of the ensemble.

    Parameters
    ----------
    outside : int
        bp outside of the gene at either end; inside it is 1,000.
    filters, pools : sequence of int
        Of each block of two convolutions.
    width : int
        Of the filters.
    dense : sequence of int
    dropout : float
    normalise : bool
        Batch normalisation after each block, which the published ones lack.
    """

    outside: int
    filters: Sequence[int]
    pools: Sequence[int]
    width: int
    dense: Sequence[int]
    dropout: float
    normalise: bool

    @property
    def type(self) -> str:
        """As the paper's code calls it: blocks of convolutions, dense layers with the output."""
        return f"C{len(self.filters)}D{len(self.dense) + 1}"


class PhytoExprCNN(nn.Module):
    """One network of the ensemble: codes of the pieces, end to end → (n, t).

    Parameters
    ----------
    pieces : sequence of Piece
    model : SubModel
    output : mapping
        Parameters of :class:`Output` but the width.
    """

    def __init__(self, pieces: Sequence[Piece], model: SubModel, **output: Any) -> None:
        super().__init__()
        self.bases = Bases(pieces)
        layers: list[nn.Module] = []
        channels = 4
        for filters, pool in zip(model.filters, model.pools, strict=True):
            layers += rectified_block(
                channels, filters, model.width, pool,
                dropout=model.dropout, normalise=model.normalise,
            )  # fmt: skip
            channels = filters
        self.blocks = nn.Sequential(*layers)
        width = channels * pooled_length(sum(p.length for p in pieces), *model.pools)
        dense: list[nn.Module] = []
        for size in model.dense:
            dense += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(model.dropout)]
            width = size
        self.dense = nn.Sequential(*dense)
        if not model.normalise:
            start_as_keras(self)
        self.output = Output(width, **output)

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        bases = self.bases.one_hot(torch.cat(self.bases.codes(values), dim=1))
        scores: Tensor = self.output(self.dense(self.blocks(bases).flatten(1)))
        return scores
