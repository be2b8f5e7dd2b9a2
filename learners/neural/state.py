"""All that changes while a network trains, to be written to a checkpoint and taken up again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from learners.neural.average import BestEpochs, MovingAverage
from learners.neural.distributed import Ranks
from learners.neural.plan import Schedule


@dataclass
class TrainingState:
    """A training between two epochs.

    Parameters
    ----------
    network : nn.Module
    optimiser : torch.optim.Optimizer
    schedule : Schedule
    best : BestEpochs
    ema : MovingAverage or None
    epoch : int
        Epochs done.
    curve : list of {"step", "train", "valid"}
    ended : bool
        Whether no further epoch follows.
    seconds : float
        That it took so far.
    """

    network: nn.Module
    optimiser: torch.optim.Optimizer
    schedule: Schedule
    best: BestEpochs
    ema: MovingAverage | None = None
    epoch: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False
    seconds: float = 0.0

    @property
    def shown(self) -> nn.Module:
        """The network that is validated and kept: the moving average where there is one."""
        return self.network if self.ema is None else self.ema.network

    def facts(self) -> dict[str, Any]:
        """What is no tensor, as plain JSON."""
        return {
            "epoch": self.epoch,
            "curve": self.curve,
            "ended": self.ended,
            "seconds": self.seconds,
            "schedule": self.schedule.state,
            "best": [[error, epoch] for error, epoch, _ in self.best.entries],
            "ema_steps": None if self.ema is None else self.ema.steps,
        }

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name; of a training that has ended only the best weights."""
        found: dict[str, Tensor] = {}
        for number, state in enumerate(self.best.states):
            found |= {f"best.{number}.{name}": value for name, value in state.items()}
        if self.ended:
            return found
        found |= {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.ema is not None:
            found |= {f"ema.{n}": value for n, value in self.ema.network.state_dict().items()}
        for number, slots in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{number}.{key}": value for key, value in slots.items()}
        return found

    def restore(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Take up what :meth:`tensors` and :meth:`facts` gave."""
        self.epoch, self.curve = int(facts["epoch"]), list(facts["curve"])
        self.ended, self.seconds = bool(facts["ended"]), float(facts["seconds"])
        self.schedule.state = dict(facts["schedule"])
        device = next(iter(self.network.state_dict().values())).device
        self.best.entries = [
            (error, epoch, {n: t.to(device) for n, t in _under(tensors, f"best.{i}.").items()})
            for i, (error, epoch) in enumerate(facts["best"])
        ]
        if self.ended:
            return
        self.network.load_state_dict(_under(tensors, "network."))
        if self.ema is not None:
            self.ema.network.load_state_dict(_under(tensors, "ema."))
            self.ema.steps = int(facts["ema_steps"])
        slots: dict[int, dict[str, Tensor]] = {}
        for name, value in _under(tensors, "optimiser.").items():
            number, _, key = name.partition(".")
            slots.setdefault(int(number), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": slots})


def _under(tensors: Mapping[str, Tensor], start: str) -> dict[str, Tensor]:
    return {n.removeprefix(start): value for n, value in tensors.items() if n.startswith(start)}


def random_states(ranks: Ranks, device: str) -> dict[str, Tensor]:
    """States of the random numbers of every process, by name."""
    own = {"cpu": torch.get_rng_state()}
    if device.startswith("cuda"):
        own["cuda"] = torch.cuda.get_rng_state(device)
    return {
        f"random.{kind}.{rank}": state
        for kind, value in own.items()
        for rank, state in enumerate(ranks.gathered(value, device=device))
    }


def restore_random(tensors: Mapping[str, Tensor], ranks: Ranks, device: str) -> None:
    """Go on with the random numbers that this process had."""
    torch.set_rng_state(tensors[f"random.cpu.{ranks.rank}"])
    if device.startswith("cuda"):
        torch.cuda.set_rng_state(tensors[f"random.cuda.{ranks.rank}"], device)
