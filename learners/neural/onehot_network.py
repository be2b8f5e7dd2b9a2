"""The module behind :class:`learners.neural.onehot_cnn.OneHotCNN`."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from featurestore.sequence.iupac import ONE_HOT


class OneHotNetwork(nn.Module):
    """Codes (n, region, position) of one or more features → (n, t).

    Parameters
    ----------
    shapes : mapping of feature name to (regions, positions)
    targets : int
    preset : {"small", "full"}
    shared : bool
        One tower for all regions of all features instead of one each.
    dropout : float
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        targets: int,
        *,
        preset: str,
        shared: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.register_buffer("letters", torch.from_numpy(ONE_HOT.copy()), persistent=False)
        regions = [(name, r) for name, shape in shapes.items() for r in range(shape[0])]
        count = 1 if shared else len(regions)
        self.towers = nn.ModuleList(
            [_small_tower() if preset == "small" else _full_tower(dropout) for _ in range(count)]
        )
        # 5,000 bp are seen as 250-bp segments: pooled coarser, real promoters say much less.
        self.segments = 20 if preset == "small" else 4
        width = len(regions) * self.segments * (32 if preset == "small" else 64)
        hidden = [64] if preset == "small" else [128, 64]
        layers: list[nn.Module] = []
        for size in hidden:
            layers += [nn.Linear(width, size), nn.ReLU(), nn.Dropout(dropout)]
            width = size
        self.head = nn.Sequential(*layers, nn.Linear(width, targets))

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        parts: list[Tensor] = []
        for name, (regions, _) in self.shapes.items():
            bases = functional.embedding(values[name].int(), self.letters)  # type: ignore[arg-type] # a buffer is a tensor
            for region in range(regions):
                tower = self.towers[len(parts) % len(self.towers)]
                found = tower(bases[:, region].transpose(1, 2))
                parts.append(self._segments(found).flatten(1))
        scores: Tensor = self.head(torch.cat(parts, dim=1))
        return scores

    def _segments(self, found: Tensor) -> Tensor:
        """Mean in each of a fixed number of segments, so where a motif lies is kept roughly.

        Written out, as adaptive pooling has no deterministic gradient on CUDA.
        """
        length = found.shape[2]
        size = max(1, -(-length // self.segments))
        short = size * self.segments - length
        padded = functional.pad(found, (0, short)) if short else found
        return padded.reshape(*padded.shape[:2], self.segments, size).mean(dim=3)


def _small_tower() -> nn.Sequential:
    # The stride of 4 and normalising after the pooling make this ten times cheaper than a
    # convolution at every base; the filters are wide enough that three see each base.
    return nn.Sequential(
        nn.Conv1d(4, 32, 12, stride=4, padding=6),
        nn.ReLU(),
        nn.AvgPool1d(4, ceil_mode=True),
        nn.BatchNorm1d(32),
        nn.Conv1d(32, 32, 5, padding=2),
        nn.ReLU(),
        nn.BatchNorm1d(32),
    )


def _full_tower(dropout: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (4, 64, 64):
        layers += [
            nn.Conv1d(channels, 64, 8, padding=4),
            nn.ReLU(),
            nn.Conv1d(64, 64, 8, padding=4),
            nn.ReLU(),
            nn.MaxPool1d(8, stride=8, ceil_mode=True),
            nn.Dropout(dropout),
        ]
    return nn.Sequential(*layers)
