"""All layers by the compiled kernels: weights packed once, one call for a batch."""

from __future__ import annotations

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.native.library import BFLOAT16, FLOAT32, ROUNDED, Library
from featurestore.embedders.plantcaduceus.layers import Direction, Layer
from featurestore.embedders.plantcaduceus.native.scan import MOST_STATES

NAMES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""Dtypes of the factors of matrix products that the kernels compute; sums are always in float32."""


class PackedLayers:
    """Layers in the arrangement of the kernels: padded to whole vectors, in panels, in one dtype."""

    def __init__(self, library: Library, layers: tuple[Layer, ...], dtype: torch.dtype) -> None:
        self._library = library
        self._lanes = library.lanes
        narrow = BFLOAT16 if library.native_bfloat16 else ROUNDED
        self._format = FLOAT32 if dtype == torch.float32 else narrow
        self._held: list[Tensor] = []
        first = layers[0]
        self._real, self._channels = first.norm.shape[0], first.out_proj.shape[1]
        self._states, self._rank = first.forward.a.shape[1], first.forward.dt_proj.shape[1]
        self._width = first.forward.conv.shape[1]
        self._epsilons = torch.tensor([layer.epsilon for layer in layers], dtype=torch.float32)
        self._count = len(layers)
        places = [address for layer in layers for address in self._layer(layer)]
        self._table = torch.tensor(places, dtype=torch.int64)

    @staticmethod
    def fits(layers: tuple[Layer, ...], dtype: torch.dtype) -> bool:
        """Whether the kernels compute these layers in this dtype."""
        parameters = [t for layer in layers for t in (layer.norm, layer.forward.a)]
        return (
            bool(layers)
            and dtype in NAMES.values()
            and all(p.device.type == "cpu" and p.dtype == torch.float32 for p in parameters)
            and layers[0].forward.a.shape[1] <= MOST_STATES
        )

    def run(self, x: Tensor, keep: list[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """See :func:`..layers.run_layers`."""
        x = x.detach().contiguous()
        last, residual = torch.empty_like(x), torch.empty_like(x)
        kept = None if keep is None else x.new_empty(self._count, *x.shape)
        sizes = [
            self._count, *x.shape, self._padded(self._real), self._padded(self._channels),
            self._rank, self._states, self._padded(self._rank + 2 * self._states), self._width,
            self._format, torch.get_num_threads(),
        ]  # fmt: skip
        arrays = (self._table, self._epsilons, x, last, residual, kept)
        self._library("meristem_layers", (*arrays, torch.tensor(sizes, dtype=torch.int64)))
        if keep is not None and kept is not None:
            keep.extend(kept)
        return last, residual

    def _padded(self, count: int) -> int:
        return -(-count // self._lanes) * self._lanes

    def _layer(self, layer: Layer) -> list[int]:
        """Addresses in the order of ``struct layer``."""
        inner, gate = layer.in_proj.chunk(2)
        both = torch.cat([self._pad(inner), self._pad(gate)])
        return [
            self._hold(self._pad(layer.norm)),
            self._pack(both),
            self._pack(self._pad(layer.out_proj)),
            *self._direction(layer.forward),
            *self._direction(layer.reverse),
        ]

    def _direction(self, way: Direction) -> list[int]:
        """Addresses in the order of ``struct direction``."""
        steps = self._pad(way.dt_proj.t())[: self._rank]
        blocks = steps.reshape(self._rank, -1, self._lanes).transpose(0, 1)
        scaled = (way.a * math.log2(math.e)).t()  # e^(delta a) = 2^(delta a log2 e)
        return [
            self._hold(self._pad(way.conv.t())[: self._width]),
            *(self._hold(self._pad(vector)) for vector in (way.conv_bias, way.d, way.dt_bias)),
            self._pack(self._pad(way.x_proj)),
            self._hold(blocks),
            self._hold(self._pad(scaled)[: self._states]),
        ]

    def _pad(self, values: Tensor) -> Tensor:
        """Every axis to whole vectors, with zeros."""
        ends = [end for n in reversed(values.shape) for end in (0, self._padded(n) - n)]
        return F.pad(values.detach(), ends)

    def _hold(self, values: Tensor) -> int:
        self._held.append(values.contiguous())
        return self._held[-1].data_ptr()

    def _pack(self, weights: Tensor) -> int:
        weights = weights.contiguous()
        packed = torch.empty(
            weights.shape, dtype=torch.bfloat16 if self._format == BFLOAT16 else torch.float32
        )
        self._library("meristem_pack", (weights, packed), *weights.shape, self._format)
        self._held.append(packed)
        return packed.data_ptr()
