"""Runs the Triton kernels on a CPU, through Triton's interpreter, in a process of its own.

The interpreter is switched on by TRITON_INTERPRET=1 at import, for good: hence the process.
``python -m tests.builders.triton_interpreted OUT`` computes all cases and writes them to OUT;
``… OUT CHECKPOINT`` adds the hidden states of a checkpoint's recorded input.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from featurestore.embedders.plantcaduceus.layers import Direction, Layer


@dataclass(frozen=True)
class ScanCase:
    """Sizes of a scan; inputs follow from them."""

    length: int
    channels: int
    states: int
    sequences: int = 1
    dtype: torch.dtype = torch.float32

    def inputs(self) -> tuple[Tensor, ...]:
        """Gradient by the result, then u, delta, a, b, c and d; u and delta in ``dtype``."""
        draw = torch.Generator().manual_seed(self.length)
        s, l, c, n = self.sequences, self.length, self.channels, self.states  # noqa: E741

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw)

        delta = torch.rand((s, l, c), generator=draw) * 0.5
        a = -torch.rand((c, n), generator=draw) * 10 - 0.05
        streams = [v.to(self.dtype) for v in (normal(s, l, c), normal(s, l, c), delta)]
        return (*streams, a, normal(s, l, n), normal(s, l, n), normal(c))


@dataclass(frozen=True)
class LayersCase:
    """Sizes of a stack of layers; inputs and parameters follow from them."""

    length: int
    width: int
    states: int
    taps: int
    dtype: torch.dtype = torch.float32
    count: int = 2

    def inputs(self) -> tuple[Tensor, tuple[Layer, ...]]:
        """Embedded strands (2, l, d), and layers whose two directions differ in everything."""
        draw = torch.Generator().manual_seed(self.length)
        channels, rank, n = 2 * self.width, 3, self.states

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=draw) / shape[-1] ** 0.5

        def way() -> Direction:
            return Direction(
                normal(channels, self.taps), normal(channels), normal(rank + 2 * n, channels),
                normal(channels, rank), torch.randn(channels, generator=draw) * 4 - 2,
                -torch.rand((channels, n), generator=draw) * 8 - 0.05, normal(channels),
            )  # fmt: skip

        layers = tuple(
            Layer(
                1 + normal(self.width), normal(2 * channels, self.width),
                normal(self.width, channels), way(), way(), 1e-5,
            )
            for _ in range(self.count)
        )  # fmt: skip
        return torch.randn((2, self.length, self.width), generator=draw), layers


BF16, FP16 = torch.bfloat16, torch.float16
SCANS = {
    "one step": ScanCase(1, 5, 4, sequences=2),
    "short of a chunk": ScanCase(63, 20, 16),
    "whole chunks, two blocks": ScanCase(64, 33, 4),
    "one over": ScanCase(65, 30, 16),
    "long": ScanCase(130, 7, 5),
    "bf16": ScanCase(33, 12, 16, dtype=BF16),
    "fp16": ScanCase(17, 12, 4, sequences=2, dtype=FP16),
}
LAYERS = {
    "one position": LayersCase(1, 8, 4, 4),
    "odd sizes": LayersCase(11, 20, 5, 3),
    "l20's states and taps": LayersCase(23, 24, 16, 4, count=1),
    "layers in bf16": LayersCase(18, 16, 16, 4, dtype=BF16),
    "layers in fp16": LayersCase(18, 16, 16, 4, dtype=FP16),
}
GRADIENTS = ("u", "delta", "a", "b", "c", "d")


def compute() -> dict[str, Tensor]:
    """All cases by the Triton kernels."""
    from featurestore.embedders.plantcaduceus import triton_inference
    from featurestore.embedders.plantcaduceus.triton_scan import TritonScan

    found = {}
    for name, case in SCANS.items():
        grad, *given = case.inputs()
        found[f"{name}/y"] = TritonScan().forward(*given)
        gradients = TritonScan().backward(grad, *given)
        found |= {f"{name}/{k}": g for k, g in zip(GRADIENTS, gradients, strict=True)}
    for name, stack in LAYERS.items():
        x, layers = stack.inputs()
        kept: list[Tensor] = []
        out, residual = triton_inference.run_layers(x, layers, stack.dtype, kept)
        found |= {f"{name}/out": out, f"{name}/residual": residual}
        found |= {f"{name}/kept{i}": h.clone() for i, h in enumerate(kept)}
    return found


def hidden_states(checkpoint: Path) -> dict[str, Tensor]:
    """Hidden states and logits of the first recorded sequence of a checkpoint, by the kernels."""
    from featurestore.embedders.plantcaduceus import modeling, triton_inference

    triton_inference.BLOCK = 64  # fewer programs, which the interpreter runs one after the other
    modeling.paths.run = lambda backbone, x, dtype, keep: triton_inference.run_layers(
        x, backbone.layer_tensors(), dtype, keep
    )
    ids = torch.from_numpy(np.load(checkpoint / "io.npz")["input_ids"][:1])
    with torch.no_grad():
        model = modeling.PlantCaduceusForMaskedLM.from_pretrained(checkpoint)
        out = model(ids, output_hidden_states=True)
    found = {f"hidden_{i}": h.clone() for i, h in enumerate(out.hidden_states)}
    return found | {"logits": out.logits}


if __name__ == "__main__":
    result = compute()
    if len(sys.argv) > 2:
        result |= hidden_states(Path(sys.argv[2]))
    save_file({k: v.contiguous() for k, v in result.items()}, Path(sys.argv[1]))
