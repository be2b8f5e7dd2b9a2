"""Chooses how the layers are run: by what this machine can do, tested, never by guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from featurestore.embedders.plantcaduceus import cuda
from featurestore.embedders.plantcaduceus.layers import Layer, run_layers
from featurestore.embedders.plantcaduceus.precision import forced_precision

if TYPE_CHECKING:
    from featurestore.embedders.plantcaduceus.modeling import Backbone


class Prepared:
    """Layer tensors in the form a path wants them, kept until a parameter changes."""

    def __init__(self) -> None:
        self._key: Any = None
        self._layers: tuple[Layer, ...] = ()

    def layers(self, backbone: Backbone) -> tuple[Layer, ...]:
        """Folded layers; made anew when a parameter was written to, moved or replaced."""
        key = tuple((p.data_ptr(), p._version, p.device) for p in backbone.parameters())
        if key != self._key:
            self._layers, self._key = backbone.layer_tensors(), key
        return self._layers


def run(
    backbone: Backbone, x: Tensor, dtype: torch.dtype, keep: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """All layers of a model on embedded strands, shape (s, l, d); see :func:`.layers.run_layers`."""
    with forced_precision(x.device.type):
        if torch.is_grad_enabled():
            return run_layers(x, backbone.layer_tensors(), dtype, keep)
        layers = backbone.prepared.layers(backbone)
        if x.is_cuda:
            return cuda.run_layers(x, layers, dtype, keep)
        return run_layers(x, layers, dtype, keep)


def active(device: str, dtype: str) -> str:
    """Which path runs on a device with a compute dtype, in words."""
    return f"plain torch, {dtype}"
