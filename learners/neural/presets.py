"""Learners in torch whose settings come in presets, any of which may be set alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from featurestore.errors import InputError, unknown_name
from learners.base import Budget
from learners.batch import FeatureBatch
from learners.neural.learner import TorchLearner

if TYPE_CHECKING:
    from torch import nn

    from learners.neural.plan import TrainingPlan


class PresetLearner(TorchLearner):
    """A :class:`~learners.neural.learner.TorchLearner` with presets.

    ``presets`` has for each name all settings of network and training; the constructor's
    parameters of the same names replace them where they are not None.
    """

    presets: ClassVar[Mapping[str, Mapping[str, Any]]]
    steps: ClassVar[tuple[int, int, int]] = (1, 1, 1000)
    """Where a preset has epochs 0: as many as make so many steps, at least and at most so many."""

    apart: ClassVar[frozenset[str]] = frozenset()
    """Parameters that are no settings of network or training."""

    def __init__(self, *, preset: str | None, **given: Any) -> None:
        chosen = preset or self.preset_for(given)
        if chosen not in self.presets:
            raise unknown_name(f"preset of {self.info.name}", chosen, self.presets)
        super().__init__(preset=preset, **given)
        settings = dict(self.presets[chosen])
        for name, value in given.items():
            if value is None or name in self.apart:
                continue
            kind = type(settings[name]) if name in settings else type(value)
            if kind in (int, float) and isinstance(value, str | bool):
                raise InputError(f"{self.info.name}: {name} {value!r} is not a number")
            if kind is bool and not isinstance(value, bool):
                raise InputError(f"{self.info.name}: {name} {value!r} is neither true nor false")
            settings[name] = value
        self.settings = settings
        """Of the preset, with what was given."""
        self._rows = 0

    def preset_for(self, given: Mapping[str, Any]) -> str:
        """The preset where none is given."""
        return next(iter(self.presets))

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Note how many rows there are."""
        self._rows = len(train)

    def plan(self) -> TrainingPlan:
        """How to train it."""
        from learners.neural.plan import TrainingPlan

        named = {field.name for field in fields(TrainingPlan)}
        chosen = {name: value for name, value in self.settings.items() if name in named}
        if not chosen["epochs"]:
            steps, least, most = self.steps
            each = -(-max(self._rows, 1) // chosen["batch_size"])
            chosen["epochs"] = min(max(round(steps / each), least), most)
        return TrainingPlan(**chosen)


class Shares:
    """The budget of a fit of several networks, one after the other.

    Each has an equal share of the seconds. Only the first is reported step by step: later ones
    start again from a large error, which a search that prunes would take for a bad trial. Once
    the first is ended so, the rest train for one epoch.

    Parameters
    ----------
    budget : Budget
    count : int
    """

    def __init__(self, budget: Budget, count: int) -> None:
        seconds = None if budget.seconds is None else budget.seconds / count
        self._budget = replace(budget, seconds=seconds)
        self._begun = self._ended = False

    def next(self) -> Budget:
        """Of the next network."""
        if self._begun:
            rest = replace(self._budget, on_step=None)
            return replace(rest, rounds=1, checkpoint=None) if self._ended else rest
        self._begun = True
        return self._budget if self._budget.on_step is None else replace(self._budget, on_step=self._step)  # fmt: skip

    def _step(self, step: int, error: float) -> bool:
        asked = self._budget.on_step
        self._ended = asked is not None and asked(step, error)
        return self._ended
