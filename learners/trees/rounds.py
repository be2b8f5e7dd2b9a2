"""The stopping rule of boosted trees, the same for every library."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from learners.base import Budget
from learners.compute import Clock

SEARCH_SHARE: Final = 0.5
"""Share of the budget's seconds for finding the number of rounds; the refit takes the rest."""


class Watch:
    """Says after each round of a search whether it is to end there.

    By the clock, or because whoever watches (``Budget.on_step``) says so: then ``ended``.
    """

    def __init__(self, budget: Budget) -> None:
        self._clock, self._on_step = Clock(budget, SEARCH_SHARE), budget.on_step
        self.ended = False

    def over(self, step: int, error: float) -> bool:
        """Told the round, counted from 1, and the validation error after it."""
        if self._on_step is not None and self._on_step(step, error):
            self.ended = True
        return self.ended or self._clock.spent()


def scaled_rounds(best: int, train_rows: int, all_rows: int) -> int:
    """Rounds of the refit: the best number, longer by as much as there are more rows."""
    return max(1, round(best * all_rows / train_rows))


def average_curves(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]], every: int = 1
) -> list[dict[str, float]]:
    """Learning curve over targets: root mean squared errors, averaged over those still running.

    ``curves`` holds (training, validation) errors of each target; ``every`` is how many
    rounds lie between two entries.
    """
    longest = max((len(valid) for _, valid in curves), default=0)
    return [
        {
            "step": (i + 1) * every,
            "train": float(np.mean([train[i] for train, _ in curves if i < len(train)])),
            "valid": float(np.mean([valid[i] for _, valid in curves if i < len(valid)])),
        }
        for i in range(longest)
    ]
