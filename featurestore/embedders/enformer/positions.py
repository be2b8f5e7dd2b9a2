"""Relative-position features of Enformer's attention, computed once in float32 a length.

Sources: Avsec et al. 2021, Methods; ``enformer/attention_module.py`` of
google-deepmind/deepmind-research, whose commit 57456a0 ("match trained SOTA model") divides the
gamma densities by their largest value over positions, each feature for itself.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import torch
from torch import Tensor

from featurestore.embedders.enformer.configuration import FEATURE_CLASSES, GammaNorm

_HALF_LIFE_FROM: Final = 3.0
"""Binary logarithm of the shortest half-life, in bins."""

_FLOOR: Final = 1e-8
"""Added to the gamma densities before they are divided by the largest."""


def relative_positions(length: int, features: int, gamma_norm: GammaNorm = "feature") -> Tensor:
    """Features of all distances between bins of a window.

    Parameters
    ----------
    length : int
        Bins of the window.
    features : int
        A multiple of 6: exponentials, central masks and gamma densities, each of them plain and
        times the sign of the distance.
    gamma_norm : {"feature", "position"}
        See :class:`~featurestore.embedders.enformer.configuration.EnformerConfig`.

    Returns
    -------
    float32 tensor, shape (2 · length − 1, features)
        Row i stands for the distance i − (length − 1), in bins, of a key from its query. On the
        processor; the same tensor at every call: not to be written to.
    """
    return _computed(length, features, gamma_norm)


@lru_cache(maxsize=8)
def _computed(length: int, features: int, gamma_norm: GammaNorm) -> Tensor:
    each = features // FEATURE_CLASSES
    distance = torch.arange(1 - length, length, dtype=torch.float64)
    far = distance.abs()[:, None]
    plain = torch.cat(
        [_exponential(far, length, each), _central_mask(far, each), _gamma(far, length, each, gamma_norm)],
        dim=1,
    )  # fmt: skip
    both = torch.cat([plain, distance.sign()[:, None] * plain], dim=1)
    return both.to(torch.float32)


def _exponential(far: Tensor, length: int, each: int) -> Tensor:
    half_life = 2 ** torch.linspace(_HALF_LIFE_FROM, math.log2(length), each, dtype=torch.float64)
    return torch.exp2(-far / half_life)


def _central_mask(far: Tensor, each: int) -> Tensor:
    width = 2.0 ** torch.arange(1, each + 1, dtype=torch.float64) - 1
    return (width > far).to(torch.float64)


def _gamma(far: Tensor, length: int, each: int, norm: GammaNorm) -> Tensor:
    """Gamma densities with means spread over the window and one standard deviation.

    In float64: a logarithm here is the small difference of large numbers. The published model made
    them in float32, with errors up to 0.002, which move its tracks by about 1e-4 of their size.
    """
    deviation = length / (2 * each)
    mean = torch.linspace(length / each, length, each, dtype=torch.float64)
    concentration, rate = (mean / deviation) ** 2, mean / deviation**2
    log_norm = torch.lgamma(concentration) - concentration * rate.log()
    density = (torch.xlogy(concentration - 1, far) - rate * far - log_norm).exp() + _FLOOR
    largest = density.amax(dim=0 if norm == "feature" else 1, keepdim=True)
    return density / largest
