"""All layers on a GPU without gradients: matrix products by torch, everything between by Triton.

Per layer: add and norm → ``in_proj`` → convolution of both directions → ``x_proj`` and ``dt_proj``
(two directions in one batched product each) → scan of both directions with gate → ``out_proj``.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Final

import torch
import triton
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.plantcaduceus.layers import Direction, Layer
from featurestore.embedders.plantcaduceus.triton_layers import (
    WIDTH,
    add_norm,
    convolve,
    scan_both_ways,
)
from featurestore.embedders.plantcaduceus.triton_scan import BLOCK, on_device

LOG2E: Final = 1.4426950408889634
CONV_STEPS: Final = 16
CONV_BLOCK: Final = 64
MULTIPLE: Final = 16
"""Columns of the projection are padded to this, so that rows are read in whole vectors."""


@dataclass(frozen=True)
class FusedLayer:
    """A layer's tensors as the kernels take them; both directions stacked, forward first.

    ``norm`` (d,), ``in_proj`` (d, 2 c), ``out_proj`` (c, d), ``x_proj`` (2, c, p): B, C and step
    sizes, each padded with zeros; ``dt_proj`` (2, r, c), ``taps`` (2, 4, c), ``bias`` (3, 2, c):
    of the convolution, of the step size, and D; ``a`` (2, n, c) times log2 e. Matrices are in the
    dtype of the products, the rest in float32.
    """

    norm: Tensor
    in_proj: Tensor
    out_proj: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    taps: Tensor
    bias: Tensor
    a: Tensor
    epsilon: float


_MADE: dict[int, dict[torch.dtype, FusedLayer]] = {}


def supports(layers: tuple[Layer, ...]) -> bool:
    """Whether the kernels compute these layers: up to 4 taps and 64 states."""
    ways = [way for layer in layers for way in (layer.forward, layer.reverse)]
    return all(way.conv.shape[1] <= WIDTH and way.a.shape[1] <= 64 for way in ways)


def _padded(x: Tensor, rows: int, dim: int = 0) -> Tensor:
    missing = rows - x.shape[dim]
    return F.pad(x, (0, 0, 0, missing) if dim == 0 else (missing, 0))


def _projections(way: Direction, states: int, rank: int) -> tuple[Tensor, Tensor]:
    """``x_proj`` with rows in the order B, C, step, and ``dt_proj``, both transposed and padded."""
    n, r = way.a.shape[1], way.dt_proj.shape[1]
    step, b, c = torch.split(way.x_proj, [r, n, n])
    rows = torch.cat([_padded(b, states), _padded(c, states), _padded(step, rank)])
    return rows.t(), _padded(way.dt_proj.t(), rank)


def _fuse(layer: Layer, dtype: torch.dtype) -> FusedLayer:
    ways = (layer.forward, layer.reverse)
    states = triton.next_power_of_2(layer.forward.a.shape[1])
    rank = triton.cdiv(layer.forward.dt_proj.shape[1], MULTIPLE) * MULTIPLE
    rank += -(2 * states + rank) % MULTIPLE
    projections = [_projections(way, states, rank) for way in ways]
    bias = [[way.conv_bias for way in ways], [w.dt_bias for w in ways], [w.d for w in ways]]
    return FusedLayer(
        layer.norm.detach().float().contiguous(),
        layer.in_proj.detach().to(dtype).t(),
        layer.out_proj.detach().to(dtype).t(),
        torch.stack([x for x, _ in projections]).detach().to(dtype).contiguous(),
        torch.stack([dt for _, dt in projections]).detach().to(dtype).contiguous(),
        torch.stack([_padded(w.conv, WIDTH, 1).t() for w in ways]).detach().float().contiguous(),
        torch.stack([torch.stack(row) for row in bias]).detach().float().contiguous(),
        torch.stack([_padded(w.a.t(), states) for w in ways]).detach().float().mul(LOG2E).contiguous(),
        layer.epsilon,
    )  # fmt: skip


def fused(layer: Layer, dtype: torch.dtype) -> FusedLayer:
    """The tensors of a layer for the kernels, kept for as long as the layer lives."""
    if id(layer) not in _MADE:
        _MADE[id(layer)] = {}
        weakref.finalize(layer, _MADE.pop, id(layer), None)
    made = _MADE[id(layer)]
    if dtype not in made:
        made[dtype] = _fuse(layer, dtype)
    return made[dtype]


def _mix(x: Tensor, residual: Tensor, layer: FusedLayer, length: int, dtype: torch.dtype) -> Tensor:
    """One layer on rows, shape (rows, d); adds ``x`` to ``residual`` in place."""
    rows, width = residual.shape
    states, channels = layer.a.shape[1:]
    sequences, blocks = rows // length, triton.cdiv(channels, BLOCK)

    def empty(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=x.device)

    normed = empty(rows, width)
    add_norm[(rows,)](
        x, residual, layer.norm, normed, layer.epsilon, width,
        WIDTH_P=triton.next_power_of_2(width), num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    xz = normed @ layer.in_proj
    u = empty(2, rows, channels)
    tiles = sequences * triton.cdiv(length, CONV_STEPS) * triton.cdiv(channels, CONV_BLOCK)
    convolve[(tiles,)](
        xz, layer.taps, layer.bias, u, length, channels, rows,
        STEPS=CONV_STEPS, BLOCK_C=CONV_BLOCK, num_warps=4, enable_fp_fusion=True,
    )  # fmt: skip
    bc = torch.bmm(u, layer.x_proj)
    step = torch.bmm(bc[:, :, 2 * states :], layer.dt_proj)
    y, gated = empty(rows, channels, dtype=torch.float32), u[0]  # the convolved input is used up
    scan_both_ways[(sequences * blocks,)](
        xz, step, bc, layer.taps, layer.bias, layer.a, y, gated, rows, length, channels, 1,
        NP=states, PER=bc.shape[2], BLOCK_C=BLOCK, num_warps=1, enable_fp_fusion=True,
    )  # fmt: skip
    return gated @ layer.out_proj


@torch.no_grad()
def run_layers(
    x: Tensor, layers: tuple[Layer, ...], dtype: torch.dtype, keep: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """All layers; arguments and results as :func:`.layers.run_layers`, without gradients."""
    sequences, length, width = x.shape
    out, residual = x.float().reshape(-1, width).contiguous(), torch.zeros_like(x.view(-1, width))
    with on_device(x):
        for layer in layers:
            out = _mix(out, residual, fused(layer, dtype), length, dtype)
            if keep is not None:
                keep.append(out.float().view(sequences, length, width))
    return out.float().view(sequences, length, width), residual.view(sequences, length, width)
