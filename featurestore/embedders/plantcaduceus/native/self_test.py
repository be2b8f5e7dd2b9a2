"""What compiled kernels must agree with before they are used: the plain torch form, on small cases."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from featurestore.embedders.plantcaduceus.native.compiler import KernelError
from featurestore.embedders.plantcaduceus.native.library import Library
from featurestore.embedders.plantcaduceus.native.scan import CompiledScan
from featurestore.embedders.plantcaduceus.scan import scan_by_steps

TOLERANCE: Final = 2e-5
"""Largest difference, of the largest value: float32 rounding gives some 1e-6."""


def check(library: Library) -> None:
    """Refuse a library whose numbers are not those of the plain torch form.

    Raises
    ------
    KernelError
        Naming the function and the difference.
    """
    for states in (16, 5):
        _check_scan(library, states)


def _compare(what: str, found: Tensor, wanted: Tensor) -> None:
    difference = float((found - wanted).abs().max()) / max(float(wanted.abs().max()), 1e-30)
    if not difference <= TOLERANCE:  # NaN fails as well
        raise KernelError(
            f"the compiled kernels failed their self-test: {what} differs by {difference:.2g} of its "
            f"size from plain torch, {TOLERANCE:g} is allowed; set CC to another compiler, and please "
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
