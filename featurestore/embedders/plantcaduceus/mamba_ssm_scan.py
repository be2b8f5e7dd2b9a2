"""The scan of the package ``mamba_ssm``, where that is installed.

Its Mamba-1 kernel is CUDA code that newer releases build only on request, so an import that
succeeds says nothing: :mod:`.cuda` calls it and compares before it is chosen.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from featurestore.embedders.plantcaduceus.scan_backends import Gradients


class MambaSsmScan:
    """``selective_scan_fn`` of ``mamba_ssm``; raises ImportError where the package is absent."""

    name = "mamba_ssm"

    def __init__(self) -> None:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

        self._scan: Callable[..., Tensor] = selective_scan_fn

    def _run(self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
        """In its layout: channels in front of positions, B and C with a group axis, A and D float32."""
        first = [v.transpose(1, 2).contiguous() for v in (u, delta, b, c)]
        u, delta, b, c = first[0], first[1], first[2][:, None], first[3][:, None]
        y = self._scan(u, delta, a.float().contiguous(), b, c, d.float().contiguous())
        return y.transpose(1, 2)

    @torch.no_grad()
    def forward(
        self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        """Result y, shape (s, l, c); shapes as in :mod:`.scan`."""
        return self._run(u, delta, a, b, c, d).contiguous()

    def backward(
        self, grad: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Gradients:
        """Gradients by u, delta, a, b, c and d, by the package's own gradient."""
        given = [v.detach().requires_grad_() for v in (u, delta, a, b, c, d)]
        with torch.enable_grad():
            y = self._run(*given)
        return torch.autograd.grad(y, given, grad)  # type: ignore[return-value] # six, as given
