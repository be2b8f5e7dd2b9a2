"""The selective scan and its gradient by Triton, for NVIDIA GPUs without ``mamba_ssm``.

The gradient keeps nothing from the forward pass. It first writes the state in front of each chunk
of steps, then goes through the chunks from the back, each from its saved state: memory is that of
``length / CHUNK + CHUNK`` states. Sums over sequences and blocks of channels are written apart and
added by torch, without atomics: results are the same every time.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Final

import torch
import triton
from torch import Tensor

from featurestore.embedders.plantcaduceus import triton_scan_kernels as kernels
from featurestore.embedders.plantcaduceus.scan_backends import Gradients, TorchScan

CHUNK: Final = 16
"""Steps between saved states in the gradient; with 512 steps, 32 states kept and 16 at work."""

BLOCK: Final = 32
"""Channels of one program: one warp, one thread each."""


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Makes the GPU of a tensor the one that Triton launches on; nothing on a CPU (interpreter)."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


class TritonScan:
    """The scan and its gradient by Triton; float64 goes through torch."""

    name = "triton"

    def forward(
        self, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Tensor:
        """Result y (s, l, c), in the dtype of ``u``; shapes as in :mod:`.scan`."""
        if u.dtype == torch.float64:
            return TorchScan().forward(u, delta, a, b, c, d)
        u, delta, a, b, c, d = (v.contiguous() for v in (u, delta, a, b, c, d))
        sequences, length, channels = u.shape
        states = a.shape[1]
        y = torch.empty_like(u)
        with on_device(u):
            kernels.forward[(sequences * triton.cdiv(channels, BLOCK),)](
                u, delta, a, b, c, d, y, length, channels, 1,
                N=states, NP=triton.next_power_of_2(states), BLOCK_C=BLOCK, num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip
        return y

    def backward(
        self, grad: Tensor, u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor
    ) -> Gradients:
        """Gradients by u, delta, a, b, c and d, each in the dtype of what it belongs to."""
        if u.dtype == torch.float64:
            return TorchScan().backward(grad, u, delta, a, b, c, d)
        given = (u, delta, a, b, c, d)
        grad, u, delta, a, b, c, d = (v.contiguous() for v in (grad, *given))
        (sequences, length, channels), states = u.shape, a.shape[1]
        padded, blocks = triton.next_power_of_2(states), triton.cdiv(channels, BLOCK)

        def floats(*shape: int) -> Tensor:
            return torch.empty(shape, dtype=torch.float32, device=u.device)

        saved = floats(sequences, triton.cdiv(length, CHUNK), padded, channels)
        chunk = floats(sequences, CHUNK, padded, channels)
        du, ddelta = torch.empty_like(u), torch.empty_like(delta)
        da, dd = floats(sequences, padded, channels), floats(sequences, channels)
        db, dc = (floats(sequences, blocks, length, states) for _ in range(2))
        with on_device(u):
            kernels.backward[(sequences * blocks,)](
                grad, u, delta, a, b, c, d, saved, chunk, du, ddelta, da, db, dc, dd,
                length, channels, 1,
                N=states, NP=padded, STEPS=CHUNK, BLOCK_C=BLOCK, num_warps=1, enable_fp_fusion=True,
            )  # fmt: skip
        whole = (du, ddelta, da.sum(0)[:states].t(), db.sum(1), dc.sum(1), dd.sum(0))
        fitted = (g.to(v.dtype).contiguous() for g, v in zip(whole, given, strict=True))
        return tuple(fitted)  # type: ignore[return-value] # six of them, as given
