"""Chooses how the layers are run: by what this machine can do, tested, never by guess."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from featurestore.embedders.native.library import absence, kernels
from featurestore.embedders.plantcaduceus import cuda
from featurestore.embedders.plantcaduceus.layers import Layer, run_layers
from featurestore.embedders.plantcaduceus.native.inference import NAMES, PackedLayers
from featurestore.embedders.plantcaduceus.precision import forced_precision

if TYPE_CHECKING:
    from featurestore.embedders.plantcaduceus.modeling import Backbone


class Prepared:
    """Layer tensors in the form a path wants them, kept until a parameter changes."""

    def __init__(self) -> None:
        self._key: Any = None
        self._layers: tuple[Layer, ...] = ()
        self._packed: dict[torch.dtype, PackedLayers | None] = {}
        self._lock = threading.Lock()  # workers of a build share a model

    def __reduce__(self) -> tuple[type[Prepared], tuple[()]]:
        return Prepared, ()  # a copied or pickled model prepares its own

    def _follow(self, backbone: Backbone) -> None:
        key = tuple((p.data_ptr(), p._version, p.device) for p in backbone.parameters())
        if key != self._key:
            self._layers, self._packed, self._key = (), {}, key

    def layers(self, backbone: Backbone) -> tuple[Layer, ...]:
        """Folded layers; made anew when a parameter was written to, moved or replaced."""
        with self._lock:
            self._follow(backbone)
            self._layers = self._layers or backbone.layer_tensors()
            return self._layers

    def packed(self, backbone: Backbone, dtype: torch.dtype) -> PackedLayers | None:
        """Layers as the compiled kernels take them; None where those cannot run them."""
        if (library := kernels()) is None:
            return None
        with self._lock:
            self._follow(backbone)
            if dtype not in self._packed:
                layers = backbone.layer_tensors()
                fits = PackedLayers.fits(layers, dtype)
                self._packed[dtype] = PackedLayers(library, layers, dtype) if fits else None
            return self._packed[dtype]


def run(
    backbone: Backbone, x: Tensor, dtype: torch.dtype, keep: list[Tensor] | None
) -> tuple[Tensor, Tensor]:
    """All layers of a model on embedded strands, shape (s, l, d); see :func:`.layers.run_layers`."""
    with forced_precision(x.device.type):
        if torch.is_grad_enabled() and any(p.requires_grad for p in (x, *backbone.parameters())):
            return run_layers(x, backbone.layer_tensors(), dtype, keep)
        if x.device.type == "cpu" and (packed := backbone.prepared.packed(backbone, dtype)):
            return packed.run(x, keep)
        layers = backbone.prepared.layers(backbone)
        return (cuda.run_layers if x.is_cuda else run_layers)(x, layers, dtype, keep)


def active(device: str, dtype: str) -> str:
    """Which path runs on a device in a dtype (fp32, bf16, fp16), in one line of words.

    Compiles and tests kernels that are not yet.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return cuda.cuda_path(device, dtype)
    if kind != "cpu":
        return f"plain torch, {dtype}"
    if (library := kernels()) is None:
        return f"plain torch, {dtype}: {absence()}"
    if dtype not in NAMES:
        return f"plain torch, {dtype}: the compiled kernels have fp32 and bf16"
    how = "" if library.native_bfloat16 or dtype == "fp32" else " held in fp32"
    return f"kernels compiled by {library.words}, {dtype}{how}"
