"""What compiled kernels must agree with before they are used: the plain torch form, on small cases."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from featurestore.embedders.native.library import Library
from featurestore.embedders.plantcaduceus.layers import Direction, Layer, run_layers
from featurestore.embedders.plantcaduceus.native.inference import PackedLayers
from featurestore.embedders.plantcaduceus.native.scan import CompiledScan
from featurestore.embedders.plantcaduceus.scan import scan_by_steps
from featurestore.native.compiler import KernelError

TOLERANCE: Final = 2e-5
"""Largest difference, of the largest value: float32 rounding gives some 1e-6."""
COARSE: Final = 3e-2
"""The same where factors are bfloat16: plain torch also rounds each product to bfloat16."""


def check(library: Library) -> None:
    """Refuse a library whose numbers are not those of the plain torch form.

    Raises
    ------
    KernelError
        Naming the function and the difference.
    """
    for states, width, strands in ((16, 4, 1), (5, 3, 2)):
        _check_scan(library, states)
        _check_layers(library, states, width, strands)


def _compare(what: str, found: Tensor, wanted: Tensor, tolerance: float = TOLERANCE) -> None:
    difference = float((found - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-30)
    if not difference <= tolerance:  # NaN fails as well
        raise KernelError(
            f"the compiled kernels failed their self-test: {what} differs by {difference:.2g} of its "
            f"size from plain torch, {tolerance:g} is allowed; set CC to another compiler, and please "
            "report this one"
        )


def _check_scan(library: Library, states: int) -> None:
    draw = torch.Generator().manual_seed(states)
    sizes = [(2, 19, 21), (2, 19, 21), (21, states), (2, 19, states), (2, 19, states), (21,)]
    u, delta, a, b, c, d = (torch.randn(s, generator=draw, dtype=torch.float32) for s in sizes)
    given = [u, torch.nn.functional.softplus(delta), -torch.exp(a), b, c, d]
    grad = torch.randn((2, 19, 21), generator=draw, dtype=torch.float32)
    with torch.enable_grad():
        followed = [t.double().requires_grad_() for t in given]
        wanted = scan_by_steps(*followed)
        gradients = torch.autograd.grad(wanted, followed, grad.double())
    scan = CompiledScan(library)
    _compare(f"scan with {states} states", scan.forward(*given), wanted.detach())
    found = scan.backward(grad, *given)
    for name, one, other in zip(("u", "delta", "a", "b", "c", "d"), found, gradients, strict=True):
        _compare(f"gradient of the scan by {name}, {states} states,", one, other)


def _check_layers(library: Library, states: int, width: int, strands: int) -> None:
    draw = torch.Generator().manual_seed(width)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float32)

    def way() -> Direction:
        return Direction(
            some(20, width) / 2, some(20), some(3 + 2 * states, 20) / 5, some(20, 3) / 2,
            some(20) - 3, -torch.exp(some(20, states)), some(20),
        )  # fmt: skip

    layers = tuple(
        Layer(1 + some(12) / 3, some(40, 12) / 4, some(12, 20) / 5, way(), way(), 1e-5)
        for _ in range(2)
    )
    x = some(strands, 67, 12)  # so small that torch does it in one thread
    for dtype, tolerance in ((torch.float32, TOLERANCE), (torch.bfloat16, COARSE)):
        found = PackedLayers(library, layers, dtype).run(x)
        for one, other in zip(found, run_layers(x, layers, dtype), strict=True):
            _compare(f"two layers with {states} states in {dtype}", one, other, tolerance)
