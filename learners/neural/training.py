"""One training loop for all learners in torch.

A network is a module that takes a mapping of feature name to tensor and gives standardised
targets, shape (n, t). The loop knows nothing of its inside.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from featurestore.errors import InputError
from featurestore.loader.prefetch import in_turn, prefetched
from learners.base import Budget
from learners.batch import FeatureBatch, MiniBatch
from learners.compute import Clock, threads_of
from learners.neural.distributed import Ranks, current_ranks, shared_out
from learners.targets import TargetScale, observed

CACHE_BYTES: Final = 1 << 30
"""Features up to this size are read once and kept; larger ones are read anew every epoch."""


@dataclass(frozen=True)
class TrainingPlan:
    """How to train.

    Parameters
    ----------
    epochs, batch_size : int
    learning_rate, weight_decay : float
        Of AdamW (Loshchilov & Hutter, ICLR 2019).
    patience : int
        Epochs without a better validation error after which to stop.
    clip_norm : float
        Longest gradient; longer ones are scaled down.
    warmup : float
        Share of the steps over which the learning rate rises from 0; it then falls along a
        cosine, to a hundredth at the last epoch.
    average : int
        The weights of this many best epochs are averaged; 1 restores the best one.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2
    patience: int = 10
    clip_norm: float = 1.0
    warmup: float = 0.05
    average: int = 1


@dataclass
class Trained:
    """What a training leaves beside the weights: errors per epoch in the targets' unit."""

    learning_curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0


@contextmanager
def reproducible(seed: int, budget: Budget) -> Iterator[None]:
    """Seeded, deterministic, held to the budget's threads; torch is left as it was found."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    # Filling memory that is about to be overwritten costs a quarter of the time.
    settings: Any = torch.utils.deterministic
    filled = settings.fill_uninitialized_memory
    devices = [budget.device] if budget.device.startswith("cuda") else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        torch.set_num_threads(threads_of(budget))
        # On CUDA some layers have no deterministic form; there the promise is "close".
        torch.use_deterministic_algorithms(not devices)
        settings.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(strict)
            settings.fill_uninitialized_memory = filled


class _Rows:
    """Mini-batches of a feature batch as tensors; in memory once where they fit, else read ahead."""

    def __init__(self, batch: FeatureBatch, scale: TargetScale, device: str, ranks: Ranks) -> None:
        self._batch, self.device, self.ranks = batch, device, ranks
        known = observed(batch)
        targets = np.where(known, scale.apply(batch.require_targets()), 0.0)
        self._targets = torch.from_numpy(targets.astype(np.float32))
        self._known = torch.from_numpy(known.astype(np.float32))
        size = sum(
            math.prod(block.shape) * block.source.dtype.itemsize for block in batch.blocks.values()
        )
        self._held: dict[str, Tensor] | None = None
        if size <= CACHE_BYTES and len(batch):
            whole = next(batch.iter(len(batch)))
            self._held = {n: tensor_of(v).to(device) for n, v in whole.values.items()}

    def batches(
        self, size: int, shuffle_seed: int | None
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
        """Features, standardised targets, 1 where a target is observed: this process's share."""
        for index, values in self._values(size, shuffle_seed):
            rows = torch.from_numpy(index)
            yield values, self._targets[rows].to(self.device), self._known[rows].to(self.device)

    def left(self, size: int, number: int) -> int:
        """Rows of one batch, over all processes."""
        return min(size, len(self._batch) - number * size)

    def _values(
        self, size: int, shuffle_seed: int | None
    ) -> Iterator[tuple[NDArray[np.int64], dict[str, Tensor]]]:
        share = self.ranks.rank, self.ranks.world_size
        if self._held is None:
            parts = self._batch.iter(size, shuffle_seed=shuffle_seed, share=share)
            read = ((part.index, tensors_of(part, self.device)) for part in parts)
            with closing(prefetched(in_turn(read))) as ahead:
                yield from ahead
            return
        order = np.arange(len(self._batch), dtype=np.int64)
        if shuffle_seed is not None:
            np.random.default_rng(shuffle_seed).shuffle(order)
        for start in range(0, len(order), size):
            index = order[start : start + size][share[0] :: share[1]]
            rows = torch.from_numpy(index).to(self.device)
            yield index, {name: held[rows] for name, held in self._held.items()}


def tensor_of(values: NDArray[np.generic]) -> Tensor:
    """A tensor: codes stay bytes, numbers become float32."""
    made = torch.from_numpy(np.ascontiguousarray(values))
    return made.float() if values.dtype.kind == "f" else made


def tensors_of(part: MiniBatch, device: str) -> dict[str, Tensor]:
    """Features of a mini-batch on a device."""
    return {name: tensor_of(values).to(device) for name, values in part.values.items()}


def train_network(
    network: nn.Module,
    train: FeatureBatch,
    valid: FeatureBatch,
    *,
    scale: TargetScale,
    plan: TrainingPlan,
    seed: int,
    budget: Budget,
) -> Trained:
    """Train in place; the network ends with the weights that did best on ``valid``.

    Squared error on standardised targets, over observed ones only. Call within
    :func:`reproducible`, which the construction of the network needs as well.

    Parameters
    ----------
    network : nn.Module
        Takes a mapping of feature name to tensor, gives shape (n, t).
    train, valid : FeatureBatch
    scale : TargetScale
        From training rows.
    plan : TrainingPlan
        ``budget.rounds`` lowers its epochs; ``budget.seconds`` ends it early.
    seed : int
        Of the order of rows.
    budget : Budget

    Returns
    -------
    Trained
    """
    epochs = plan.epochs if budget.rounds is None else min(plan.epochs, budget.rounds)
    ranks = current_ranks()
    if len(train) < 2 * ranks.world_size and not ranks.alone:
        raise InputError(
            f"{len(train)} training genes for {ranks.world_size} processes are too few"
        )
    network.to(budget.device)
    if not ranks.alone:
        torch.manual_seed(seed * ranks.world_size + ranks.rank)  # no dropout twice
    seen, held_out = (_Rows(batch, scale, budget.device, ranks) for batch in (train, valid))
    together = shared_out(network, ranks)
    optimiser = _optimiser(network, plan)
    steps = epochs * math.ceil(len(train) / plan.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _warm_cosine(steps, plan.warmup))
    clock, best, trained = Clock(budget), _Best(plan.average), Trained()
    unit = float(scale.deviation.mean())
    for epoch in range(epochs):
        train_error = _epoch(together, seen, optimiser, schedule, plan, shuffle_seed=seed + epoch)
        ranks.same_buffers(network)
        valid_error = _error(network, held_out, plan.batch_size)
        trained.learning_curve.append(
            {"step": epoch + 1, "train": train_error * unit, "valid": valid_error * unit}
        )
        best.offer(valid_error, epoch, network)
        spent = ranks.any(clock.spent(), device=budget.device)
        if epoch - best.epoch >= plan.patience or spent:
            break
    best.restore(network)
    trained.best_epoch = best.epoch + 1
    return trained


def predict_network(
    network: nn.Module, batch: FeatureBatch, *, scale: TargetScale, size: int, budget: Budget
) -> NDArray[np.float64]:
    """Predict in the targets' unit, shape (n, t), reading shard by shard."""
    network.to(budget.device).eval()
    out = np.empty((len(batch), len(scale.mean)))
    with torch.inference_mode():
        for part in batch.shards(size):
            scores = network(tensors_of(part, budget.device))
            out[part.index] = scale.undo(scores.cpu().numpy())
    return out


def _optimiser(network: nn.Module, plan: TrainingPlan) -> torch.optim.Optimizer:
    """AdamW; biases and normalisation weights are not decayed."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    free = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=plan.learning_rate, weight_decay=plan.weight_decay)


def _warm_cosine(steps: int, warmup: float) -> Callable[[int], float]:
    """Factor of the learning rate at a step."""
    warm = max(1, round(steps * warmup))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        done = min((step - warm) / max(1, steps - warm), 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

    return factor


def _epoch(
    network: nn.Module,
    rows: _Rows,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    plan: TrainingPlan,
    *,
    shuffle_seed: int,
) -> float:
    """One pass over the training rows; root mean squared error, standardised."""
    network.train()
    ranks = rows.ranks
    total, count = 0.0, 0.0
    for number, (values, targets, known) in enumerate(rows.batches(plan.batch_size, shuffle_seed)):
        # Batch normalisation cannot work on a single row left over, nor a process on none.
        if number and rows.left(plan.batch_size, number) < 2 * ranks.world_size:
            continue
        squares = ((network(values) - targets) ** 2 * known).sum()
        optimiser.zero_grad(set_to_none=True)
        # Gradients are averaged over processes: their sum is over the targets of all.
        (squares * ranks.world_size / ranks.total(known.sum()).clamp(min=1)).backward()
        nn.utils.clip_grad_norm_(network.parameters(), plan.clip_norm)
        optimiser.step()
        schedule.step()
        total, count = total + float(squares.detach()), count + float(known.sum())
    total, count = ranks.sums(total, count, device=rows.device)
    return math.sqrt(total / max(count, 1.0))


def _error(network: nn.Module, rows: _Rows, size: int) -> float:
    """Root mean squared error on rows that are not learned from, standardised."""
    network.eval()
    total, count = 0.0, 0.0
    with torch.inference_mode():
        for values, targets, known in rows.batches(size, None):
            total += float(((network(values) - targets) ** 2 * known).sum())
            count += float(known.sum())
    total, count = rows.ranks.sums(total, count, device=rows.device)
    return math.sqrt(total / max(count, 1.0))


class _Best:
    """The weights of the best epochs so far."""

    def __init__(self, kept: int) -> None:
        self._kept = kept
        self._weights: list[tuple[float, int, dict[str, Tensor]]] = []
        self.epoch = 0

    def offer(self, error: float, epoch: int, network: nn.Module) -> None:
        """Keep these weights if they are among the best."""
        if len(self._weights) == self._kept and not error < self._weights[-1][0]:
            return
        self._weights.append((error, epoch, copy.deepcopy(network.state_dict())))
        self._weights.sort(key=lambda entry: entry[:2])
        del self._weights[self._kept :]
        self.epoch = self._weights[0][1]

    def restore(self, network: nn.Module) -> None:
        """Give the network the best weights, or the mean of the best."""
        if not self._weights:
            return
        states = [state for _, _, state in self._weights]
        mean = {
            name: torch.stack([s[name] for s in states]).mean(dim=0)
            if first.is_floating_point()
            else first
            for name, first in states[0].items()
        }
        network.load_state_dict(mean)
