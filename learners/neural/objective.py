"""What a training makes small: squared error of standardised targets, or what a learner brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


class Objective(Protocol):
    """Losses of one mini-batch, and the error that is shown and stopped by."""

    @property
    def least_rows(self) -> int:
        """Fewer rows left over at the end of an epoch are not learned from."""
        ...

    def __call__(
        self, scores: Tensor, values: Mapping[str, Tensor], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Sum of the losses and how many they are.

        Parameters
        ----------
        scores : what the network gave
        values : mapping of feature name to tensor, first axis rows
        targets : float tensor, shape (n, t)
            Standardised.
        known : float tensor, shape (n, t)
            1 where a target is observed.
        """
        ...

    def error(self, losses: float, count: float) -> float:
        """One number for a pass over many rows."""
        ...


@dataclass(frozen=True)
class SquaredError:
    """Squared error of standardised targets; the error shown is its root in the targets' unit.

    Parameters
    ----------
    unit : float
        Mean standard deviation of the targets.
    """

    unit: float
    least_rows: int = 2

    def __call__(
        self, scores: Tensor, values: Mapping[str, Tensor], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Squares over observed targets."""
        return ((scores.float() - targets) ** 2 * known).sum(), known.sum()

    def error(self, losses: float, count: float) -> float:
        """Root of the mean."""
        return math.sqrt(losses / max(count, 1.0)) * self.unit


@dataclass(frozen=True)
class Quartiles:
    """Cross-entropy of telling the top from the bottom quartile; rows between are left out.

    The network's scores are log-odds of the top; the error shown is in nats a row.

    Parameters
    ----------
    low, high : float64 array, shape (t,)
        The quartiles of each target over training rows, standardised. What is at or below
        ``low`` is bottom, what is at or above ``high`` top.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    least_rows: int = 2

    def __call__(
        self, scores: Tensor, values: Mapping[str, Tensor], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropies over observed targets of either quartile."""
        low, high = (
            torch.as_tensor(t, dtype=targets.dtype, device=targets.device)
            for t in (self.low, self.high)
        )
        top = (targets >= high).to(targets.dtype)
        told = known * ((targets <= low).to(targets.dtype) + top)
        each = functional.binary_cross_entropy_with_logits(scores.float(), top, reduction="none")
        return (each * told).sum(), told.sum()

    def error(self, losses: float, count: float) -> float:
        """Their mean."""
        return losses / max(count, 1.0)
