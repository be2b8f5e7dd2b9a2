"""Times of several ways of doing one thing, measured in turn, so that the machine's drift meets them all."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping

Action = Callable[[], object]


def seconds(action: Action) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def in_turn(
    actions: Mapping[str, Action],
    repeats: int,
    *,
    before: Callable[[str], object] = lambda _: None,
    budget: float = 0.3,
) -> dict[str, list[float]]:
    """Seconds of each action, ``repeats`` times, each time in another order.

    Parameters
    ----------
    before : callable
        Called with the name of an action before it, untimed (drop caches, remove files).
    budget : float
        Quick actions are called up to 16 times in a repeat, within about so many seconds; what
        counts is the median of the calls. 0: once.
    """
    order = random.Random(0)  # noqa: S311 - an order of measuring
    first = {}
    for name, action in actions.items():
        before(name)
        first[name] = seconds(action)
    calls = {name: max(1, min(16, int(budget / max(t, 1e-9)))) for name, t in first.items()}
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repeats):
        names = list(actions)
        order.shuffle(names)
        for name in names:
            held = []
            for _ in range(calls[name]):
                before(name)
                held.append(seconds(actions[name]))
            times[name].append(statistics.median(held))
    return times


def ratios(times: Mapping[str, list[float]], reference: str) -> dict[str, float]:
    """Median over the repeats of the reference's time ÷ that of each: 1 is as fast as the reference."""
    return {
        name: statistics.median(r / t for r, t in zip(times[reference], own, strict=True))
        for name, own in times.items()
    }
