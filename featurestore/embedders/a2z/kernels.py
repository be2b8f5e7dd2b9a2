"""a2z on the processor by the compiled kernels: one call from bases to embedding and probability.

Each thread takes windows of its own from beginning to end and waits for nobody, where torch's layers
meet some four hundred times a batch; that is what counts on a machine with other work on it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # torch's own convention

from featurestore.embedders.a2z.architecture import EMBEDDING, FILTERS, SHAPES, STATE, UNITS, WINDOW
from featurestore.embedders.a2z.word_tables import WordTables
from featurestore.embedders.native.library import BFLOAT16, FLOAT32, ROUNDED, Library, kernels

log = logging.getLogger(__name__)

TOLERANCE: Final = {"fp32": 1e-5, "bf16": 0.03}
"""Largest difference of any output from plain torch in float32; states lie within ±1."""

PARTS: Final = 8
"""Of the columns of the dense layer, summed apart: less rounding; as in ``a2z.c``."""
PADDED: Final = 928
"""Channels of the embedding, in whole vectors of any width."""


class CompiledForm:
    """The weights of one model as the kernels take them.

    Parameters
    ----------
    library : Library
    tables : WordTables
        Of the convolution.
    tensors : mapping
        The model's state dict.
    dtype : {"fp32", "bf16"}
        Of the factors of the LSTM's products; sums, gates, cells and heads are float32.
    """

    def __init__(
        self, library: Library, tables: WordTables, tensors: Mapping[str, Tensor], dtype: str
    ) -> None:
        self._library = library
        narrow = BFLOAT16 if library.native_bfloat16 else ROUNDED
        self._format = FLOAT32 if dtype == "fp32" else narrow
        lstm = {key.removeprefix("lstm."): t.detach() for key, t in tensors.items()}
        ways, offsets = [], []
        for side in ("", "_reverse"):
            both = [lstm[f"weight_ih_l0{side}"], lstm[f"weight_hh_l0{side}"]]
            ways.append(self._packed(torch.cat(both, dim=1), self._format))
            offsets.append(lstm[f"bias_ih_l0{side}"] + lstm[f"bias_hh_l0{side}"])
        dense, offset, output = (
            F.pad(t.detach().t(), (0, PADDED - EMBEDDING)).t().contiguous()
            for t in (tensors["dense.weight"], tensors["dense.bias"], tensors["output.weight"][0])
        )
        heads = (
            torch.stack([self._packed(part, FLOAT32) for part in dense.chunk(PARTS, dim=1)]), offset, torch.cat([output, tensors["output.bias"].detach()])
        )  # fmt: skip
        self._weights = (tables.rows, tables.bias, *ways, torch.stack(offsets).contiguous(), *heads)

    def _packed(self, weights: Tensor, form: int) -> Tensor:
        weights = weights.contiguous()
        to = torch.empty(weights.shape, dtype=torch.bfloat16 if form == BFLOAT16 else torch.float32)
        self._library("meristem_pack", (weights, to), *weights.shape, form)
        return to

    def outputs(self, sets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """State (n, 640), embedding (n, 925), probability (n, 1) of uint8 sets of bases, (n, 600)."""
        sets, n = sets.contiguous(), len(sets)
        found = torch.empty(n, STATE), torch.empty(n, EMBEDDING), torch.empty(n, 1)
        sizes = (n, self._format, torch.get_num_threads())
        self._library("meristem_a2z", (sets, *self._weights, *found), *sizes)
        return found

    def sets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`.word_tables.as_sets`; x is float32."""
        x = x.contiguous()
        sets = torch.empty(x.shape[:2], dtype=torch.uint8)
        exact = torch.empty(len(x), dtype=torch.bool)
        self._library("meristem_a2z_sets", (x, sets, exact), len(x))
        return sets, exact


def compiled_form(
    tables: WordTables, tensors: Mapping[str, Tensor], dtype: str
) -> CompiledForm | None:
    """The compiled form of a model; None where there are no kernels, or none that agree with torch."""
    library = kernels()
    if library is None or not _agrees(dtype):
        return None
    return CompiledForm(library, tables, tensors, dtype)


@cache
def _agrees(dtype: str) -> bool:
    """Whether the kernels agree with torch on a model of small random weights."""
    library = kernels()
    assert library is not None  # noqa: S101 # asked by compiled_form
    draw = torch.Generator().manual_seed(0)
    tensors = {
        key: (torch.rand(shape, generator=draw) - 0.5) * (0.4 if key.startswith("conv") else 0.1)
        for key, shape in SHAPES.items()
    }
    sets = torch.randint(0, 16, (3, WINDOW), generator=draw, dtype=torch.uint8)
    tables = WordTables(tensors["conv.weight"], tensors["conv.bias"])
    found = CompiledForm(library, tables, tensors, dtype).outputs(sets)
    lstm = torch.nn.LSTM(FILTERS, UNITS, bidirectional=True)
    lstm.load_state_dict(
        {k.removeprefix("lstm."): v for k, v in tensors.items() if k[:4] == "lstm"}
    )
    with torch.no_grad():
        state = lstm(tables.pooled(sets))[1][0].transpose(0, 1).reshape(len(sets), STATE)
    embedding = state @ tensors["dense.weight"].t() + tensors["dense.bias"]
    output = torch.sigmoid(embedding @ tensors["output.weight"].t() + tensors["output.bias"])
    pairs = zip(found, (state, embedding, output), strict=True)
    difference = max(float((own - torchs).abs().max()) for own, torchs in pairs)
    if difference <= TOLERANCE[dtype]:
        return True
    log.warning(
        "a2z runs by torch, more slowly: the compiled kernels differ from it by %.2g", difference
    )
    return False
