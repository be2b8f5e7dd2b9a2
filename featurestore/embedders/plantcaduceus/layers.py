"""One layer of PlantCaduceus as tensors, free of flips, and the plain torch form of its function.

The original processes both strands and, in its fused form, exchanges the two halves of the hidden
state in front of every layer. With r the flip of positions and channels, that is the same as
running the two strands apart, every second layer conjugated by r. A flip of channels goes into
the weights (columns of ``in_proj``, rows of ``out_proj``, the norm), a flip of positions exchanges
the parameters of the two directions: nothing is flipped at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.plantcaduceus.selective_scan import selective_scan


@dataclass(frozen=True)
class Direction:
    """Parameters of one reading direction.

    ``conv`` (c, width), ``conv_bias`` (c,), ``x_proj`` (rank + 2 n, c), ``dt_proj`` (c, rank),
    ``dt_bias`` (c,), ``a`` (c, n) negative, ``d`` (c,).
    """

    conv: Tensor
    conv_bias: Tensor
    x_proj: Tensor
    dt_proj: Tensor
    dt_bias: Tensor
    a: Tensor
    d: Tensor


@dataclass(frozen=True)
class Layer:
    """Parameters of one layer; ``in_proj`` (2 c, d) and ``out_proj`` (d, c) serve both directions."""

    norm: Tensor
    in_proj: Tensor
    out_proj: Tensor
    forward: Direction
    reverse: Direction
    epsilon: float

    def conjugated(self) -> Layer:
        """The layer that does to flipped input, flipped back, what this one does to plain input."""
        return Layer(
            self.norm.flip(0), self.in_proj.flip(1), self.out_proj.flip(0),
            self.reverse, self.forward, self.epsilon,
        )  # fmt: skip


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Root-mean-square normalisation over the last axis, in float32."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * weight


def project(x: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
    """``x weightᵀ`` in a dtype, as float32; shape (s, l, d) → (s, l, c).

    CPU libraries may round a row by its place in the product and in memory, so outside of training
    each sequence has its own there, and its numbers do not depend on what stands beside it.
    """
    x, weight = x.to(dtype), weight.to(dtype)
    if x.device.type == "cpu" and not torch.is_grad_enabled():
        return torch.stack([F.linear(one.clone(), weight) for one in x]).float()
    return F.linear(x, weight).float()


def _read(x: Tensor, way: Direction, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the scan of one direction needs: u, delta (s, l, c), b, c (s, l, n)."""
    width, channels = way.conv.shape[1], x.shape[2]
    u = F.conv1d(
        F.pad(x.transpose(1, 2), (width - 1, 0)), way.conv[:, None], way.conv_bias, groups=channels
    )
    u = F.silu(u).transpose(1, 2).contiguous()
    rank, states = way.dt_proj.shape[1], way.a.shape[1]
    step, b, c = torch.split(project(u, way.x_proj, dtype), [rank, states, states], dim=-1)
    delta = F.softplus(project(step, way.dt_proj, dtype) + way.dt_bias)
    return u, delta, b, c


def mix(x: Tensor, layer: Layer, dtype: torch.dtype) -> Tensor:
    """The bidirectional mixer on normalised input, shape (s, l, d) → (s, l, d), float32.

    ``dtype`` is that of the matrix products; convolution, scan and gate are in float32.
    """
    inner, gate = project(x, layer.in_proj, dtype).chunk(2, dim=-1)
    total = torch.zeros_like(gate)
    for way, backwards in ((layer.forward, False), (layer.reverse, True)):
        u, delta, b, c = _read(inner.flip(1) if backwards else inner, way, dtype)
        y = selective_scan(u, delta, way.a, b, c, way.d)
        total = total + (y.flip(1) if backwards else y)
    return project(total * F.silu(gate), layer.out_proj, dtype)


def run_layers(
    x: Tensor, layers: tuple[Layer, ...], dtype: torch.dtype, keep: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """All layers in plain torch.

    Without gradients on a CPU, the two halves of the sequences, which hold the two strands, run
    apart. Vectorised functions round by an element's place among the others; apart, each strand has
    the same place whichever half it is in, so the reverse complement gives the same numbers to the
    last bit.

    Parameters
    ----------
    x : float32 tensor, shape (s, l, d)
        Embedded strands.
    keep : list
        Receives the output of each layer, before it is added to the residual.

    Returns
    -------
    output of the last layer, and the residual without it; both (s, l, d) float32
    """
    apart = x.device.type == "cpu" and not torch.is_grad_enabled()
    if apart and len(x) > 1 and len(x) % 2 == 0:
        kept: tuple[list[Tensor], list[Tensor]] = ([], [])
        halves = [
            _run(half.clone(), layers, dtype, None if keep is None else into)
            for half, into in zip(x.chunk(2), kept, strict=True)
        ]
        if keep is not None:
            keep += [torch.cat(both) for both in zip(*kept, strict=True)]
        last, residual = (torch.cat(both) for both in zip(*halves, strict=True))
        return last, residual
    return _run(x, layers, dtype, keep)


def _run(
    x: Tensor, layers: tuple[Layer, ...], dtype: torch.dtype, keep: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    residual = torch.zeros_like(x)
    for layer in layers:
        residual = residual + x
        x = mix(rms_norm(residual, layer.norm, layer.epsilon), layer, dtype)
        if keep is not None:
            keep.append(x)
    return x, residual
