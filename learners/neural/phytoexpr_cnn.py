"""The ensemble of convolutional networks of PhytoExpr, stacked by a linear regression.

Li et al., PNAS 121:e2319811121, 2024, doi:10.1073/pnas.2319811121.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.neural.phytoexpr_transformer import check_output
from learners.neural.presets import PresetLearner, Shares
from learners.search import Choice, Range, SearchSpace
from learners.targets import observed
from learners.weighing import weigh

if TYPE_CHECKING:
    from torch import nn

_SIX: Final = tuple((blocks, dense) for blocks in (2, 3, 4) for dense in (2, 3))
_OUTSIDE: Final = (2000, 3000, 4000)

PAPER_MODELS: Final = (
    *((blocks, dense, outside, 8) for outside in _OUTSIDE for blocks, dense in _SIX),
    *((blocks, 2, outside, 16) for outside in _OUTSIDE for blocks in (2, 3, 4)),
)
"""Blocks, dense layers with the output, bp outside, width of the filters, of 27 networks."""

SMALL_MODELS: Final = ((2, 2, 2000, 8), (3, 2, 3000, 8), (4, 3, 4000, 8))

_TRAINING: Final = {
    "small": {
        "learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 32, "epochs": 0, "patience": 5,
        "dropout": 0.25, "normalise": True, "output": "linear", "filters": (16, 32, 32, 32), "dense": (64, 32),
    },
    "paper": {
        "learning_rate": 1e-4, "weight_decay": 0.0, "batch_size": 64, "epochs": 100, "patience": 2,
        "dropout": 0.25, "normalise": False, "output": "relu", "filters": (64, 64, 128, 128), "dense": (128, 64),
        "optimiser": "adam", "schedule": "constant", "warmup": 0.0, "clip_norm": 1e9,
    },
}  # fmt: skip

_POOLS: Final = {2: (8, 8), 3: (8, 8, 4), 4: (8, 4, 4, 4)}

_DEFAULTS: Final[Mapping[str, Any]] = {
    "preset": "small",
    "models": None,
    "output": None,
    "allow_short": False,
    "normalise": None,
    "dropout": 0.25,
    "learning_rate": None,
    "weight_decay": None,
    "batch_size": None,
    "epochs": None,
    "patience": None,
}


class _Member(PresetLearner):
    """One network of the ensemble."""

    presets = _TRAINING
    steps = (1500, 10, 24)
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="phytoexpr_cnn.member",
        inputs=frozenset({"codes"}),
        summary="One network of phytoexpr_cnn",
        multi_output=True,
        requires=("torch",),
    )

    def __init__(self, *, blocks: int, dense_layers: int, outside: int, width: int, **given: Any) -> None:  # fmt: skip
        super().__init__(
            blocks=blocks, dense_layers=dense_layers, outside=outside, width=width, **given
        )

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Look at the targets."""
        super().prepare(network, train)
        check_output("phytoexpr_cnn", self.settings["output"], train)

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.onehot_windows import cut
        from learners.neural.phytoexpr_networks import PhytoExprCNN, SubModel, windows

        own = self.settings
        pieces = cut(
            layout, windows(own["outside"]), learner="phytoexpr_cnn",
            published=self.parameters["preset"] == "paper", allow_short=self.parameters["allow_short"],
        )  # fmt: skip
        model = SubModel(
            outside=own["outside"],
            filters=own["filters"][: own["blocks"]],
            pools=_POOLS[own["blocks"]],
            width=own["width"],
            dense=own["dense"][: own["dense_layers"] - 1],
            dropout=own["dropout"],
            normalise=own["normalise"],
        )
        return PhytoExprCNN(
            pieces,
            model,
            targets=targets,
            activation=own["output"],
            mean=self._scale.mean,
            deviation=self._scale.deviation,
        )


class PhytoExprCNN:
    """PhytoExpr's ensemble of convolutional networks.

    Each reads 2, 3 or 4 kb outside and 1 kb inside of the gene at either end, end to end: two to
    four blocks of two convolutions, max-pooling and dropout, one or two dense layers, the output.
    Their predictions are joined by a linear regression with weights that are not negative, fitted
    on validation rows: these stand in the training families, and no network has learned from
    them; on training rows the network that learned them by heart would be believed most.

    Parameters
    ----------
    preset : {"small", "paper"}
        ``paper``: 27 networks of 64 to 128 filters, rectified output, Adam at 1e-4, batches of
        64, the end after 2 epochs without a better validation error. ``small``: three networks of
        16 to 32 filters; takes what the store has of the windows.
    models : int, optional
        Only so many of the preset's networks, the first ones.
    output : {"linear", "softplus", "relu"}, optional
        ``paper`` predicts nothing below zero; targets below zero are then refused.
    allow_short : bool
        ``paper`` on a store that lacks part of its windows: fill up with N (¼ each).
    normalise : bool, optional
        Batch normalisation after each block: ``small`` has it, the published networks do not.
    dropout : float
    learning_rate, weight_decay, batch_size, epochs, patience : optional
        None is the preset's; ``epochs`` of ``small`` are as many as make about 1,500 steps, 10 to
        24.
    """

    search_space: ClassVar[SearchSpace] = {
        "dropout": Range(0.1, 0.5),
        "learning_rate": Range(5e-5, 5e-3, log=True),
        "weight_decay": Range(1e-4, 1e-1, log=True),
        "batch_size": Choice((32, 64)),
    }
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="phytoexpr_cnn",
        inputs=frozenset({"codes"}),
        summary="PhytoExpr: convolutional networks on 3 to 5 kb around either end, stacked",
        reference="Li et al., PNAS 121:e2319811121, 2024, doi:10.1073/pnas.2319811121",
        multi_output=True,
        requires=("torch",),
        defaults=_DEFAULTS,
    )

    def __init__(
        self,
        *,
        preset: str = "small",
        models: int | None = None,
        output: str | None = None,
        allow_short: bool = False,
        normalise: bool | None = None,
        dropout: float = 0.25,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
    ) -> None:
        self.parameters: dict[str, Any] = {
            "preset": preset, "models": models, "output": output, "allow_short": allow_short,
            "normalise": normalise, "dropout": dropout, "learning_rate": learning_rate, "weight_decay": weight_decay,
            "batch_size": batch_size, "epochs": epochs, "patience": patience,
        }  # fmt: skip
        if preset not in _TRAINING:
            raise unknown_name("preset of phytoexpr_cnn", preset, _TRAINING)
        known = PAPER_MODELS if preset == "paper" else SMALL_MODELS
        if models is not None and not 1 <= models <= len(known):
            raise InputError(f"phytoexpr_cnn: models {models}; preset {preset} has {len(known)}")
        given = {name: value for name, value in self.parameters.items() if name != "models"}
        self.members = [
            _Member(blocks=b, dense_layers=d, outside=o, width=w, **given)
            for b, d, o, w in known[:models]
        ]
        self.learning_curve: list[dict[str, float]] = []
        self.weight: NDArray[np.float64] = np.zeros((0, 0))
        """Of each network for each target, shape (model, t)."""
        self._intercept: NDArray[np.float64] = np.zeros(0)

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Train one network after the other, then fit the weights on the validation rows."""
        shares = Shares(budget, len(self.members))
        for number, member in enumerate(self.members):
            member.fit(train, valid, seed=seed + 1000 * number, budget=shares.next())
        self.learning_curve = self.members[0].learning_curve
        unlabelled = valid.without_targets()
        predicted = np.stack([member.predict(unlabelled) for member in self.members])
        self.weight, self._intercept = weigh(predicted, valid.require_targets(), observed(valid))

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t)."""
        found = np.stack([member.predict(batch) for member in self.members], axis=1)
        joined: NDArray[np.float64] = (found * self.weight).sum(axis=1) + self._intercept
        return joined

    def save(self, path: Path) -> None:
        """Each network in a folder of its own, the weights beside them."""
        save_state(
            path,
            {"learner": self.info.name, "parameters": self.parameters},
            {"weight": self.weight, "intercept": self._intercept},
        )
        for number, member in enumerate(self.members):
            folder = path / f"model_{number:02d}"
            folder.mkdir(exist_ok=True)
            member.save(folder)

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; predicts on the CPU."""
        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        learner = cls(**config["parameters"])
        learner.weight, learner._intercept = arrays["weight"], arrays["intercept"]
        if learner.weight.shape != (len(learner.members), len(learner._intercept)):
            raise InputError(
                f"{path}: weights of {learner.weight.shape} are not those of its networks"
            )
        learner.members = [
            _Member.load(path / f"model_{number:02d}") for number in range(len(learner.members))
        ]
        return learner
