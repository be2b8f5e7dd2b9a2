"""How a network is trained: plain settings, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from featurestore.errors import InputError, unknown_name

OPTIMISERS: Final = ("adamw", "adam")
SCHEDULES: Final = ("cosine", "constant", "plateau")
AMP: Final = ("auto", "off", "bf16")
AVERAGES: Final = ("weights", "predictions")


@dataclass(frozen=True)
class TrainingPlan:
    """How to train.

    Parameters
    ----------
    epochs, batch_size : int
    learning_rate, weight_decay : float
        Of the optimiser. Biases and normalisation weights are not decayed.
    patience : int
        Epochs without a better validation error after which to stop.
    clip_norm : float
        Longest gradient; longer ones are scaled down.
    warmup : float
        Share of the steps over which the learning rate rises from 0.
    average : int
        How many of the best epochs make the network; 1 restores the best one.
    averaged : {"weights", "predictions"}
        Of these epochs: one network of their mean weights, or the mean of their predictions.
    optimiser : {"adamw", "adam"}
        Loshchilov & Hutter, ICLR 2019; Kingma & Ba, ICLR 2015 (its decay is an L2 penalty).
    schedule : {"cosine", "constant", "plateau"}
        After the warm-up: along a cosine to a hundredth at the last epoch; as it is; or times
        ``plateau_factor`` after each ``plateau_patience`` epochs without a better error.
    ema : float
        Decay of a moving average of the weights, which is then what is validated and kept; 0 is
        none. See :class:`learners.neural.average.MovingAverage`.
    amp : {"auto", "off", "bf16"}
        Mixed precision of training steps: ``auto`` is bfloat16 on CUDA devices that have it, and
        none on a CPU, where it pays on few. Validation and prediction are in float32.

    Raises
    ------
    UnknownNameError
        For an unknown optimiser, schedule, precision or average.
    InputError
        For numbers out of range.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    patience: int = 10
    clip_norm: float = 1.0
    warmup: float = 0.05
    average: int = 1
    averaged: str = "weights"
    optimiser: str = "adamw"
    schedule: str = "cosine"
    plateau_factor: float = 0.5
    plateau_patience: int = 3
    ema: float = 0.0
    amp: str = "auto"

    def __post_init__(self) -> None:
        for what, name, known in (
            ("optimiser", self.optimiser, OPTIMISERS), ("schedule", self.schedule, SCHEDULES),
            ("amp", self.amp, AMP), ("averaged", self.averaged, AVERAGES),
        ):  # fmt: skip
            if name not in known:
                raise unknown_name(what, name, known)
        for name in ("epochs", "batch_size", "patience", "average", "plateau_patience"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: at least 1")
        for name in ("learning_rate", "clip_norm", "plateau_factor"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} {getattr(self, name)}: above 0")
        for name in ("warmup", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: from 0, below 1")

    def precision(self, device: str) -> torch.dtype | None:
        """Mixed precision of training steps on a device; None is none."""
        if self.amp == "auto":
            wanted = device.startswith("cuda") and torch.cuda.is_bf16_supported()
            return torch.bfloat16 if wanted else None
        return torch.bfloat16 if self.amp == "bf16" else None


def make_optimiser(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """The optimiser of a plan."""
    decayed = [p for p in network.parameters() if p.requires_grad and p.ndim > 1]
    free = [p for p in network.parameters() if p.requires_grad and p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    kind = torch.optim.AdamW if plan.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=plan.learning_rate, weight_decay=plan.weight_decay)


class Schedule:
    """Sets the learning rate before each step.

    Parameters
    ----------
    optimiser : torch.optim.Optimizer
    plan : TrainingPlan
    steps : int
        Of the whole training, were it not stopped early.
    """

    def __init__(self, optimiser: torch.optim.Optimizer, plan: TrainingPlan, steps: int) -> None:
        self._optimiser, self._plan = optimiser, plan
        self._factor = _factor(plan, steps)
        self.state: dict[str, float] = {"step": 0, "lowered": 1.0, "best": math.inf, "waited": 0}
        """All that changes; plain numbers."""

    def before_step(self) -> None:
        """Set the rate of the next step."""
        factor = self._factor(int(self.state["step"])) * self.state["lowered"]
        for group in self._optimiser.param_groups:
            group["lr"] = self._plan.learning_rate * factor
        self.state["step"] += 1

    def after_epoch(self, error: float) -> None:
        """Lower the rate where the error has not become better for long."""
        if self._plan.schedule != "plateau":
            return
        if error < self.state["best"]:
            self.state |= {"best": error, "waited": 0}
            return
        self.state["waited"] += 1
        if self.state["waited"] >= self._plan.plateau_patience:
            self.state["lowered"] *= self._plan.plateau_factor
            self.state["waited"] = 0


def _factor(plan: TrainingPlan, steps: int) -> Callable[[int], float]:
    """Factor of the learning rate at a step, but for what a plateau lowers."""
    warm = max(1, round(steps * plan.warmup))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if plan.schedule != "cosine":
            return 1.0
        done = min((step - warm) / max(1, steps - warm), 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    return factor
