"""The strongest match of each motif in every few positions, without what lies between in memory."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

_STEEPEST: Final = 3.0
"""Where the exponential is cut off: e³ is as much as twenty sites."""


class MotifScan(nn.Module):
    """The strongest match of each motif in every few positions.

    A convolution with channels last and the maximum after it, as one step. On a CPU it is taken
    one offset of the ``pool`` positions after the other, so that matches stay in the cache and
    only the strongest are kept: a step of it takes half the time of :meth:`plain`, in bfloat16 a
    quarter (``docs/training.md``). The first of equal matches is the one that learns.

    Parameters
    ----------
    motifs, width, pool : int
    """

    def __init__(self, motifs: int, width: int, pool: int) -> None:
        super().__init__()
        self.width, self.pool = width, pool
        self.weights = nn.Linear(4 * width, motifs)

    def forward(self, bases: Tensor) -> Tensor:
        """(n, position, 4) → (n, ⌈position / pool⌉, motif); past the ends lies N."""
        if bases.device.type != "cpu" or bases.requires_grad:
            return self.plain(bases)
        padded, weight = self._padded(bases), self.weights.weight
        if torch.is_autocast_enabled("cpu"):
            dtype = torch.get_autocast_dtype("cpu")
            padded, weight = padded.to(dtype), weight.to(dtype)
        found: Tensor = _Strongest.apply(padded, weight, self.pool)  # type: ignore[no-untyped-call] # torch has no types there
        return found + self.weights.bias

    def plain(self, bases: Tensor) -> Tensor:
        """The same by one product over windows that overlap, and a maximum."""
        padded, rows = self._padded(bases), len(bases)
        windows = _windows(padded, self.width, 1, 0).reshape(-1, 4 * self.width)
        matches = self.weights(windows).reshape(rows, -1, self.pool, len(self.weights.bias))
        strongest: Tensor = matches.max(dim=2).values
        return strongest

    def _padded(self, bases: Tensor) -> Tensor:
        length = bases.shape[1]
        before = (self.width - 1) // 2
        after = -length % self.pool + self.width - 1 - before
        return functional.pad(bases, (0, 0, before, after), value=0.25)


class MotifResponse(nn.Module):
    """Motifs and the exponential of their strongest matches, normalised.

    The exponential makes filters sharp: a near miss counts for little (Koo & Ploenzke, Nature
    Machine Intelligence 3:258, 2021).

    Parameters
    ----------
    motifs, width, pool : int
        Of :class:`MotifScan`.
    """

    def __init__(self, motifs: int, width: int, pool: int) -> None:
        super().__init__()
        self.scan = MotifScan(motifs, width, pool)
        self.norm = nn.BatchNorm1d(motifs)

    def forward(self, bases: Tensor) -> Tensor:
        """(n, position, 4) → (n, motif, ⌈position / pool⌉)."""
        matches = self.scan(bases)
        rows, positions, motifs = matches.shape
        normal = self.norm(matches.reshape(rows * positions, motifs)).reshape(matches.shape)
        return torch.exp(normal.clamp(max=_STEEPEST)).transpose(1, 2)


def _windows(padded: Tensor, width: int, step: int, offset: int) -> Tensor:
    """Windows at every ``step``-th position from ``offset``, (n · window, width · 4)."""
    places = (padded.shape[1] - width + 1) // step
    windows = padded[:, offset:].unfold(1, width, step)[:, :places]
    return windows.transpose(2, 3).reshape(len(padded) * places, 4 * width)


class _Strongest(torch.autograd.Function):
    """max over offsets of windows · weights; no gradient for the bases."""

    @staticmethod
    def forward(ctx: FunctionCtx, padded: Tensor, weight: Tensor, pool: int) -> Tensor:
        width, turned = weight.shape[1] // 4, weight.t().contiguous()
        best = _windows(padded, width, pool, 0) @ turned
        which, here, more = torch.zeros_like(best), torch.empty_like(best), torch.empty_like(best)
        for offset in range(1, pool):
            torch.mm(_windows(padded, width, pool, offset), turned, out=here)
            # Comparisons as numbers: boolean masks are ten times slower than this.
            torch.gt(here, best, out=more)
            torch.maximum(which, more.mul_(offset), out=which)
            torch.maximum(best, here, out=best)
        ctx.save_for_backward(padded, which)
        ctx.width, ctx.pool = width, pool  # type: ignore[attr-defined] # torch keeps any attribute
        return best.reshape(len(padded), -1, len(weight))

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[None, Tensor, None]:
        padded, which = ctx.saved_tensors
        slope = slopes[0].reshape(which.shape).to(which.dtype)
        total = torch.zeros(which.shape[1], 4 * ctx.width, dtype=torch.float32)
        here = torch.empty_like(which)
        for offset in range(ctx.pool):
            torch.eq(which, offset, out=here)
            total += here.mul_(slope).t() @ _windows(padded, ctx.width, ctx.pool, offset)
        return None, total.to(which.dtype), None
