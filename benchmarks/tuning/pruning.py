"""Ends trials that do worse than the median of those before them, at the same step.

The rule of Optuna's ``MedianPruner`` (Golovin et al., KDD 2017, section 3.3), as numbers: they
travel to a worker, which needs neither the study nor a way to ask it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

FIRST_PRUNED: Final = 5
"""Trials that run to their end before any is ended."""

WARM_UP: Final = 1 / 3
"""Share of a usual trial's steps before which none is ended: small steps learn late, not worse."""

_SPACING: Final = 1.1
"""Steps told grow by this, so that two thousand rounds are eighty lines of a journal."""


@dataclass(frozen=True)
class MedianRule:
    """The median error at each step, and the step before which nothing ends."""

    median: Mapping[int, float]
    warm_up: float

    def ends(self, step: int, least: float) -> bool:
        """Whether a trial whose least error up to ``step`` is ``least`` is to end there."""
        return step >= self.warm_up and least > self.median.get(step, np.inf)


def median_rule(finished: Sequence[Mapping[int, float]]) -> MedianRule | None:
    """The rule that the errors by step of the finished trials make; None while they are few."""
    told = [steps for steps in finished if steps]
    if len(finished) < FIRST_PRUNED or not told:
        return None
    median = {
        step: float(np.median([steps[step] for steps in told if step in steps]))
        for step in sorted({step for steps in told for step in steps})
    }
    return MedianRule(median, WARM_UP * float(np.median([max(steps) for steps in told])))


@dataclass
class Steps:
    """What a fit tells of its steps; says when it is to end. Given as ``Budget.on_step``."""

    rule: MedianRule | None
    errors: dict[int, float] = field(default_factory=dict)
    pruned: bool = False
    _next: int = 0
    _least: float = np.inf
    _over: bool = False

    def __call__(self, step: int, error: float) -> bool:
        """Take the error of a step; True ends the fit."""
        if self.errors and step <= max(self.errors):
            self._over = True  # the next target of the same fit begins anew
        if self._over or not np.isfinite(error):
            return self.pruned
        self._least = min(self._least, error)
        if step >= self._next:
            self.errors[int(step)] = float(error)
            self._next = max(step + 1, int(np.ceil(step * _SPACING)))
            self.pruned = self.rule is not None and self.rule.ends(step, self._told_least())
        return self.pruned

    def _told_least(self) -> float:
        return min(self.errors.values())
