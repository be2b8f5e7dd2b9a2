"""What a training makes small: squared error of standardised targets, or what a learner brings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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
