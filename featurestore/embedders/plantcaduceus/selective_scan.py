"""The selective scan as a differentiable function, on whatever computes it here."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from featurestore.embedders.plantcaduceus.scan_backends import choose


class _SelectiveScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        ctx.save_for_backward(*tensors)
        return choose(tensors[0].device).forward(*tensors)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return choose(grad.device).backward(grad.contiguous(), *ctx.saved_tensors)


def selective_scan(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The scan of :mod:`.scan`, differentiable once by all its arguments."""
    result: Tensor = _SelectiveScan.apply(u, delta, a, b, c, d)  # type: ignore[no-untyped-call]
    return result
