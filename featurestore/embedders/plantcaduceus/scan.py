"""The selective scan of Mamba-1 in plain torch: the reference that every other path is held to.

h[t] = exp(delta[t] A) h[t-1] + delta[t] B[t] u[t];  y[t] = C[t] h[t] + D u[t]

per sequence and inner channel, with ``d_state`` states each (Gu and Dao 2023, algorithm 2).
Shapes: ``u``, ``delta`` (s, l, c); ``a`` (c, n), negative; ``b``, ``c`` (s, l, n); ``d`` (c,);
results (s, l, c). All float32.
"""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 64
"""Steps whose factors are computed at once: enough to use the vector units, little memory."""


def scan_by_steps(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """Step by step without in-place writes, so that autograd can follow it: slow, and plainly right."""
    state = u.new_zeros(u.shape[0], u.shape[2], a.shape[1])
    rows = []
    for t in range(u.shape[1]):
        decay = torch.exp(delta[:, t, :, None] * a)
        state = decay * state + (delta[:, t] * u[:, t])[..., None] * b[:, t, None, :]
        rows.append((state * c[:, t, None, :]).sum(-1))
    return torch.stack(rows, dim=1) + u * d


@torch.no_grad()
def scan_in_chunks(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The same numbers, faster: factors of a chunk at once, then an in-place loop over its steps."""
    sequences, length, channels = u.shape
    state = u.new_zeros(sequences, channels, a.shape[1])
    out = torch.empty_like(u)
    driven = delta * u
    for start in range(0, length, CHUNK):
        stop = min(start + CHUNK, length)
        decay = (delta[:, start:stop, :, None] * a).exp_()
        states = driven[:, start:stop, :, None] * b[:, start:stop, None, :]
        for t in range(stop - start):
            state = states[:, t].addcmul_(decay[:, t], state)
        out[:, start:stop] = torch.matmul(states, c[:, start:stop, :, None]).squeeze(-1)
    return out.addcmul_(u, d)
