"""Stored features as a network takes them: bins standardised, codes as fractional one-hot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from featurestore.sequence.iupac import ONE_HOT, N
from learners.batch import FeatureBatch

Layout = Mapping[str, Any]
"""Names, kinds and row shapes of features (:func:`learners.layout.layout_of`)."""


class Standardise(nn.Module):
    """Each number of a feature to mean 0 and deviation 1, as measured on training genes.

    A number that is the same in all training genes becomes 0, also in genes in which it is not.

    Parameters
    ----------
    shape : tuple of int
        Of the feature of one gene, e.g. (region, bin, channel): each has its own mean.
    """

    mean: Tensor
    inverse: Tensor

    def __init__(self, shape: Iterable[int]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(*shape))
        self.register_buffer("inverse", torch.zeros(*shape))

    def forward(self, values: Tensor) -> Tensor:
        """Standardised values, float32."""
        return (values.float() - self.mean) * self.inverse

    def take(self, mean: NDArray[np.float64], deviation: NDArray[np.float64]) -> None:
        """Keep what was measured."""
        inverse = np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)
        self.mean.copy_(torch.from_numpy(mean))
        self.inverse.copy_(torch.from_numpy(inverse))


def with_channels(values: Tensor) -> Tensor:
    """Bins with one number each (n, region, bin) as bins with a channel; others as they are."""
    return values[..., None] if values.ndim == 3 else values


class Channels(nn.Module):
    """:func:`with_channels` as a layer."""

    def forward(self, values: Tensor) -> Tensor:
        """Shape (n, region, bin, channel)."""
        return with_channels(values)


def channels_of(shape: Sequence[int]) -> int:
    """Channels of bins of shape (region, bin[, channel])."""
    return shape[2] if len(shape) > 2 else 1


class Bases(nn.Module):
    """Codes (…, position) to fractional one-hot (…, position, 4): R = ½A + ½G, N = ¼ each."""

    letters: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("letters", torch.from_numpy(ONE_HOT.copy()), persistent=False)

    def forward(self, codes: Tensor) -> Tensor:
        """One-hot, float32."""
        return functional.embedding(codes.int(), self.letters)


def shifted(codes: Tensor, most: int) -> Tensor:
    """Each row moved by a number of bases drawn from −most … most; N where they came from.

    Parameters
    ----------
    codes : Tensor, shape (n, position)
    """
    rows, length = codes.shape
    if not most or length <= most:
        return codes
    start = torch.randint(0, 2 * most + 1, (rows, 1), device=codes.device)
    padded = functional.pad(codes, (most, most), value=N)
    return padded.gather(1, start + torch.arange(length, device=codes.device))


def moments(
    batch: FeatureBatch, names: Iterable[str]
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Mean and standard deviation of each number of some features, a shard at a time.

    Sums are taken around the first row: a number that is constant then has deviation 0 exactly,
    and a large mean does not swallow a small deviation.
    """
    wanted = list(names)
    shift: dict[str, NDArray[np.float64]] = {}
    sums: dict[str, NDArray[np.float64]] = {}
    squares: dict[str, NDArray[np.float64]] = {}
    for part in batch.shards(128):
        for name in wanted:
            rows = part.values[name].astype(np.float64)
            if name not in shift:
                shift[name] = rows[0].copy()
                sums[name], squares[name] = np.zeros_like(shift[name]), np.zeros_like(shift[name])
            rows -= shift[name]
            sums[name] += rows.sum(axis=0)
            squares[name] += np.einsum("i...,i...->...", rows, rows)
    found = {}
    for name in wanted:
        mean, square = sums[name] / len(batch), squares[name] / len(batch)
        variance = square - mean**2
        variance[variance <= 1e-13 * square] = 0.0  # what rounding leaves of none
        found[name] = shift[name] + mean, np.sqrt(variance)
    return found


def measure(standardised: Mapping[str, Standardise], train: FeatureBatch) -> None:
    """Let layers, by name of their feature, measure the training rows."""
    if standardised:
        for name, (mean, deviation) in moments(train, standardised).items():
            standardised[name].take(mean, deviation)
