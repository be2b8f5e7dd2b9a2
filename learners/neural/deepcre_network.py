"""The network of deepCRE (Peleke et al., Nat. Commun. 15:3488, 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from learners.neural.onehot_layers import pooled_length, rectified_block, start_as_keras
from learners.neural.onehot_windows import GAP, Bases, Piece, Window

WINDOWS: Final = (Window("tss", 1000, 500), Window("tts", 500, 1000))
BETWEEN: Final = 20
"""Empty positions between the two."""
HIDDEN: Final = 3
"""Bases after the TSS and before the TTS that the network does not see."""
WIDTH: Final = 8
POOL: Final = 8


class DeepCRENetwork(nn.Module):
    """Codes of the pieces, end to end with empty positions between → (n, t).

    Parameters
    ----------
    pieces : sequence of Piece
    targets : int
    filters : sequence of int
        Of both convolutions of each block.
    dense : sequence of int
        Dropout stands after all but the last.
    dropout : float
    normalise : bool
        Batch normalisation after each block. The published network has none, and one without
        starts as it does in Keras, in which it was published.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        targets: int,
        *,
        filters: Sequence[int],
        dense: Sequence[int],
        dropout: float,
        normalise: bool,
    ) -> None:
        super().__init__()
        self.bases = Bases(pieces, unknown_is_zero=True)
        self.length = sum(p.length for p in pieces) + BETWEEN * (len(pieces) - 1)
        layers: list[nn.Module] = []
        for before, after in pairwise((4, *filters)):
            layers += rectified_block(
                before, after, WIDTH, POOL, dropout=dropout, normalise=normalise
            )
        self.blocks = nn.Sequential(*layers)
        width = filters[-1] * pooled_length(self.length, *[POOL] * len(filters))
        head: list[nn.Module] = []
        for size in dense:
            head += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.head = nn.Sequential(*head[:-1], nn.Linear(width, targets))
        if not normalise:
            start_as_keras(self)

    def read(self, values: Mapping[str, Tensor]) -> Tensor:
        """What the convolutions see, (n, 4, position)."""
        parts: list[Tensor] = []
        for piece, codes in zip(self.bases.pieces, self.bases.codes(values), strict=True):
            if parts:
                parts.append(torch.full_like(codes[:, :1], GAP).expand(-1, BETWEEN))
            parts.append(_hidden(piece, codes))
        return self.bases.one_hot(torch.cat(parts, dim=1))

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets or, of quartiles, log-odds, shape (n, t)."""
        scores: Tensor = self.head(self.blocks(self.read(values)).flatten(1))
        return scores


def _hidden(piece: Piece, codes: Tensor) -> Tensor:
    """Codes without the bases at the anchor on the side of the gene."""
    if piece.window is None:
        return codes
    anchor = piece.window.upstream
    first = anchor if piece.window.anchor == "tss" else anchor - HIDDEN
    low, high = max(first, 0), min(first + HIDDEN, codes.shape[1])
    seen = codes.clone()
    seen[:, low:high] = GAP
    return seen
