"""AdamW, its schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor, nn

from featurestore.pretrain.settings import Settings

_BETAS: Final = (0.9, 0.95)
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")


def rate(progress: float, settings: Settings) -> float:
    """Learning rate at a share of the run, 0 … 1: a straight rise, then half a cosine."""
    if progress < settings.warm_up:
        return settings.learning_rate * progress / settings.warm_up
    falling = (progress - settings.warm_up) / max(1 - settings.warm_up, 1e-9)
    share = settings.final_rate + (1 - settings.final_rate) * (
        0.5 + 0.5 * math.cos(math.pi * min(falling, 1.0))
    )
    return settings.learning_rate * share


class Optimiser:
    """AdamW on a model, with everything needed to go on after a kill as tensors.

    Weight decay spares what is not a matrix of a projection: norms, biases, the convolution,
    A and D, and the embedding.
    """

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self.settings = settings
        self.parameters = dict(model.named_parameters())
        decayed = [p for k, p in self.parameters.items() if "proj.weight" in k]
        others = [p for k, p in self.parameters.items() if "proj.weight" not in k]
        groups = [
            {"params": decayed, "weight_decay": settings.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, eps=1e-8)
        self.steps = 0
        self.mean = {k: p.detach().clone() for k, p in self.parameters.items()}

    def step(self, progress: float) -> tuple[float, float]:
        """One update from the gradients there are; returns learning rate and gradient norm."""
        norm = nn.utils.clip_grad_norm_(list(self.parameters.values()), self.settings.clip)
        now = rate(progress, self.settings)
        for group in self.adam.param_groups:
            group["lr"] = now
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)
        self.steps += 1
        self._follow()
        return now, float(norm)

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the mean; early on it forgets faster, so that it does not hold the start."""
        decay = min(self.settings.average, self.steps / (self.steps + 10))
        for key, parameter in self.parameters.items():
            self.mean[key].lerp_(parameter, 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Weights, their mean, and both moments."""
        found: dict[str, Tensor] = {}
        for key, parameter in self.parameters.items():
            found[f"weight.{key}"] = parameter.detach()
            found[f"mean.{key}"] = self.mean[key]
            state = self.adam.state[parameter]
            for moment in _MOMENTS:
                found[f"{moment}.{key}"] = state.get(moment, torch.zeros_like(parameter)).detach()
        return {k: v.contiguous() for k, v in found.items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Take up the tensors that :meth:`tensors` gave after ``steps`` updates."""
        self.steps = steps
        for key, parameter in self.parameters.items():
            parameter.copy_(tensors[f"weight.{key}"])
            self.mean[key] = tensors[f"mean.{key}"].clone()
            if steps:
                moments = {m: tensors[f"{m}.{key}"].clone() for m in _MOMENTS}
                self.adam.state[parameter] = {"step": torch.tensor(float(steps)), **moments}
