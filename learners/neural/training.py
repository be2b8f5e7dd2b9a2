"""One training loop for all learners in torch.

A network is a module that takes a mapping of feature name to tensor and gives standardised
targets, shape (n, t). The loop knows nothing of its inside. What an epoch is made of lies in
:mod:`learners.neural.plan`, ``rows``, ``average``, ``state`` and ``checkpoint``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from featurestore.errors import InputError
from featurestore.loader.prefetch import in_turn, prefetched
from learners.base import Budget
from learners.batch import FeatureBatch
from learners.compute import Clock, threads_of
from learners.neural.average import BestEpochs, MovingAverage, State, mean_of
from learners.neural.checkpoint import Checkpoint, digest_of_fit
from learners.neural.distributed import Ranks, current_ranks, shared_out
from learners.neural.objective import Objective, SquaredError
from learners.neural.plan import Schedule, TrainingPlan, make_optimiser
from learners.neural.rows import Rows, tensors_of
from learners.neural.state import TrainingState, random_states, restore_random
from learners.targets import TargetScale

__all__ = [
    "Trained", "TrainingPlan", "predict_network", "reproducible", "train_network",
]  # fmt: skip


@dataclass
class Trained:
    """What a training leaves beside the weights.

    Parameters
    ----------
    learning_curve : list of {"step", "train", "valid"}
        Errors per epoch in the targets' unit.
    best_epoch : int
        From 1.
    members : list of state dicts
        Weights of the best epochs where the plan averages predictions, the best first; else empty.
    """

    learning_curve: list[dict[str, float]] = field(default_factory=list)
    best_epoch: int = 0
    members: list[State] = field(default_factory=list)


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


def train_network(
    network: nn.Module,
    train: FeatureBatch,
    valid: FeatureBatch,
    *,
    scale: TargetScale,
    plan: TrainingPlan,
    seed: int,
    budget: Budget,
    identity: str = "",
    objective: Objective | None = None,
) -> Trained:
    """Train in place; the network ends with the weights that did best on ``valid``.

    Squared error on standardised targets, over observed ones only, unless told another
    objective. Call within :func:`reproducible`, which the construction of the network needs too.

    Parameters
    ----------
    network : nn.Module
        Takes a mapping of feature name to tensor, gives shape (n, t), or what the objective takes.
    train, valid : FeatureBatch
    scale : TargetScale
        From training rows.
    plan : TrainingPlan
        ``budget.rounds`` lowers its epochs; ``budget.seconds`` ends it early.
    seed : int
        Of the order of rows.
    budget : Budget
        Where it names a folder for checkpoints, one is left after every epoch, and one that is
        there is taken up. Of a training that is over, the weights stay in it, so that a learner
        made of several networks does not train the first ones again; who gave the folder
        removes it.
    identity : str
        What else tells this training from others in the same folder: name and settings of the
        learner.
    objective : Objective, optional
        What is made small; :class:`~learners.neural.objective.SquaredError`.

    Returns
    -------
    Trained

    Raises
    ------
    InputError
        If there are too few rows for the processes, or the errors are no numbers from the start.
    """
    ranks = current_ranks()
    if len(train) < 2 * ranks.world_size and not ranks.alone:
        raise InputError(
            f"{len(train)} training genes for {ranks.world_size} processes are too few"
        )
    aim = objective or SquaredError(float(scale.deviation.mean()))
    fit = _Fit(network, train, valid, scale, plan, seed, budget, ranks, identity, aim)
    fit.run()
    return fit.finish()


class _Fit:
    """One training under way."""

    def __init__(
        self,
        network: nn.Module,
        train: FeatureBatch,
        valid: FeatureBatch,
        scale: TargetScale,
        plan: TrainingPlan,
        seed: int,
        budget: Budget,
        ranks: Ranks,
        identity: str,
        objective: Objective,
    ) -> None:
        self.plan, self.budget, self.ranks, self.device = plan, budget, ranks, budget.device
        self.epochs = plan.epochs if budget.rounds is None else min(plan.epochs, budget.rounds)
        self.objective = objective
        network.to(self.device)
        if not ranks.alone:
            torch.manual_seed(seed * ranks.world_size + ranks.rank)  # no dropout twice
        optimiser = make_optimiser(network, plan)
        steps = self.epochs * math.ceil(len(train) / plan.batch_size)
        self.state = TrainingState(
            network,
            optimiser,
            Schedule(optimiser, plan, steps),
            BestEpochs(plan.average),
            MovingAverage(network, plan.ema) if plan.ema else None,
        )
        self.checkpoint = None
        if budget.checkpoint is not None:
            about = {
                "identity": identity, "network": str(network), "plan": asdict(plan), "seed": seed,
                "epochs": self.epochs, "seconds": budget.seconds, "processes": ranks.world_size,
                "device": self.device.partition(":")[0], "torch": torch.__version__,
                "target": [scale.mean.tolist(), scale.deviation.tolist()],
            }  # fmt: skip
            self.checkpoint = Checkpoint(budget.checkpoint, digest_of_fit(train, valid, about))
        self._take_up()
        if not self.state.ended:
            self.seen = Rows(train, scale, self.device, ranks, seed)
            self.held_out = Rows(valid, scale, self.device, ranks)
            self.together = shared_out(network, ranks)

    def _take_up(self) -> None:
        """Go on where a training that was killed stood; all processes do, or none."""
        found = None if self.checkpoint is None else self.checkpoint.read()
        if self.ranks.any(found is None, device=self.device) or found is None:
            return
        tensors, facts = found
        self.state.restore(tensors, facts)
        if not self.state.ended:
            restore_random(tensors, self.ranks, self.device)
        self._say(f"taken up after epoch {self.state.epoch}")

    def run(self) -> None:
        """All epochs that are left."""
        state = self.state
        clock, before = Clock(self.budget, before=state.seconds), state.epoch
        begun = clock.elapsed()
        while not state.ended and state.epoch < self.epochs:
            train_error = self._epoch()
            self.ranks.same_buffers(state.network)
            self.ranks.same_buffers(state.shown)
            valid_error = self._error(state.shown)
            pruned = self._count(train_error, valid_error)
            state.seconds = clock.elapsed()
            spent = pruned or self.ranks.any(clock.spent(), device=self.device)
            waited = state.epoch - 1 - state.best.epoch
            broken = not math.isfinite(valid_error)
            state.ended = (
                spent or broken or waited >= self.plan.patience or state.epoch == self.epochs
            )
            self._write(pruned)
            each = (state.seconds - begun) / (state.epoch - before)
            self._say(_line(state, self.epochs, each))

    def _count(self, train_error: float, valid_error: float) -> bool:
        """Take an epoch to account; whether it is to be the last."""
        state = self.state
        point = {"step": state.epoch + 1, "train": train_error, "valid": valid_error}  # fmt: skip
        state.curve.append(point)
        if math.isfinite(valid_error):
            state.best.offer(valid_error, state.epoch, state.shown)
            state.schedule.after_epoch(valid_error)
        state.epoch += 1
        asked = self.budget.on_step
        said = asked is not None and asked(state.epoch, point["valid"])
        return self.ranks.any(said, device=self.device)

    def _write(self, pruned: bool) -> None:
        if self.checkpoint is None:
            return
        random = random_states(self.ranks, self.device)
        if self.ranks.first and pruned:
            self.checkpoint.remove()  # ended by what is no part of the fit's identity
        elif self.ranks.first:
            tensors = self.state.tensors()
            self.checkpoint.write(tensors if self.state.ended else tensors | random, self.state.facts())  # fmt: skip
        self.ranks.wait()

    def _say(self, text: str) -> None:
        if self.budget.say is not None and self.ranks.first:
            self.budget.say(text)

    def finish(self) -> Trained:
        """Give the network its weights.

        Raises
        ------
        InputError
            If no epoch gave a number.
        """
        state, states = self.state, self.state.best.states
        if not states:
            raise InputError(
                f"the validation error is no number after the first epoch: the training diverges at "
                f"learning_rate {self.plan.learning_rate:g}; lower it, or look for huge features"
            )
        several = self.plan.averaged == "predictions" and len(states) > 1
        state.network.load_state_dict(states[0] if several else mean_of(states))
        return Trained(state.curve, state.best.epoch + 1, list(states) if several else [])

    def _epoch(self) -> float:
        """One pass over the training rows; the objective's error."""
        self.together.train()
        state, plan, ranks = self.state, self.plan, self.ranks
        device, dtype = self.device.partition(":")[0], plan.precision(self.device)
        total, count = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in "ab")
        batches = self.seen.batches(plan.batch_size, state.epoch)
        for number, (values, targets, known) in enumerate(batches):
            # Batch normalisation cannot work on a single row left over, nor a process on none.
            least = self.objective.least_rows * ranks.world_size
            if number and self.seen.left(plan.batch_size, number) < least:
                continue
            state.schedule.before_step()
            with torch.autocast(device, dtype, enabled=dtype is not None):
                scores = self.together(values)
            losses, seen = self.objective(scores, values, targets, known)
            state.optimiser.zero_grad(set_to_none=True)
            # Gradients are averaged over processes: their sum is over the targets of all.
            mean: Any = losses * ranks.world_size / ranks.total(seen).clamp(min=1)
            mean.backward()
            nn.utils.clip_grad_norm_(state.network.parameters(), plan.clip_norm)
            state.optimiser.step()
            if state.ema is not None:
                state.ema.update(state.network)
            # Not read before the epoch is over: on CUDA every reading waits for the device.
            total += losses.detach()
            count += seen
        return self._mean(total, count)

    def _error(self, network: nn.Module) -> float:
        """The objective's error on rows that are not learned from."""
        network.eval()
        total, count = (torch.zeros((), dtype=torch.float64, device=self.device) for _ in "ab")
        with torch.inference_mode():
            for values, targets, known in self.held_out.batches(self.plan.batch_size, None):
                losses, seen = self.objective(network(values), values, targets, known)
                total += losses
                count += seen
        return self._mean(total, count)

    def _mean(self, total: torch.Tensor, count: torch.Tensor) -> float:
        losses, seen = self.ranks.sums(float(total), float(count), device=self.device)
        return self.objective.error(losses, seen) if math.isfinite(losses) else math.nan


def _line(state: TrainingState, epochs: int, each: float) -> str:
    """One epoch in words."""
    point = state.curve[-1]
    line = (
        f"epoch {state.epoch}/{epochs}: train {point['train']:.4f}, valid {point['valid']:.4f}, "
        f"best {state.best.epoch + 1} · {each:.1f} s an epoch"
    )
    if state.ended:
        return f"{line}, over"
    minutes, seconds = divmod(round(each * (epochs - state.epoch)), 60)
    return f"{line}, at most {minutes}:{seconds:02} left"


def predict_network(
    network: nn.Module, batch: FeatureBatch, *, scale: TargetScale, size: int, budget: Budget
) -> NDArray[np.float64]:
    """Predict in the targets' unit, shape (n, t), reading shard by shard, ahead of the network."""
    network.to(budget.device).eval()
    out = np.empty((len(batch), len(scale.mean)))
    with torch.inference_mode(), closing(prefetched(in_turn(batch.shards(size)))) as parts:
        for part in parts:
            scores = network(tensors_of(part, budget.device))
            out[part.index] = scale.undo(scores.cpu().numpy())
    return out
