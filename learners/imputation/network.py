"""The network of the hybrid: promoter, neighbouring genes and tissues, fused.

After Brown, Dong & Truong, Communications Biology 2026, doi:10.1038/s42003-026-10251-7, as far as its
abstract tells; sizes and the way tissues enter are chosen here (docs/imputation.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from learners.neural.inputs import Standardise
from learners.neural.onehot_network import MotifSize, MotifTower, segment_means, segments_of
from learners.neural.onehot_windows import Bases, whole_regions

NEAR: Final = "near"
GENE: Final = "gene"
TISSUE: Final = "tissue"
MADE: Final = frozenset({NEAR, GENE, TISSUE})
"""Features that the hybrid makes; every other one is a sequence feature of the store."""


@dataclass(frozen=True)
class Sizes:
    """How large the network is.

    Parameters
    ----------
    width : int
        Of tokens.
    heads, layers : int
        Of the transformer encoder.
    dropout : float
    motifs, motif_width : int
        Of the convolutions over sequence.
    """

    width: int = 32
    heads: int = 4
    layers: int = 2
    dropout: float = 0.2
    motifs: int = 64
    motif_width: int = 13


class ProfileNetwork(nn.Module):
    """Tokens of a gene, of its neighbours and of its tissues through a transformer encoder.

    The gene's token starts from what the trees are told of its surroundings, and from its
    sequence; a neighbour's from its profile, distance and orientation; a tissue's from its value
    if it is seen, what the others say of it, and where it stands among the tissues. Without
    tissue tokens the gene's token gives coefficients of fixed tissue patterns: the same space for
    every network, however it was started, so that trees may be given those of several.

    Parameters
    ----------
    layout : mapping
        Names, kinds and shapes of the features (:func:`learners.layout.layout_of`).
    patterns : float array, shape (T, r)
        Principal axes of the tissues' correlation, each as long as its standard deviation.
    sizes : Sizes
    """

    patterns: Tensor

    def __init__(self, layout: Mapping[str, Any], patterns: NDArray[Any], sizes: Sizes) -> None:
        super().__init__()
        self.register_buffer("patterns", torch.tensor(np.asarray(patterns), dtype=torch.float32))
        width, axes = sizes.width, patterns.shape[1]
        self.standardise = nn.ModuleDict()
        self.gene = self._plain(GENE, layout[GENE]["shape"], width) if GENE in layout else None
        self.first = nn.Parameter(torch.zeros(width))
        self.sequence = _Sequence(layout, sizes)
        self.near = nn.Linear(layout[NEAR]["shape"][1] - 1, width) if NEAR in layout else None
        self.tissue = nn.Linear(layout[TISSUE]["shape"][1] + axes, width) if TISSUE in layout else None  # fmt: skip
        self.encoder: nn.Module | None = None
        if self.near is not None or self.tissue is not None:
            layer = nn.TransformerEncoderLayer(
                width, sizes.heads, 2 * width, sizes.dropout, "gelu", batch_first=True,
                norm_first=True,
            )  # fmt: skip
            self.encoder = nn.TransformerEncoder(layer, sizes.layers, enable_nested_tensor=False)
        self.last = nn.Sequential(nn.LayerNorm(width), nn.Dropout(sizes.dropout))
        self.coefficients = nn.Linear(width, axes)
        self.residual = nn.Linear(width, 1)
        for last in (self.coefficients, self.residual):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def _plain(self, name: str, shape: list[int], width: int) -> nn.Module:
        self.standardise[name] = Standardise(shape)
        return nn.Sequential(nn.Linear(shape[0], width), nn.GELU(), nn.Linear(width, width))

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, T)."""
        return self.both(values)[0]

    def both(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Standardised targets, (n, T), and the gene's coefficients of the tissue patterns, (n, r)."""
        token, tissues = self._tokens(values)
        coefficients = self.coefficients(token)
        found = coefficients @ self.patterns.T
        if tissues is not None:
            found = found + self.residual(tissues)[..., 0]
        return found, coefficients

    def measured(self) -> dict[str, Standardise]:
        """What is to measure the training rows, by feature."""
        own: dict[str, Any] = {GENE: self.standardise[GENE]} if self.gene is not None else {}
        return own | self.sequence.measured()

    def _tokens(self, values: Mapping[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """The gene's token and those of its tissues, if there are any."""
        some = next(iter(values.values()))
        rows = len(some)
        token = self.first.expand(rows, -1) + self.sequence(values)
        if self.gene is not None:
            token = token + self.gene(self.standardise[GENE](values[GENE]))
        if self.encoder is None:
            return self.last(token), None
        tokens = [token[:, None]]
        absent = [torch.zeros(rows, 1, dtype=torch.bool, device=some.device)]
        if self.tissue is not None:
            where = self.patterns.expand(rows, -1, -1)
            tokens.append(self.tissue(torch.cat([values[TISSUE], where], dim=2)))
            absent.append(absent[0].expand(-1, len(self.patterns)))
        if self.near is not None:
            # The last column says whether there is such a neighbour.
            tokens.append(self.near(values[NEAR][..., :-1]))
            absent.append(values[NEAR][..., -1] < 0.5)
        out = self.encoder(torch.cat(tokens, dim=1), src_key_padding_mask=torch.cat(absent, dim=1))
        out = self.last(out)
        tissues = None if self.tissue is None else out[:, 1 : 1 + len(self.patterns)]
        return out[:, 0], tissues


class _Sequence(nn.Module):
    """Sequence features of a gene as one vector: convolutions over bases, dense layers elsewhere."""

    def __init__(self, layout: Mapping[str, Any], sizes: Sizes) -> None:
        super().__init__()
        own = {name: one for name, one in layout.items() if name not in MADE}
        codes = {name: one for name, one in own.items() if one["kind"] == "codes"}
        size = MotifSize(
            motifs=sizes.motifs, width=sizes.motif_width, pool=4, channels=sizes.width, blocks=2,
            block_width=5, dense=sizes.width, dropout=sizes.dropout, block_dropout=0.1, shift=3,
        )  # fmt: skip
        pieces = whole_regions(codes) if codes else []
        self.bases = Bases(pieces) if pieces else None
        self.towers = nn.ModuleList([MotifTower(size) for _ in pieces])
        self.segments = [segments_of(piece.length, size.pool) for piece in pieces]
        self.dense = nn.ModuleList(
            [
                nn.Sequential(nn.Dropout(0.5), nn.Linear(sizes.width * count, sizes.width))
                for count in self.segments
            ]
        )
        self.standardise, self.flat = nn.ModuleDict(), nn.ModuleDict()
        self.names = {f"feature_{i}": n for i, n in enumerate(x for x in own if x not in codes)}
        for key, name in self.names.items():
            shape = own[name]["shape"]
            self.standardise[key] = Standardise(shape)
            self.flat[key] = nn.Sequential(
                nn.Flatten(), nn.Dropout(0.5), nn.Linear(int(np.prod(shape)), sizes.width)
            )

    def forward(self, values: Mapping[str, Tensor]) -> Tensor | float:
        found: Tensor | float = 0.0
        for key, name in self.names.items():
            found = found + self.flat[key](self.standardise[key](values[name]))
        if self.bases is not None:
            for tower, count, dense, codes in zip(
                self.towers, self.segments, self.dense, self.bases.codes(values), strict=True
            ):
                seen = tower(self.bases.by_position(codes))
                found = found + dense(segment_means(seen, count).flatten(1))
        return found

    def measured(self) -> dict[str, Standardise]:
        """What is to measure the training rows, by feature."""
        layers: Any = self.standardise
        return {name: layers[key] for key, name in self.names.items()}
