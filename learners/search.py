"""What of a learner may be tuned: ranges and choices by parameter, plain data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from featurestore.errors import InputError

Value: TypeAlias = str | int | float | bool | None
"""A value that a parameter may take; plain JSON."""


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Parameters
    ----------
    options : sequence of str, int, float, bool or None
        In the order in which they are told; at least two, each once.
    """

    options: Sequence[Value]

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(self.options))
        if len(self.options) < 2 or len({repr(x) for x in self.options}) < len(self.options):
            raise ValueError(f"Choice{self.options}: at least two values, each once")

    def told(self) -> dict[str, Any]:
        """As it stands in ``run.json``."""
        return {"options": list(self.options)}


@dataclass(frozen=True)
class Range:
    """A number between two ends, both of them included.

    Parameters
    ----------
    low, high : float
        The ends.
    log : bool
        Drawn evenly in the logarithm; both ends are then above zero.
    integer : bool
        Whole numbers only.
    """

    low: float
    high: float
    log: bool = False
    integer: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(f"Range({self.low}, {self.high}): low must lie below high")
        if self.log and self.low <= 0:
            raise ValueError(f"Range({self.low}, {self.high}): a logarithm needs ends above zero")
        if self.integer and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise ValueError(f"Range({self.low}, {self.high}): whole numbers need whole ends")

    def told(self) -> dict[str, Any]:
        """As it stands in ``run.json``."""
        return {"low": self.low, "high": self.high, "log": self.log, "integer": self.integer}


SearchSpace: TypeAlias = Mapping[str, Choice | Range]
"""What is searched, by name of a constructor parameter."""


def search_space_of(learner: Any) -> dict[str, Choice | Range]:
    """The ``search_space`` of a learner's class; empty where there is nothing to tune.

    A class may carry ``search_space: ClassVar[SearchSpace]``, whose names are parameters of its
    constructor (those of ``info.defaults``).

    Raises
    ------
    InputError
        If it names a parameter that the constructor lacks, or holds something else.
    """
    space = dict(getattr(learner, "search_space", None) or {})
    for name, one in space.items():
        if name not in learner.info.defaults:
            raise InputError(
                f"{learner.info.name}: its search_space names {name!r}, which is no parameter of it; "
                f"they are {', '.join(learner.info.defaults) or 'none'}"
            )
        if not isinstance(one, Choice | Range):
            raise InputError(
                f"{learner.info.name}: search_space[{name!r}] is {one!r}; a Choice or a Range of "
                "learners.search is needed"
            )
    return space
