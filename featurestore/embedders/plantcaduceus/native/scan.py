"""The selective scan and its gradient by the compiled kernels: the CPU's :class:`.ScanBackend`."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor

from featurestore.embedders.native.library import Library
from featurestore.embedders.plantcaduceus.scan import scan_in_chunks
from featurestore.embedders.plantcaduceus.scan_gradient import scan_gradient

MOST_STATES: Final = 256
"""States per channel that the kernels have room for."""

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class CompiledScan:
    """Vectors over channels, states in registers, threads over sequences.

    The gradient recomputes the states from marks every few steps, so it keeps about
    ``2 * d_state`` numbers per sequence position and vector of channels. Results do not depend on
    the number of threads. Arrays of another dtype than float32 go to the torch form.
    """

    name = "compiled"

    def __init__(self, library: Library) -> None:
        self._library = library

    def forward(
        self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        """Result y, shape (s, l, c); see :mod:`..scan`."""
        given = (u, delta, a, b, c, d)
        if not _fits(given):
            return scan_in_chunks(*given)
        u, delta, a2, b, c, d = _packed(given)
        y = torch.empty_like(u)
        sizes = (*u.shape, a2.shape[0], torch.get_num_threads())
        self._library("meristem_scan", (u, delta, a2, b, c, d, y), *sizes)
        return y

    def backward(
        self, grad: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Gradients:
        """Gradients by u, delta, a, b, c and d; see :func:`..scan_gradient.scan_gradient`."""
        given = (u, delta, a, b, c, d)
        if not _fits((grad, *given)):
            return scan_gradient(grad, *given)
        u, delta, a2, b, c, d = _packed(given)
        grad = grad.contiguous()
        du, ddelta, db, dc = (torch.empty_like(x) for x in (u, delta, b, c))
        da = u.new_empty(u.shape[0], *a2.shape)
        arrays = (grad, u, delta, a2, b, c, d, du, ddelta, da, db, dc)
        sizes = (*u.shape, a2.shape[0], torch.get_num_threads())
        self._library("meristem_scan_gradient", arrays, *sizes)
        return du, ddelta, da.sum(0).t(), db, dc, (grad * u).sum((0, 1))


def _fits(tensors: tuple[Tensor, ...]) -> bool:
    return all(t.dtype == torch.float32 for t in tensors) and tensors[-2].shape[-1] <= MOST_STATES


def _packed(tensors: tuple[Tensor, ...]) -> list[Tensor]:
    u, delta, a, b, c, d = (t.detach() for t in tensors)
    scaled = (a * math.log2(math.e)).t()  # e^(delta a) = 2^(delta a log2 e)
    return [t.contiguous() for t in (u, delta, scaled, b, c, d)]
