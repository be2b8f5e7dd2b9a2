"""A convolutional network on base codes, after Washburn et al., PNAS 116:5542, 2019."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from featurestore.errors import unknown_name
from learners.base import LearnerInfo
from learners.neural.learner import TorchLearner

if TYPE_CHECKING:
    from torch import nn

    from learners.neural.training import TrainingPlan

PRESETS = ("small", "full")


class OneHotCNN(TorchLearner):
    """Convolutions over promoter and terminator, dense layers over both.

    Codes become fractional one-hot inside the network (R = ½A + ½G, N = ¼ each), so the store
    holds one byte a base.

    Parameters
    ----------
    preset : {"small", "full"}
        ``full``: per region three blocks of two convolutions of 64 filters of width 8,
        max-pooling by 8 and dropout, then dense layers of 128 and 64, as published; meant for
        a GPU. ``small``: a wide convolution with stride 4, a narrow one, and means over 20
        segments of each region; trains on two cores in a minute or two.
    shared_branches : bool
        One set of convolutions for all regions instead of one for each.
    dropout, learning_rate, weight_decay, batch_size, epochs, patience
        Of the training, see :class:`learners.neural.training.TrainingPlan`.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="onehot_cnn",
        inputs=frozenset({"codes"}),
        summary="Convolutional network on one-hot sequence, best epoch on validation",
        reference="Washburn et al., PNAS 116:5542, 2019, doi:10.1073/pnas.1814551116",
        multi_output=True,
        requires=("torch",),
        defaults={
            "preset": "small",
            "shared_branches": False,
            "dropout": 0.25,
            "learning_rate": 2e-3,
            "weight_decay": 1e-2,
            "batch_size": 32,
            "epochs": 40,
            "patience": 8,
        },
    )

    def __init__(
        self,
        *,
        preset: str = "small",
        shared_branches: bool = False,
        dropout: float = 0.25,
        learning_rate: float = 2e-3,
        weight_decay: float = 1e-2,
        batch_size: int = 32,
        epochs: int = 40,
        patience: int = 8,
    ) -> None:
        if preset not in PRESETS:
            raise unknown_name("preset of onehot_cnn", preset, PRESETS)
        super().__init__(
            preset=preset,
            shared_branches=shared_branches,
            dropout=dropout,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
        )

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.onehot_network import OneHotNetwork

        return OneHotNetwork(
            {name: tuple(feature["shape"]) for name, feature in layout.items()},
            targets,
            preset=self.parameters["preset"],
            shared=self.parameters["shared_branches"],
            dropout=self.parameters["dropout"],
        )

    def plan(self) -> TrainingPlan:
        """How to train it."""
        from learners.neural.training import TrainingPlan

        named = ("learning_rate", "weight_decay", "batch_size", "epochs", "patience")
        return TrainingPlan(**{name: self.parameters[name] for name in named})
