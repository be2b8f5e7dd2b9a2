"""What every learner in torch shares: fit, predict, save, load. A subclass builds its network."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.layout import check_layout, layout_of, require_features
from learners.targets import TargetScale

if TYPE_CHECKING:
    from torch import nn

    from learners.neural.average import MeanOfNetworks
    from learners.neural.objective import Objective
    from learners.neural.plan import TrainingPlan


class TorchLearner(ABC):
    """A network trained by :func:`learners.neural.training.train_network`.

    A subclass gives ``info``, ``build`` and ``plan``; its constructor passes all of its
    parameters on. Targets are standardised from training rows. The epoch with the best
    validation error is restored, or the mean of the best ones, as the plan says; there is no
    refit, as validation rows say when to stop.
    """

    info: ClassVar[LearnerInfo]

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters
        self.learning_curve: list[dict[str, float]] = []
        self._layout: dict[str, Any] = {}
        self.best_step: int | None = None
        self.notes: list[str] = []
        self._network: nn.Module | None = None
        self._scale = TargetScale(np.zeros(0), np.zeros(0))
        self._budget = Budget()

    @abstractmethod
    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network for features of this layout (see :func:`learners.layout.layout_of`)."""

    @abstractmethod
    def plan(self) -> TrainingPlan:
        """How to train it."""

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:  # noqa: B027 - most need none
        """Give a new network what it measures of the training rows (its buffers)."""

    def conclude(self, train: FeatureBatch, valid: FeatureBatch) -> None:  # noqa: B027 - most need none
        """Look at the fitted network, for what the learner reports beside predictions."""

    def objective(self) -> Objective | None:
        """What is made small; None is squared error."""
        return None

    def extra(self) -> dict[str, Any]:
        """What else is saved, as plain JSON; :meth:`take_extra` is given it back."""
        return {}

    def take_extra(self, extra: Mapping[str, Any]) -> None:  # noqa: B027 - most have none
        """Take up what :meth:`extra` gave."""

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Train; bit for bit repeatable on CPU for a seed and a number of threads."""
        from learners.neural.distributed import current_ranks, synchronised
        from learners.neural.training import reproducible, train_network

        require_features(train, self.info.name)
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        self._scale, self._budget = TargetScale.of(train), budget
        with reproducible(seed, budget):
            targets = len(self._scale.mean)
            network = self.build(self._layout, targets)
            self.prepare(network, train)
            self._network = synchronised(network, current_ranks(), budget.device)
            trained = train_network(
                self._network,
                train,
                valid,
                scale=self._scale,
                plan=self.plan(),
                seed=seed,
                budget=budget,
                identity=json.dumps([self.info.name, self.parameters], sort_keys=True),
                objective=self.objective(),
            )
            if trained.members:
                self._network = self._several(len(trained.members), targets)
                for member, state in zip(self._network.members, trained.members, strict=True):
                    member.load_state_dict(state)
            self.learning_curve, self.best_step = trained.learning_curve, trained.best_epoch
            self.conclude(train, valid)

    def _several(self, count: int, targets: int) -> MeanOfNetworks:
        from learners.neural.average import MeanOfNetworks

        return MeanOfNetworks([self.build(self._layout, targets) for _ in range(count)])

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t)."""
        from learners.neural.training import predict_network, reproducible

        check_layout(self._layout, batch)
        with reproducible(0, self._budget):
            return predict_network(
                self._fitted(), batch, scale=self._scale, size=256, budget=self._budget
            )

    def _fitted(self) -> nn.Module:
        if self._network is None:
            raise ValueError(f"{self.info.name} has not been fitted or loaded")
        return self._network

    def save(self, path: Path) -> None:
        """Write weights as safetensors, the rest as JSON; of several processes the first writes."""
        from learners.neural.distributed import current_ranks

        ranks = current_ranks()
        if ranks.first:
            self._write(path)
        ranks.wait()

    def _write(self, path: Path) -> None:
        from learners.neural.average import MeanOfNetworks

        state = self._fitted().state_dict()
        arrays = {f"network.{name}": tensor.cpu().numpy() for name, tensor in state.items()}
        arrays |= {"target_mean": self._scale.mean, "target_deviation": self._scale.deviation}
        config = {
            "learner": self.info.name,
            "parameters": self.parameters,
            "layout": self._layout,
            "members": len(self._network.members)
            if isinstance(self._network, MeanOfNetworks)
            else 0,
            "extra": self.extra(),
        }
        save_state(path, config, arrays)

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; predicts on the CPU."""
        import torch

        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        learner = cls(**config["parameters"])
        learner._layout = config["layout"]
        learner._scale = TargetScale(arrays.pop("target_mean"), arrays.pop("target_deviation"))
        targets, members = len(learner._scale.mean), config.get("members", 0)
        if members > len(arrays):  # as many networks as a file of theirs could hold
            raise InputError(f"{path}: {members} networks, but {len(arrays)} arrays; save it again")

        def made() -> nn.Module:
            return (
                learner._several(members, targets)
                if members
                else learner.build(learner._layout, targets)
            )

        with torch.device("meta"):  # settings may ask for any size; the weights have theirs
            wanted = made().state_dict()
        # A single number is saved as an array of one.
        if {f"network.{n}": tuple(t.shape) or (1,) for n, t in wanted.items()} != {
            n: a.shape or (1,) for n, a in arrays.items()
        }:
            raise InputError(f"{path}: its weights are not those of its settings; save it again")
        network = made()
        network.load_state_dict(
            {name.removeprefix("network."): torch.from_numpy(a) for name, a in arrays.items()}
        )
        learner._network = network
        learner.take_extra(config.get("extra", {}))
        return learner
