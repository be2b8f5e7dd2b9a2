"""Averages of weights: a moving one over the steps, and that of the best epochs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
"""What ``nn.Module.state_dict`` gives."""


class MovingAverage:
    """An exponential moving average of the weights of a network.

    After step t = 1, 2, … the average becomes d·average + (1 − d)·weights with
    d = min(decay, (1 + t) / (10 + t)), so that it does not cling to the weights of the start.
    Running means of batch normalisation are averaged likewise; whole numbers are copied.

    Parameters
    ----------
    network : nn.Module
        Whose weights are the first average.
    decay : float
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self.decay, self.steps = decay, 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        self.steps += 1
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        now = network.state_dict()
        for name, average in self.network.state_dict().items():
            if average.is_floating_point():
                average.mul_(kept).add_(now[name], alpha=1 - kept)
            else:
                average.copy_(now[name])


def mean_of(states: Sequence[State]) -> dict[str, Tensor]:
    """The mean of some state dicts; of whole numbers, those of the first.

    Summed in double precision: what is equal in all stays as it is to the last bit.
    """
    first, count = states[0], len(states)
    mean: dict[str, Tensor] = {}
    for name, value in first.items():
        if value.is_floating_point():
            total = torch.stack([state[name].double() for state in states]).sum(dim=0)
            mean[name] = (total / count).to(value.dtype)
        else:
            mean[name] = value.clone()
    return mean


class BestEpochs:
    """The weights of the epochs with the least validation error so far.

    Parameters
    ----------
    kept : int
    """

    def __init__(self, kept: int) -> None:
        self.kept = kept
        self.entries: list[tuple[float, int, State]] = []
        """Error, epoch (from 0) and weights, the best first."""

    @property
    def epoch(self) -> int:
        """The best epoch, from 0; −1 before any was offered."""
        return self.entries[0][1] if self.entries else -1

    @property
    def states(self) -> list[State]:
        """Weights of the best epochs, the best first."""
        return [state for _, _, state in self.entries]

    def offer(self, error: float, epoch: int, network: nn.Module) -> None:
        """Keep the weights of an epoch if it is among the best; of equal ones the earlier."""
        if len(self.entries) == self.kept and not error < self.entries[-1][0]:
            return
        state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.entries.append((error, epoch, state))
        self.entries.sort(key=lambda entry: entry[:2])
        del self.entries[self.kept :]


class MeanOfNetworks(nn.Module):
    """Predicts the mean of what several networks of one architecture predict."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Standardised targets, shape (n, t)."""
        scores: Tensor = torch.stack([member(values) for member in self.members]).mean(dim=0)
        return scores
