"""The numbers of the architecture (``build_DanQ`` of twrightsman/a2z-regulatory) and its tensors.

Convolution of 320 kernels of 26 bases, ReLU, maximum over 13 positions, bidirectional LSTM of
2 × 320 units, dense 925 (linear), dense 1 (sigmoid).
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 600
"""Bases that the model reads."""
BASES: Final = 4
"""Channels of the input, in the order A C G T."""
FILTERS: Final = 320
WIDTH: Final = 26
POOL: Final = 13
STEPS: Final = (WINDOW - WIDTH + 1) // POOL
"""Steps of the LSTM: 44; the last 3 of 575 positions fill no whole pool and are dropped."""
UNITS: Final = 320
STATE: Final = 2 * UNITS
EMBEDDING: Final = 925

SHAPES: Final[dict[str, tuple[int, ...]]] = {
    "conv.weight": (FILTERS, BASES, WIDTH),
    "conv.bias": (FILTERS,),
    "lstm.weight_ih_l0": (4 * UNITS, FILTERS),
    "lstm.weight_hh_l0": (4 * UNITS, UNITS),
    "lstm.bias_ih_l0": (4 * UNITS,),
    "lstm.bias_hh_l0": (4 * UNITS,),
    "lstm.weight_ih_l0_reverse": (4 * UNITS, FILTERS),
    "lstm.weight_hh_l0_reverse": (4 * UNITS, UNITS),
    "lstm.bias_ih_l0_reverse": (4 * UNITS,),
    "lstm.bias_hh_l0_reverse": (4 * UNITS,),
    "dense.weight": (EMBEDDING, STATE),
    "dense.bias": (EMBEDDING,),
    "output.weight": (1, EMBEDDING),
    "output.bias": (1,),
}
"""Tensors of our model, as safetensors hold them. Gates stand in the order i f g o, as in Keras
(i f c o). Keras has one bias a gate, so ``bias_hh`` is zero and does not train."""
