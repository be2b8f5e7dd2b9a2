"""A script for torchrun: fits a small network, saves it, says what this process saw."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from learners.base import Budget, LearnerInfo
from learners.neural.distributed import process_group
from learners.neural.learner import TorchLearner
from learners.neural.training import TrainingPlan
from learners.simulated import simulate


class Perceptron(TorchLearner):
    """Two layers, neither dropout nor batch normalisation: nothing that depends on the share."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="perceptron", inputs=frozenset({"tabular"}), summary="for a test"
    )

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        class Network(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                width = next(iter(layout.values()))["shape"][0]
                self.layers = nn.Sequential(nn.Linear(width, 16), nn.Tanh(), nn.Linear(16, targets))

            def forward(self, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
                found: torch.Tensor = self.layers(next(iter(values.values())))
                return found

        return Network()

    def plan(self) -> TrainingPlan:
        return TrainingPlan(epochs=self.parameters["epochs"], batch_size=32, ema=0.5)


class Killed(BaseException):
    """Ends a fit as a signal would."""


def data():
    return simulate("tabular", genes=300, seed=4, targets=2)


def fitted(epochs: int, **budget: Any) -> Perceptron:
    learner = Perceptron(epochs=epochs)
    one = data()
    learner.fit(one.train, one.valid, seed=7, budget=Budget(threads=1, **budget))
    return learner


def fitted_in_two_goes(folder: Path) -> tuple[Perceptron, list[str]]:
    """Ended in all processes in the fifth epoch, before its checkpoint; then taken up."""

    def end(step: int, valid: float) -> bool:
        if step == 5:
            raise Killed
        return False

    with suppress(Killed):
        fitted(12, checkpoint=folder, on_step=end)
    said: list[str] = []
    return fitted(12, checkpoint=folder, say=said.append), said


if __name__ == "__main__":
    out = Path(sys.argv[1])
    with process_group("gloo") as ranks:
        for epochs in (1, 12):
            learner = fitted(epochs)
            learner.save(out / str(epochs))
            said = {"curve": learner.learning_curve, "world": ranks.world_size}
            (out / f"{epochs}-{ranks.rank}.json").write_text(json.dumps(said))
        resumed, lines = fitted_in_two_goes(out / "checkpoint")
        resumed.save(out / "resumed")
        (out / f"lines-{ranks.rank}.json").write_text(json.dumps(lines))
