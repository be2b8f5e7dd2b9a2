"""The gradient of the selective scan in plain torch: keeps little, recomputes its states."""

from __future__ import annotations

import torch
from torch import Tensor

from featurestore.embedders.plantcaduceus.scan import CHUNK


def _states_before(u: Tensor, delta: Tensor, a: Tensor, b: Tensor) -> list[Tensor]:
    """The state in front of each chunk, shape (s, c, n) each."""
    state = u.new_zeros(u.shape[0], u.shape[2], a.shape[1])
    kept = []
    driven = delta * u
    for start in range(0, u.shape[1], CHUNK):
        kept.append(state)
        for t in range(start, min(start + CHUNK, u.shape[1])):
            state = (
                torch.exp(delta[:, t, :, None] * a)
                .mul_(state)
                .addcmul_(driven[:, t, :, None], b[:, t, None, :])
            )
    return kept


def scan_gradient(
    grad: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of a scalar by u, delta, a, b, c and d, given ``grad`` (s, l, c) by the result.

    States are recomputed chunk by chunk from the back, so memory is that of one chunk.
    """
    du, ddelta = grad * d, torch.empty_like(delta)
    da, db, dc = torch.zeros_like(a), torch.empty_like(b), torch.empty_like(c)
    driven = delta * u
    before = _states_before(u, delta, a, b)
    back = u.new_zeros(u.shape[0], u.shape[2], a.shape[1])
    for chunk in range(len(before) - 1, -1, -1):
        start, stop = chunk * CHUNK, min((chunk + 1) * CHUNK, u.shape[1])
        decay = torch.exp(delta[:, start:stop, :, None] * a)
        states = driven[:, start:stop, :, None] * b[:, start:stop, None, :]
        state = before[chunk]
        for t in range(stop - start):
            state = states[:, t].addcmul_(decay[:, t], state)
        dc[:, start:stop] = torch.einsum("slcn,slc->sln", states, grad[:, start:stop])
        for t in range(stop - start - 1, -1, -1):
            at = start + t
            back = back + grad[:, at, :, None] * c[:, at, None, :]
            earlier = states[:, t - 1] if t else before[chunk]
            db[:, at] = (back * driven[:, at, :, None]).sum(1)
            through = (back * b[:, at, None, :]).sum(-1)
            du[:, at] += through * delta[:, at]
            exponent = back * earlier * decay[:, t]
            ddelta[:, at] = through * u[:, at] + (exponent * a).sum(-1)
            da += (exponent * delta[:, at, :, None]).sum(0)
            back = back * decay[:, t]
    return du, ddelta, da, db, dc, (grad * u).sum((0, 1))
