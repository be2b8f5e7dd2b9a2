"""a2z on the processor by the compiled kernels: one call from bases to the states of the LSTM.

Each thread takes windows of its own from beginning to end and waits for nobody, where torch's layers
meet some four hundred times a batch; that is what counts on a machine with other work on it.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Final

import torch
from torch import Tensor

from featurestore.embedders.a2z.architecture import BASES, FILTERS, STATE, UNITS, WIDTH, WINDOW
from featurestore.embedders.a2z.word_tables import WordTables
from featurestore.embedders.plantcaduceus.native.inference import BFLOAT16, FLOAT32, ROUNDED
from featurestore.embedders.plantcaduceus.native.library import Library, kernels

log = logging.getLogger(__name__)

TOLERANCE: Final = {"fp32": 1e-5, "bf16": 0.03}
"""Largest difference of states, which lie within ±1, from plain torch in float32."""


class CompiledState:
    """The weights of one model as the kernels take them.

    Parameters
    ----------
    library : Library
    tables : WordTables
        Of the convolution.
    lstm : torch.nn.LSTM
    dtype : {"fp32", "bf16"}
        Of the factors of the LSTM's products; sums, gates and cells are float32.
    """

    def __init__(
        self, library: Library, tables: WordTables, lstm: torch.nn.LSTM, dtype: str
    ) -> None:
        self._library = library
        narrow = BFLOAT16 if library.native_bfloat16 else ROUNDED
        self._format = FLOAT32 if dtype == "fp32" else narrow
        own = {name: p.detach() for name, p in lstm.named_parameters()}
        ways = [self._packed(own, suffix) for suffix in ("", "_reverse")]
        offsets = [own[f"bias_ih_l0{s}"] + own[f"bias_hh_l0{s}"] for s in ("", "_reverse")]
        self._weights = (tables.rows, tables.bias, *ways, torch.stack(offsets).contiguous())

    def _packed(self, own: dict[str, Tensor], suffix: str) -> Tensor:
        both = torch.cat([own[f"weight_ih_l0{suffix}"], own[f"weight_hh_l0{suffix}"]], dim=1)
        both = both.contiguous()
        narrow = torch.bfloat16 if self._format == BFLOAT16 else torch.float32
        to = torch.empty(both.shape, dtype=narrow)
        self._library("meristem_pack", (both, to), *both.shape, self._format)
        return to

    def state(self, sets: Tensor) -> Tensor:
        """States, shape (n, 640), of uint8 sets of bases, shape (n, 600)."""
        sets = sets.contiguous()
        found = torch.empty(len(sets), STATE)
        sizes = (len(sets), self._format, torch.get_num_threads())
        self._library("meristem_a2z", (sets, *self._weights, found), *sizes)
        return found

    def sets(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See :func:`.word_tables.as_sets`; x is float32."""
        x = x.contiguous()
        sets = torch.empty(x.shape[:2], dtype=torch.uint8)
        exact = torch.empty(len(x), dtype=torch.bool)
        self._library("meristem_a2z_sets", (x, sets, exact), len(x))
        return sets, exact


def compiled_state(tables: WordTables, lstm: torch.nn.LSTM, dtype: str) -> CompiledState | None:
    """The compiled form of a model; None where there are no kernels, or none that agree with torch."""
    library = kernels()
    if library is None or not _agrees(dtype):
        return None
    return CompiledState(library, tables, lstm, dtype)


@cache
def _agrees(dtype: str) -> bool:
    """Whether the kernels agree with torch on a model of small random weights."""
    library = kernels()
    assert library is not None  # noqa: S101 # asked by compiled_state
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        lstm = torch.nn.LSTM(FILTERS, UNITS, bidirectional=True)
        tables = WordTables(torch.randn(FILTERS, BASES, WIDTH) / 5, torch.randn(FILTERS) / 5)
        sets = torch.randint(0, 16, (3, WINDOW), dtype=torch.uint8)
        last = lstm(tables.pooled(sets))[1][0]
        found = CompiledState(library, tables, lstm, dtype).state(sets)
    wanted = last.transpose(0, 1).reshape(len(sets), STATE)
    difference = float((found - wanted).abs().max())
    if difference <= TOLERANCE[dtype]:
        return True
    log.warning(
        "a2z runs by torch, more slowly: the compiled kernels differ from it by %.2g", difference
    )
    return False
