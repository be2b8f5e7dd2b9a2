"""Enformer without gradients: piece by piece along the window, so that activations stay small.

The numbers are those of :mod:`featurestore.embedders.enformer.layers` up to rounding: every
layer before the transformer sees a few neighbours only, so the window can be cut, each piece
taken through a whole block, and what it gives put in its place.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # torch's own abbreviation

from featurestore.embedders.enformer.layers import GELU_SLOPE, Attention, ConvBlock, out_of_reach
from featurestore.embedders.enformer.positions import relative_positions

if TYPE_CHECKING:
    from featurestore.embedders.enformer.modeling import Enformer

PIECE_VALUES: Final = 6_291_456
"""Numbers of one activation of a piece: few enough for the caches, enough to keep the cores busy."""


@dataclass(frozen=True)
class _Conv:
    """Batch norm, SiLU and convolution of a block, factors of GELU folded in."""

    scale: Tensor
    offset: Tensor
    weight: Tensor
    bias: Tensor
    reach: int

    @classmethod
    def of(cls, block: ConvBlock, dtype: torch.dtype) -> _Conv:
        norm, conv = block.norm, block.conv
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        offset = norm.bias - norm.running_mean * scale
        return cls(
            (scale * GELU_SLOPE).view(-1, 1, 1).to(dtype),
            (offset * GELU_SLOPE).view(-1, 1, 1).to(dtype),
            _laid_out(conv.weight / GELU_SLOPE, dtype),
            conv.bias.to(dtype),
            conv.kernel_size[0] // 2,
        )

    def __call__(self, x: Tensor, before: int = 0, after: int = 0) -> Tensor:
        """(1, in, 1, length) → (1, out, 1, length − 2 · reach + before + after).

        ``before`` and ``after`` zeros stand where the window ends.
        """
        active = F.silu(torch.addcmul(self.offset, x, self.scale), inplace=True)
        if before or after:
            active = F.pad(active, (before, after))
        return F.conv2d(active, self.weight, self.bias)


@dataclass(frozen=True)
class _Block:
    """Stem or one block of the tower: a first convolution, a residual one, attention pooling."""

    first: _Conv | None
    stem: tuple[Tensor, Tensor] | None
    residual: _Conv
    pool: Tensor

    @classmethod
    def of(cls, block: Any, dtype: torch.dtype) -> _Block:
        head, residual, pool = block
        is_stem = not isinstance(head, ConvBlock)
        return cls(
            None if is_stem else _Conv.of(head, dtype),
            (_laid_out(head.weight, dtype), head.bias.to(dtype)) if is_stem else None,
            _Conv.of(residual.fn, dtype),
            pool.to_attn_logits.weight.to(dtype, memory_format=torch.channels_last),
        )

    @property
    def width(self) -> int:
        return int(self.pool.shape[0])

    @property
    def reach(self) -> int:
        if self.stem is not None:
            return int(self.stem[0].shape[3]) // 2
        assert self.first is not None  # noqa: S101 # one of the two
        return self.first.reach

    def __call__(self, x: Tensor) -> Tensor:
        """(1, in, 1, length) → (1, width, 1, length / 2)."""
        length = x.shape[3]
        out = torch.empty(
            (1, self.width, 1, length // 2), dtype=self.pool.dtype, device=x.device
        ).contiguous(memory_format=torch.channels_last)
        step = max(256, PIECE_VALUES // self.width // 2 * 2)
        if x.device.type != "cpu":
            step = length
        for start in range(0, length, step):
            stop = min(start + step, length)
            out[..., start // 2 : stop // 2] = self._piece(x, start, stop)
        return out

    def _piece(self, x: Tensor, start: int, stop: int) -> Tensor:
        length = x.shape[3]
        if self.stem is not None:
            weight, bias = self.stem
            reach = weight.shape[3] // 2
        else:
            assert self.first is not None  # noqa: S101 # one of the two
            reach = self.first.reach
        low, high = max(start - reach, 0), min(stop + reach, length)
        before, after = low - (start - reach), stop + reach - high
        part = x[..., low:high]
        if self.stem is not None:
            out = F.conv2d(F.pad(part, (before, after)), weight, bias)
        else:
            assert self.first is not None  # noqa: S101 # one of the two
            out = self.first(part, before, after)
        out += self.residual(out)
        first, second = out[..., 0::2], out[..., 1::2]
        more = second - first
        return torch.addcmul(first, F.conv2d(more, self.pool).sigmoid_(), more)


class _Linear:
    """A linear layer by way of a convolution of one: on processors twice as fast in float32."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.detach().to(dtype)[:, :, None, None]
        self.bias = None if bias is None else bias.detach().to(dtype)

    def __call__(self, x: Tensor) -> Tensor:
        """(bins, in) → (bins, out)."""
        out = F.conv2d(x.t()[None, :, None, :], self.weight, self.bias)
        return out[0, :, 0].t()


class _Attention:
    """An attention block, whose queries may be some of the bins only."""

    def __init__(self, layer: Attention, norm: Any, dtype: torch.dtype) -> None:
        self.norm, self.layer, self.dtype = norm, layer, dtype
        self.q, self.k, self.v = (
            _Linear(m.weight, None, dtype) for m in (layer.to_q, layer.to_k, layer.to_v)
        )
        self.out = _Linear(layer.to_out.weight, layer.to_out.bias, dtype)
        self.relative: dict[int, Tensor] = {}

    def _relative(self, bins: int) -> Tensor:
        """Keys of relative positions, shape (heads, key, 2 · bins − 1)."""
        if bins not in self.relative:
            layer = self.layer
            features = relative_positions(bins, layer.features, layer.gamma_norm)
            keys = layer.to_rel_k.weight @ features.to(layer.to_rel_k.weight.device).t()
            self.relative = {bins: keys.view(layer.heads, layer.key, -1).to(self.dtype)}
        return self.relative[bins]

    def __call__(self, x: Tensor, wanted: slice) -> Tensor:
        """Residual stream (bins, dim) of float32 → that of the bins wanted."""
        layer, bins = self.layer, x.shape[0]
        normal = self.norm(x).to(self.dtype)
        queries = range(bins)[wanted]
        # All distances of a query's row are computed; a shorter list of queries is cut after.
        q = self.q(normal[wanted]) * layer.key**-0.5
        k, v = self.k(normal), self.v(normal)
        content = layer.rel_content_bias.to(self.dtype)
        position = layer.rel_pos_bias.to(self.dtype)
        relative = self._relative(bins)
        beyond = out_of_reach(bins, layer.reach, x.device)[wanted] if layer.reach else None
        mixed = torch.empty(
            (len(queries), layer.heads * layer.value), dtype=self.dtype, device=x.device
        )
        for head in range(layer.heads):
            keys = slice(head * layer.key, (head + 1) * layer.key)
            values = slice(head * layer.value, (head + 1) * layer.value)
            own = q[:, keys]
            by_distance = (own + position[0, head]) @ relative[head]
            logits = _by_key(by_distance, queries.start, bins)
            logits = logits.float() + ((own + content[0, head]) @ k[:, keys].t()).float()
            if beyond is not None:
                logits.masked_fill_(beyond, -torch.inf)
            mixed[:, values] = logits.softmax(dim=-1).to(self.dtype) @ v[:, values]
        return x[wanted] + self.out(mixed).float()


def _by_key(by_distance: Tensor, first: int, bins: int) -> Tensor:
    """From logits by distance to logits by key, for queries from the bin ``first`` on.

    ``by_distance`` (queries, 2 · bins − 1): a query's row, read from the distance of the first
    bin on, and each row of memory one shorter than it is: a view, nothing is copied.
    """
    rows, distances = by_distance.shape
    whole = by_distance.contiguous()
    return whole.as_strided(
        (rows, bins), (distances - 1, 1), whole.storage_offset() + bins - 1 - first
    )


class _FeedForward:
    def __init__(self, layers: Any, dtype: torch.dtype) -> None:
        self.norm, self.dtype = layers[0], dtype
        self.up = _Linear(layers[1].weight, layers[1].bias, dtype)
        self.down = _Linear(layers[4].weight, layers[4].bias, dtype)

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(self.norm(x).to(self.dtype)).relu_()).float()


class Prepared:
    """Weights of an Enformer laid out for windows without gradients."""

    def __init__(self, model: Enformer, dtype: torch.dtype, version: tuple[object, ...]) -> None:
        self.model, self.dtype, self.version = model, dtype, version
        with torch.no_grad():
            self.blocks = [_Block.of(b, dtype) for b in (model.stem, *model.conv_tower)]
            blocks: list[Any] = list(model.transformer)
            self.transformer = [
                (_Attention(b[0].fn[1], b[0].fn[0], dtype), _FeedForward(b[1].fn, dtype))
                for b in blocks
            ]
            pointwise: Any = model.final_pointwise[1]
            self.pointwise = _Conv.of(pointwise, dtype)

    def embed(self, x: Tensor) -> Tensor:
        """As :meth:`Enformer.embed`, in float32."""
        return torch.stack([self._embed(row) for row in x])

    def trunk(self, x: Tensor) -> Tensor:
        """As :meth:`Enformer.trunk`, in float32."""
        return torch.stack([self._transformed(self.convolved(row), None) for row in x])

    @property
    def reaches(self) -> tuple[int, ...]:
        """Neighbours on either side that the convolution before each halving sees."""
        return tuple(block.reach for block in self.blocks)

    def _embed(self, row: Tensor) -> Tensor:
        return self.embedded(self.convolved(row))

    def embedded(self, convolved: Tensor, wanted: slice | None = None) -> Tensor:
        """What :meth:`embed` makes of the bins of one window (bins, dim).

        ``wanted`` are bins of the output, all of them unless told; fewer cost less.
        """
        bins = convolved.shape[0]
        kept = self.model.config.cropped(bins)
        margin = (bins - kept) // 2
        chosen = range(kept)[wanted or slice(None)]
        out = self._transformed(convolved, slice(margin + chosen.start, margin + chosen.stop))
        wide = self.pointwise(out.to(self.dtype).t()[None, :, None, :])[0, :, 0].t().float()
        return F.silu(wide * GELU_SLOPE) / GELU_SLOPE

    def convolved(self, row: Tensor) -> Tensor:
        """What the convolutions make of one window, (length, 4) → (bins, dim)."""
        out = row.to(self.dtype).t()[None, :, None, :]
        for block in self.blocks:
            out = block(out)
        return out[0, :, 0].t()

    def _transformed(self, bins: Tensor, wanted: slice | None) -> Tensor:
        """(bins, dim) → (bins wanted, dim), float32: the last block asks only for these."""
        out = bins.float()
        for number, (attention, feed_forward) in enumerate(self.transformer):
            last = number == len(self.transformer) - 1
            chosen = wanted if last and wanted is not None else slice(0, out.shape[0])
            out = feed_forward(attention(out, chosen))
        return out


def _laid_out(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A convolution's weights (out, in, width) as (out, in, 1, width), channels last."""
    return weight.detach().unsqueeze(2).to(dtype).contiguous(memory_format=torch.channels_last)
