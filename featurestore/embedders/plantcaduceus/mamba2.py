"""The Mamba-2 mixer of PlantCAD2 in plain torch, with the layer around it free of flips.

Mamba-2 (Dao and Gu 2024) has one decay per head instead of one per channel and state, so a chunk of
positions is a few matrix products. As in :mod:`.layers` the two directions share their projections:
``in_proj`` is computed once, and ``out_proj`` once on the sum of both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.plantcaduceus.layers import project, rms_norm

if TYPE_CHECKING:
    from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig

CHUNK: Final = 64
"""Positions of one set of matrix products; costs grow with it, the number of products falls."""

GATE_EPSILON: Final = 1e-5
"""Of the norm inside the mixer; fixed in the original, whatever ``norm_epsilon`` says."""


def scan_by_steps(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The scan of Mamba-2 step by step: slow, and plainly right.

    h[t] = exp(delta[t] a) h[t-1] + delta[t] x[t] B[t]ᵀ;  y[t] = h[t] C[t] + d x[t]

    Parameters
    ----------
    x : shape (s, l, heads, p)
    delta : shape (s, l, heads)
    a, d : shape (heads,)
        ``a`` negative.
    b, c : shape (s, l, groups, n)
        Each group serves ``heads / groups`` heads.

    Returns
    -------
    shape (s, l, heads, p)
    """
    share = x.shape[2] // b.shape[2]
    b, c = b.repeat_interleave(share, dim=2), c.repeat_interleave(share, dim=2)
    state = x.new_zeros(x.shape[0], x.shape[2], x.shape[3], b.shape[3])
    rows = []
    for t in range(x.shape[1]):
        drive = (delta[:, t, :, None] * x[:, t])[..., None] * b[:, t, :, None, :]
        state = torch.exp(delta[:, t] * a)[..., None, None] * state + drive
        rows.append((state * c[:, t, :, None, :]).sum(-1))
    return torch.stack(rows, dim=1) + d[:, None] * x


def scan_in_chunks(x: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The same numbers by matrix products, a chunk at a time; differentiable as it stands."""
    sequences, length, heads, size = x.shape
    groups, states = b.shape[2:]
    share = (sequences, -1, groups, heads // groups)  # of positions, heads by group
    state = x.new_zeros(sequences, groups, states, heads // groups * size)
    rows = []
    for start in range(0, length, CHUNK):
        here = slice(start, start + CHUNK)
        bs, cs = b[:, here].transpose(1, 2), c[:, here].transpose(1, 2)  # (s, g, q, n)
        # The sum of exponents grows with the chunk while differences of it may be tiny.
        total = (delta[:, here].double() * a.double()).cumsum(1)
        within = total.reshape(share).permute(0, 2, 3, 1)  # (s, g, h / g, q)
        within = (within[..., :, None] - within[..., None, :]).to(x.dtype)
        future = torch.ones(within.shape[-2:], dtype=torch.bool, device=x.device).triu(1)
        weight = torch.exp(within.masked_fill(future, -torch.inf))
        weight = weight * (cs @ bs.transpose(-1, -2))[:, :, None]
        u = (delta[:, here, :, None] * x[:, here]).reshape(*share, size)  # (s, q, g, h / g, p)
        y = (weight @ u.permute(0, 2, 3, 1, 4)).permute(0, 3, 1, 2, 4)
        since = torch.exp(total.to(x.dtype)).reshape(*share, 1)
        carried = _split(cs @ state, heads // groups).transpose(1, 2)  # (s, q, g, h / g, p)
        rows.append((y + since * carried).flatten(2, 3))
        left = torch.exp((total[:, -1:] - total).to(x.dtype)).reshape(*share, 1)
        grown = bs.transpose(-1, -2) @ (left * u).flatten(-2).transpose(1, 2)
        kept = since[:, -1].expand(-1, -1, -1, size).flatten(-2)[:, :, None]
        state = kept * state + grown
    return torch.cat(rows, dim=1) + d[:, None] * x


@dataclass(frozen=True)
class Direction2:
    """Parameters of one reading direction.

    ``conv`` (c + 2 groups n, width), ``conv_bias``, ``dt_bias`` (heads,), ``a`` (heads,) negative,
    ``d`` (heads,), ``norm`` (c,): weight of the gated norm.
    """

    conv: Tensor
    conv_bias: Tensor
    dt_bias: Tensor
    a: Tensor
    d: Tensor
    norm: Tensor


@dataclass(frozen=True)
class Layer2:
    """Parameters of one layer; both projections serve both directions.

    Rows of ``in_proj`` are gate (c), inner (c), B and C (groups n each), step (heads).
    """

    norm: Tensor
    in_proj: Tensor
    out_proj: Tensor
    forward: Direction2
    reverse: Direction2
    groups: int
    epsilon: float

    def conjugated(self) -> Layer2:
        """The layer that does to flipped input, flipped back, what this one does to plain input."""
        return Layer2(
            self.norm.flip(0), self.in_proj.flip(1), self.out_proj.flip(0),
            self.reverse, self.forward, self.groups, self.epsilon,
        )  # fmt: skip


class Mamba2Direction(nn.Module):
    """Mamba-2 parameters of one reading direction, under the original's names."""

    def __init__(self, config: PlantCaduceusConfig) -> None:
        super().__init__()
        inner, heads = config.d_inner, config.mixer_heads
        mixed = inner + 2 * config.mixer_groups * config.d_state
        self.in_proj = nn.Linear(config.d_model, inner + mixed + heads, bias=False)
        self.conv1d = nn.Conv1d(mixed, mixed, config.d_conv, groups=mixed)
        self.dt_bias = nn.Parameter(torch.zeros(heads))
        self.A_log = nn.Parameter(torch.zeros(heads))
        self.D = nn.Parameter(torch.ones(heads))
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, config.d_model, bias=False)

    def tensors(self) -> Direction2:
        """Parameters as the layer function takes them."""
        bias, norm = self.conv1d.bias, self.norm.weight
        assert bias is not None  # noqa: S101 # Conv1d is made with one above
        assert isinstance(norm, Tensor)  # noqa: S101 # made above
        return Direction2(
            self.conv1d.weight[:, 0], bias, self.dt_bias, -torch.exp(self.A_log.float()),
            self.D, norm,
        )  # fmt: skip

    @torch.no_grad()
    def initialise(self, config: PlantCaduceusConfig) -> None:
        """Mamba-2's own: decays 1 to 16 per unit of step, steps of ``dt_min`` to ``dt_max``."""
        ssm = config.ssm_cfg
        low, high = math.log(ssm["dt_min"]), math.log(ssm["dt_max"])
        step = torch.exp(torch.rand_like(self.dt_bias) * (high - low) + low)
        step = step.clamp(min=ssm["dt_init_floor"])
        self.dt_bias.copy_(step + torch.log(-torch.expm1(-step)))
        self.A_log.copy_(torch.log(torch.rand_like(self.A_log) * 15 + 1))
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5))
        self.out_proj.weight /= math.sqrt(config.n_layer)


def _split(x: Tensor, parts: int) -> Tensor:
    """The last axis in equal parts, (…, parts, rest)."""
    return x.reshape(*x.shape[:-1], parts, -1)


def _read(xbc: Tensor, step: Tensor, gate: Tensor, way: Direction2, groups: int) -> Tensor:
    """Convolution, scan and gated norm of one direction, shape (s, l, c)."""
    width, channels = way.conv.shape[1], xbc.shape[2]
    xbc = F.conv1d(
        F.pad(xbc.transpose(1, 2), (width - 1, 0)), way.conv[:, None], way.conv_bias,
        groups=channels,
    )  # fmt: skip
    inner, heads = gate.shape[2], step.shape[2]
    states = (channels - inner) // 2
    u, b, c = torch.split(F.silu(xbc).transpose(1, 2), [inner, states, states], dim=-1)
    y = scan_in_chunks(
        _split(u, heads), F.softplus(step + way.dt_bias), way.a,
        _split(b, groups), _split(c, groups), way.d,
    )  # fmt: skip
    gated = _split(y.flatten(-2) * F.silu(gate), groups)
    return rms_norm(gated, _split(way.norm, groups), GATE_EPSILON).flatten(-2)


def mix(x: Tensor, layer: Layer2, dtype: torch.dtype) -> Tensor:
    """The bidirectional mixer on normalised input, shape (s, l, d) → (s, l, d), float32.

    ``dtype`` is that of the two projections; convolution, scan and gate are in float32.
    """
    inner, heads = layer.out_proj.shape[1], layer.forward.a.shape[0]
    rows = layer.in_proj.shape[0]
    projected = project(x, layer.in_proj, dtype)
    total: Tensor | None = None
    for way, backwards in ((layer.forward, False), (layer.reverse, True)):
        seen = projected.flip(1) if backwards else projected
        gate, xbc, step = torch.split(seen, [inner, rows - inner - heads, heads], dim=-1)
        y = _read(xbc, step, gate, way, layer.groups)
        total = y if total is None else total + y.flip(1)
    assert total is not None  # noqa: S101 # two directions ran
    return project(total, layer.out_proj, dtype)


def run_layers(
    x: Tensor, layers: tuple[Layer2, ...], dtype: torch.dtype, keep: list[Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """All layers; see :func:`.layers.run_layers`.

    Without gradients on a CPU one sequence at a time, for the reasons given there.
    """
    if x.device.type == "cpu" and not torch.is_grad_enabled() and len(x) > 1:
        kept: list[list[Tensor]] = [[] for _ in x]
        each = [
            run_layers(one[None].clone(), layers, dtype, into)
            for one, into in zip(x, kept, strict=True)
        ]
        if keep is not None:
            keep += [torch.cat(same) for same in zip(*kept, strict=True)]
        last, rest = (torch.cat(parts) for parts in zip(*each, strict=True))
        return last, rest
    residual = torch.zeros_like(x)
    for layer in layers:
        residual = residual + x
        x = mix(rms_norm(residual, layer.norm, layer.epsilon), layer, dtype)
        if keep is not None:
            keep.append(x)
    return x, residual
