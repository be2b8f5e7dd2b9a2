"""Learners in torch whose settings come in presets, any of which may be set alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar

from featurestore.errors import InputError, unknown_name
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

    def __init__(self, *, preset: str, **given: Any) -> None:
        if preset not in self.presets:
            raise unknown_name(f"preset of {self.info.name}", preset, self.presets)
        super().__init__(preset=preset, **given)
        settings = dict(self.presets[preset])
        for name, value in given.items():
            if value is None:
                continue
            kind = type(settings[name]) if name in settings else type(value)
            if kind in (int, float) and isinstance(value, str | bool):
                raise InputError(f"{self.info.name}: {name} {value!r} is not a number")
            settings[name] = value
        self.settings = settings
        """Of the preset, with what was given."""
        self._rows = 0

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
