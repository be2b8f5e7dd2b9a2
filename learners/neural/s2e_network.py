"""The module behind :class:`learners.neural.s2e.S2E`: the head of EMPRES (Vahedi Torghabeh 2026)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from learners.neural.inputs import (
    Bases,
    Layout,
    Standardise,
    channels_of,
    shifted,
    with_channels,
)
from learners.neural.motif_scan import MotifResponse


@dataclass(frozen=True)
class HeadSizes:
    """Sizes of the head.

    Parameters
    ----------
    conv_layers, filters, kernel : int
        Convolutions over bins, of each region.
    base_layers, base_filters, base_kernel, dilation, pool : int
        Convolutions over bases, of each region: ``dilation`` is how far apart the bases lie that
        one sees, ``pool`` of how many places the largest value is kept.
    dense_layers : int
        Dense layers of each region.
    post_layers : int
        Dense layers over all regions.
    units : int
        Of every dense layer.
    dropout : float
        Before the last layer.
    input_dropout : float
        Of the standardised numbers of bins; the paper has none.
    motifs, motif_width, motif_pool : int
        Before the convolutions over bases, a scan for so many motifs
        (:class:`learners.neural.motif_scan.MotifResponse`); 0 is none, as in the paper.
    base_dropout : float
        After the scan and each convolution over bases, of whole channels of a gene; the paper has
        none.
    shift : int
        In training, bases by which a region is moved at most; the paper has none.
    """

    conv_layers: int
    filters: int
    kernel: int
    base_layers: int
    base_filters: int
    base_kernel: int
    dilation: int
    pool: int
    dense_layers: int
    post_layers: int
    units: int
    dropout: float
    input_dropout: float
    motifs: int = 0
    motif_width: int = 13
    motif_pool: int = 10
    base_dropout: float = 0.0
    shift: int = 0


def kernel_for(bins: int, sizes: HeadSizes) -> int:
    """The kernel, or the widest with which as many convolutions leave a bin."""
    return min(sizes.kernel, 1 + (bins - 1) // sizes.conv_layers)


def bin_groups(layout: Layout) -> dict[tuple[int, int], list[str]]:
    """Features of bins by (regions, bins): those of one group are stacked along their channels."""
    groups: dict[tuple[int, int], list[str]] = {}
    for name, feature in layout.items():
        if feature["kind"] == "bins":
            groups.setdefault((feature["shape"][0], feature["shape"][1]), []).append(name)
    return groups


class SameConv(nn.Conv1d):
    """A convolution that keeps the length; of an even kernel the odd base is put at the end."""

    def forward(self, values: Tensor) -> Tensor:
        """Shape (n, channel, position)."""
        total = self.dilation[0] * (self.kernel_size[0] - 1)
        return super().forward(functional.pad(values, (total // 2, total - total // 2)))


class S2ENetwork(nn.Module):
    """Features of any number of regions → (n, t).

    Each region of each group of features has a branch of its own. Over bins: convolutions without
    padding, each followed by ReLU and batch normalisation. Over bases: a scan for motifs where the
    sizes have one, then convolutions that keep the length, each followed by ReLU, batch normalisation and max-pooling where there is enough left.
    Then, flattened, dense layers with ReLU. The branches end to end go through dense layers with
    ReLU, dropout and a linear layer.

    Parameters
    ----------
    layout : mapping
        Features of kinds ``bins`` (region, bin[, channel]) and ``codes`` (region, position).
    targets : int
    sizes : HeadSizes
    """

    def __init__(self, layout: Layout, targets: int, sizes: HeadSizes) -> None:
        super().__init__()
        self.groups = bin_groups(layout)
        self.codes = {n: f["shape"][0] for n, f in layout.items() if f["kind"] == "codes"}
        self.binned = [name for names in self.groups.values() for name in names]
        self.standardise = nn.ModuleList([Standardise(layout[n]["shape"]) for n in self.binned])
        self.bases = Bases()
        self.hide = nn.Dropout(sizes.input_dropout)
        self.shift, self.by_position = sizes.shift, bool(sizes.motifs)
        branches: list[nn.Module] = []
        for (regions, bins), names in self.groups.items():
            channels = sum(channels_of(layout[name]["shape"]) for name in names)
            branches += [_over_bins(channels, bins, sizes) for _ in range(regions)]
        for name, regions in self.codes.items():
            branches += [_over_bases(layout[name]["shape"][1], sizes) for _ in range(regions)]
        self.branches = nn.ModuleList(branches)
        width = len(branches) * sizes.units
        self.post = nn.Sequential(
            *_dense(width, sizes.units, sizes.post_layers),
            nn.Dropout(sizes.dropout),
            nn.Linear(sizes.units, targets),
        )

    def standardised(self) -> dict[str, Standardise]:
        """Layers that are to measure the training rows, by feature."""
        return dict(zip(self.binned, self.standardise, strict=True))  # type: ignore[arg-type] # a list of modules forgets their kind

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        layers = self.standardised()
        inputs: list[Tensor] = []  # (n, channel, bin or position), one for each branch
        for (regions, _), names in self.groups.items():
            parts = [with_channels(layers[name](values[name])) for name in names]
            stacked = self.hide(torch.cat(parts, dim=3))
            inputs += [stacked[:, region].transpose(1, 2) for region in range(regions)]
        for name, regions in self.codes.items():
            inputs += [self._bases(values[name][:, region]) for region in range(regions)]
        found = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        scores: Tensor = self.post(torch.cat(found, dim=1))
        return scores

    def _bases(self, codes: Tensor) -> Tensor:
        """One region as fractional one-hot, in training moved; as its branch reads it."""
        bases: Tensor = self.bases(shifted(codes, self.shift) if self.training else codes)
        return bases if self.by_position else bases.transpose(1, 2)


def _over_bins(channels: int, bins: int, sizes: HeadSizes) -> nn.Sequential:
    kernel = kernel_for(bins, sizes)
    layers: list[nn.Module] = []
    for number in range(sizes.conv_layers):
        width = sizes.filters if number else channels
        layers += [nn.Conv1d(width, sizes.filters, kernel), nn.ReLU(), nn.BatchNorm1d(sizes.filters)]  # fmt: skip
    left = bins - sizes.conv_layers * (kernel - 1)
    dense = _dense(sizes.filters * left, sizes.units, sizes.dense_layers)
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def _over_bases(length: int, sizes: HeadSizes) -> nn.Sequential:
    layers: list[nn.Module] = []
    width = 4
    if sizes.motifs:
        layers.append(MotifResponse(sizes.motifs, sizes.motif_width, sizes.motif_pool))
        width, length = sizes.motifs, -(-length // sizes.motif_pool)
        layers += _channels_dropped(sizes)
    for _ in range(sizes.base_layers):
        layers += [
            SameConv(width, sizes.base_filters, sizes.base_kernel, dilation=sizes.dilation),
            nn.ReLU(),
            nn.BatchNorm1d(sizes.base_filters),
        ]
        width = sizes.base_filters
        if length >= sizes.pool:
            layers.append(nn.MaxPool1d(sizes.pool))
            length //= sizes.pool
        layers += _channels_dropped(sizes)
    dense = _dense(sizes.base_filters * length, sizes.units, sizes.dense_layers)
    return nn.Sequential(*layers, nn.Flatten(), *dense)


def _channels_dropped(sizes: HeadSizes) -> list[nn.Module]:
    return [nn.Dropout1d(sizes.base_dropout)] if sizes.base_dropout else []


def _dense(width: int, units: int, layers: int) -> list[nn.Module]:
    made: list[nn.Module] = []
    for number in range(layers):
        made += [nn.Linear(units if number else width, units), nn.ReLU()]
    return made
