"""The scan and its gradient, as computed on this device: torch, compiled, Triton or mamba_ssm."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from featurestore.embedders.native.library import kernels
from featurestore.embedders.plantcaduceus.native.scan import CompiledScan
from featurestore.embedders.plantcaduceus.scan import scan_in_chunks
from featurestore.embedders.plantcaduceus.scan_gradient import scan_gradient

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


class ScanBackend(Protocol):
    """A way to compute the scan; shapes as in :mod:`.scan`, float32."""

    name: str

    def forward(
        self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        """Result y, shape (s, l, c)."""
        ...

    def backward(
        self, grad: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Gradients:
        """Gradients by u, delta, a, b, c and d."""
        ...


class TorchScan:
    """Plain torch, on any device: the reference and the fallback."""

    name = "torch"

    def forward(
        self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        """See :func:`.scan.scan_in_chunks`."""
        return scan_in_chunks(u, delta, a, b, c, d)

    def backward(
        self, grad: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Gradients:
        """See :func:`.scan_gradient.scan_gradient`."""
        return scan_gradient(grad, u, delta, a, b, c, d)


def cpu_backend() -> ScanBackend:
    """The compiled scan where the kernels can be had, else plain torch."""
    library = kernels()
    return TorchScan() if library is None else CompiledScan(library)


def choose(device: torch.device) -> ScanBackend:
    """The fastest backend that works on a device."""
    if device.type == "cpu":
        return cpu_backend()
    if device.type == "cuda":
        from featurestore.embedders.plantcaduceus import cuda  # which needs this module

        return cuda.scan_backend(device)
    return TorchScan()
