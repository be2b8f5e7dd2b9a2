"""Blocks of Enformer. Sequences are laid out (n, channels, 1, positions), channels last in memory:
on processors and accelerators alike that is where convolutions are fastest.

Names of parameters are those of the public port's checkpoints.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # torch's own abbreviation

from featurestore.embedders.enformer.configuration import EnformerConfig
from featurestore.embedders.enformer.positions import relative_positions

GELU_SLOPE: Final = 1.702
"""GELU here is x · sigmoid(1.702 x)."""

_recomputing: ContextVar[bool] = ContextVar("enformer_recomputing", default=False)


@contextmanager
def recomputing() -> Iterator[None]:
    """Marks the second pass of gradient checkpointing: it must not move running statistics again."""
    token = _recomputing.set(True)
    try:
        yield
    finally:
        _recomputing.reset(token)


def gelu(x: Tensor) -> Tensor:
    """GELU as x · sigmoid(1.702 x), by way of SiLU, whose derivative is fused."""
    return F.silu(x * GELU_SLOPE) / GELU_SLOPE


class Gelu(nn.Module):
    """:func:`gelu` as a module; holds a place, so that keys count as in the port."""

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return gelu(x)


class Residual(nn.Module):
    """Adds what goes in to what comes out."""

    def __init__(self, fn: nn.Module) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        out: Tensor = self.fn(x) + x
        return out


class StemConv(nn.Conv1d):
    """The first convolution, over one-hot bases."""

    def forward(self, x: Tensor) -> Tensor:
        """(n, 4, 1, L) → (n, width, 1, L)."""
        return F.conv2d(
            x, self.weight.unsqueeze(2), self.bias, padding=(0, self.kernel_size[0] // 2)
        )


class ConvBlock(nn.Sequential):
    """Batch norm, GELU, convolution that keeps the length."""

    def __init__(self, width: int, out: int, kernel: int = 1) -> None:
        norm = nn.BatchNorm1d(width, momentum=0.1, eps=1e-5)
        super().__init__(norm, Gelu(), nn.Conv1d(width, out, kernel, padding=kernel // 2))

    @property
    def norm(self) -> Any:
        """Batch norm."""
        return self[0]

    @property
    def conv(self) -> Any:
        """Convolution."""
        return self[2]

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, 1, L) → (n, out, 1, L).

        The factors of :func:`gelu` go into the norm before it and the convolution after it.
        """
        conv = self.conv
        active = F.silu(self._normalised(x))
        return F.conv2d(
            active,
            (conv.weight / GELU_SLOPE).unsqueeze(2),
            conv.bias,
            padding=(0, conv.kernel_size[0] // 2),
        )

    def _normalised(self, x: Tensor) -> Tensor:
        norm = self.norm
        if isinstance(norm, nn.SyncBatchNorm):
            out: Tensor = norm(x) * GELU_SLOPE
            return out
        mean, variance = norm.running_mean, norm.running_var
        if norm.training and _recomputing.get():
            mean, variance = mean.clone(), variance.clone()  # moved in the first pass already
        elif norm.training:
            norm.num_batches_tracked.add_(1)
        return F.batch_norm(
            x,
            mean,
            variance,
            norm.weight * GELU_SLOPE,
            norm.bias * GELU_SLOPE,
            training=norm.training,
            momentum=norm.momentum,
            eps=norm.eps,
        )


class AttentionPool(nn.Module):
    """Halves the length: of two neighbours each channel keeps a weighted mean, softmax by channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.to_attn_logits = nn.Conv2d(width, width, 1, bias=False)
        with torch.no_grad():
            self.to_attn_logits.weight.copy_(2 * torch.eye(width)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """(n, width, 1, L) → (n, width, 1, L / 2).

        A softmax of two is the sigmoid of the difference of their logits, and logits are linear:
        one product of the difference does for two of the sequence.
        """
        n, width, one, length = x.shape
        pairs = x.reshape(n, width, one, length // 2, 2)
        first, second = pairs[..., 0], pairs[..., 1]
        more = second - first
        share = F.conv2d(more, self.to_attn_logits.weight).sigmoid()
        return torch.addcmul(first, share, more)


class Attention(nn.Module):
    """Multi-head attention with learned relative positions (Transformer-XL form)."""

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        dim, heads, key = config.dim, config.heads, config.attn_dim_key
        self.heads, self.key, self.value = heads, key, dim // heads
        self.features, self.gamma_norm = config.position_features, config.gamma_norm
        self.reach = config.attention_reach
        self.to_q = nn.Linear(dim, key * heads, bias=False)
        self.to_k = nn.Linear(dim, key * heads, bias=False)
        self.to_v = nn.Linear(dim, self.value * heads, bias=False)
        self.to_out = nn.Linear(self.value * heads, dim)
        self.to_rel_k = nn.Linear(self.features, key * heads, bias=False)
        self.rel_content_bias = nn.Parameter(torch.randn(1, heads, 1, key) * key**-0.5)
        self.rel_pos_bias = nn.Parameter(torch.randn(1, heads, 1, key) * key**-0.5)
        self.pos_dropout = nn.Dropout(config.pos_dropout)
        self.attn_dropout = nn.Dropout(config.attn_dropout)
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, bins, dim) → (n, bins, dim)."""
        return self.mixed(x, self.weights(x))

    def mixed(self, x: Tensor, weights: Tensor) -> Tensor:
        """Values of all bins by weights, shape (n, heads, queries, bins) → (n, queries, dim)."""
        heads = (weights.to(x.dtype) @ self._by_head(self.to_v(x), self.value)).transpose(1, 2)
        out: Tensor = self.to_out(heads.flatten(2))
        return out

    def weights(self, x: Tensor) -> Tensor:
        """Attention of each bin (query) to each (key), shape (n, heads, bins, bins); rows sum to 1."""
        query = self._by_head(self.to_q(x), self.key) * self.key**-0.5
        key = self._by_head(self.to_k(x), self.key)
        positions = relative_positions(x.shape[1], self.features, self.gamma_norm).to(x.device)
        relative = self.to_rel_k(self.pos_dropout(positions.to(x.dtype)))
        relative = relative.view(-1, self.heads, self.key).permute(1, 2, 0)
        content = (query + self.rel_content_bias) @ key.transpose(-1, -2)
        logits = content + shifted((query + self.rel_pos_bias) @ relative)
        if self.reach:
            logits = logits.masked_fill(out_of_reach(x.shape[1], self.reach, x.device), -torch.inf)
        out: Tensor = self.attn_dropout(logits.float().softmax(dim=-1))
        return out

    def _by_head(self, x: Tensor, width: int) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, width).transpose(1, 2)


def out_of_reach(bins: int, reach: int, device: torch.device) -> Tensor:
    """True where a key lies more than ``reach`` bins from its query, shape (bins, bins)."""
    place = torch.arange(bins, device=device)
    return (place[:, None] - place[None]).abs() > reach


def shifted(by_distance: Tensor) -> Tensor:
    """From logits by distance to logits by key.

    Parameters
    ----------
    by_distance : tensor, shape (…, length, 2 · length − 1)
        [i, d]: query i, distance d − (length − 1).

    Returns
    -------
    tensor, shape (…, length, length)
        [i, j]: query i, key j, of distance j − i.
    """
    *batch, length, distances = by_distance.shape
    padded = F.pad(by_distance, (1, 0)).reshape(*batch, distances + 1, length)
    return padded[..., 1:, :].reshape(*batch, length, distances)[..., :length]


class TransformerBlock(nn.Sequential):
    """Attention and a feed-forward network, each normalised before and added to what went in."""

    def __init__(self, config: EnformerConfig) -> None:
        dim, drop = config.dim, config.dropout_rate
        super().__init__(
            Residual(nn.Sequential(nn.LayerNorm(dim), Attention(config), nn.Dropout(drop))),
            Residual(
                nn.Sequential(
                    nn.LayerNorm(dim), nn.Linear(dim, 2 * dim), nn.Dropout(drop), nn.ReLU(),
                    nn.Linear(2 * dim, dim), nn.Dropout(drop),
                )
            ),
        )  # fmt: skip

    @property
    def attention(self) -> Attention:
        """Its attention layer."""
        first: Any = self[0]
        found = first.fn[1]
        assert isinstance(found, Attention)  # noqa: S101 # set by the constructor
        return found


def initialise(module: nn.Module) -> None:
    """Truncated normal weights of variance 1 / fan-in, biases of zero, as the original's."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d | nn.Linear):
            fan_in = layer.weight[0].numel()
            nn.init.trunc_normal_(layer.weight, std=1 / math.sqrt(fan_in), a=-2 / math.sqrt(fan_in), b=2 / math.sqrt(fan_in))  # fmt: skip
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for layer in module.modules():
        if isinstance(layer, Attention):
            nn.init.zeros_(layer.to_out.weight)
