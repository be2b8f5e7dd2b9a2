"""A head over several embedders that weighs them for each gene."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np

from featurestore.errors import InputError
from learners.base import LearnerInfo
from learners.batch import FeatureBatch
from learners.neural.learner import TorchLearner
from learners.search import Choice, Range, SearchSpace

if TYPE_CHECKING:
    from torch import nn

    from learners.neural.gated_network import GatedNetwork
    from learners.neural.plan import TrainingPlan


class Gated(TorchLearner):
    """An encoder for each feature, a softmax gate over the features for each gene, a head.

    The gate is that of a mixture of experts (Jacobs et al., Neural Computation 3:79, 1991) over
    encodings; in training whole features are hidden from some genes, so that no encoder is left
    untrained because another is better, and a prediction never hangs on one (Neverova et al.,
    ModDrop, IEEE TPAMI 38:1692, 2016). Features may differ in bins, channels and kind.

    After a fit ``gates`` holds the mean weight of each feature over the validation genes.

    Parameters
    ----------
    channels, width, hidden, dropout, input_dropout, embedder_dropout
        Of the network, see :class:`learners.neural.gated_network.GatedSizes`.
    learning_rate, weight_decay, batch_size, epochs, patience, average, averaged, schedule, ema, amp
        Of the training, see :class:`learners.neural.plan.TrainingPlan`.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="gated",
        inputs=frozenset({"tabular", "bins", "codes"}),
        summary="Several embedders, each encoded on its own and weighed for each gene",
        reference="Jacobs et al., Neural Computation 3:79, 1991, doi:10.1162/neco.1991.3.1.79",
        multi_output=True,
        requires=("torch",),
        defaults={
            "channels": 16,
            "width": 64,
            "hidden": 64,
            "dropout": 0.3,
            "input_dropout": 0.5,
            "embedder_dropout": 0.2,
            "learning_rate": 1e-3,
            "weight_decay": 1e-2,
            "batch_size": 64,
            "epochs": 50,
            "patience": 10,
            "average": 5,
            "averaged": "predictions",
            "schedule": "cosine",
            "ema": 0.0,
            "amp": "auto",
        },
    )
    search_space: ClassVar[SearchSpace] = {
        "channels": Choice((8, 16, 32, 64)),
        "width": Choice((32, 64, 128, 256)),
        "hidden": Choice((32, 64, 128)),
        "dropout": Range(0.0, 0.6),
        "input_dropout": Range(0.0, 0.7),
        "embedder_dropout": Range(0.0, 0.5),
        "learning_rate": Range(1e-4, 1e-2, log=True),
        "weight_decay": Range(1e-4, 1.0, log=True),
        "batch_size": Choice((32, 64, 128, 256)),
    }

    def __init__(
        self,
        *,
        channels: int = 16,
        width: int = 64,
        hidden: int = 64,
        dropout: float = 0.3,
        input_dropout: float = 0.5,
        embedder_dropout: float = 0.2,
        learning_rate: float = 1e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 64,
        epochs: int = 50,
        patience: int = 10,
        average: int = 5,
        averaged: str = "predictions",
        schedule: str = "cosine",
        ema: float = 0.0,
        amp: str = "auto",
    ) -> None:
        given = locals()
        super().__init__(**{name: given[name] for name in self.info.defaults})
        for name in ("channels", "width", "hidden"):
            if given[name] < 1:
                raise InputError(f"gated: {name} {given[name]}: at least 1")
        for name in ("dropout", "input_dropout", "embedder_dropout"):
            if not 0 <= given[name] < 1:
                raise InputError(f"gated: {name} {given[name]}: from 0, below 1")
        self.gates: dict[str, float] = {}

    @property
    def learned(self) -> dict[str, Any]:
        """What a run tells of the fit: the mean weight of each feature."""
        return {"gates": self.gates}

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.gated_network import GatedNetwork, GatedSizes

        named = (f.name for f in fields(GatedSizes))
        return GatedNetwork(layout, targets, GatedSizes(**{n: self.parameters[n] for n in named}))

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Measure mean and deviation of every number on training genes."""
        from learners.neural.gated_network import GatedNetwork
        from learners.neural.inputs import measure

        if isinstance(network, GatedNetwork):
            measure(network.standardised(), train)

    def plan(self) -> TrainingPlan:
        """How to train it."""
        from learners.neural.plan import TrainingPlan

        named = (
            "learning_rate", "weight_decay", "batch_size", "epochs", "patience", "average",
            "averaged", "schedule", "ema", "amp",
        )  # fmt: skip
        return TrainingPlan(**{name: self.parameters[name] for name in named})

    def conclude(self, train: FeatureBatch, valid: FeatureBatch) -> None:
        """Measure the mean weight of each feature over the validation genes."""
        import torch

        from learners.neural.average import MeanOfNetworks
        from learners.neural.rows import tensors_of

        network = self._fitted()
        members = list(network.members) if isinstance(network, MeanOfNetworks) else [network]
        network.to(self._budget.device).eval()
        total = np.zeros(len(valid.blocks))
        with torch.inference_mode():
            for part in valid.shards(256):
                values = tensors_of(part, self._budget.device)
                for member in members:
                    weights = cast("GatedNetwork", member).weighed(values)[1]
                    total += weights.double().sum(dim=0).cpu().numpy()
        mean = total / (len(valid) * len(members))
        self.gates = dict(zip(valid.blocks, mean.tolist(), strict=True))

    def extra(self) -> dict[str, Any]:
        """The weights of the features."""
        return {"gates": self.gates}

    def take_extra(self, extra: Mapping[str, Any]) -> None:
        """Take up the weights of the features."""
        self.gates = {str(name): float(weight) for name, weight in extra["gates"].items()}
