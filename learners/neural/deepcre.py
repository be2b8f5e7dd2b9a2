"""deepCRE, a convolutional network on 3,020 bp of both ends of a gene.

Peleke, Zumkeller, Gültas, Schmitt & Szymański, Nature Communications 15:3488, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name
from learners.base import LearnerInfo
from learners.batch import FeatureBatch
from learners.neural.presets import PresetLearner
from learners.search import Choice, Range, SearchSpace
from learners.targets import observed
from learners.weighing import weigh

if TYPE_CHECKING:
    from torch import nn

    from learners.neural.objective import Objective

OBJECTIVES: Final = ("value", "quartiles")

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "filters": (24, 48, 24), "dense": (64, 32), "dropout": 0.25, "normalise": True,
        "objective": "value", "learning_rate": 1e-3,
        "weight_decay": 1e-2, "batch_size": 32, "epochs": 0, "patience": 6,
    },
    "paper": {
        "filters": (64, 128, 64), "dense": (128, 64), "dropout": 0.25, "normalise": False,
        "objective": "quartiles", "learning_rate": 1e-4,
        "weight_decay": 0.0, "batch_size": 64, "epochs": 100, "patience": 10,
        "optimiser": "adam", "schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": 5,
        "warmup": 0.0, "clip_norm": 1e9,
    },
}  # fmt: skip


class DeepCRE(PresetLearner):
    """deepCRE.

    Reads −1,000 … +500 at the TSS, 20 empty positions, −500 … +1,000 at the TTS, cut out of the
    regions of the store; the three bases after the TSS and before the TTS are hidden, as
    published. Three blocks of two convolutions of width 8, max-pooling by 8 and dropout, then
    two dense layers.

    Parameters
    ----------
    preset : {"small", "paper"}
        ``paper``: as published, 64, 128 and 64 filters, dense layers of 128 and 64, Adam at
        1e-4, batches of 64, the rate ÷ 10 after 5 epochs without a better validation error, the
        end after 10, the top quartile told from the bottom one. ``small``: three eighths of the
        filters, normalised, predicts the value; takes what the store has of the two windows.
    objective : {"value", "quartiles"}, optional
        ``value``: squared error. ``quartiles``, as published: cross-entropy of the top against the
        bottom quartile of the training genes, target by target; the others are not learned from.
        A prediction is then the straight line through log-odds and targets of all validation
        genes, taken at the gene's log-odds: in the unit of the target, in the order of the
        classifier.
    normalise : bool, optional
        Batch normalisation after each block: ``small`` has it, the published network does not.
    allow_short : bool
        ``paper`` on a store that lacks part of its windows: fill up with N (zeros).
    dropout : float
    learning_rate, weight_decay, batch_size, epochs, patience : optional
        None is the preset's; ``epochs`` of ``small`` are as many as make about 2,000 steps, 15 to
        30.
    """

    presets = PRESETS
    steps = (2000, 15, 30)
    search_space: ClassVar[SearchSpace] = {
        "dropout": Range(0.1, 0.5),
        "learning_rate": Range(1e-4, 5e-3, log=True),
        "weight_decay": Range(1e-4, 1e-1, log=True),
        "batch_size": Choice((32, 64, 128)),
    }
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="deepcre",
        inputs=frozenset({"codes"}),
        summary="deepCRE: convolutions on 1.5 kb around either end of a gene",
        reference="Peleke et al., Nat. Commun. 15:3488, 2024, doi:10.1038/s41467-024-47744-0",
        multi_output=True,
        requires=("torch",),
        defaults={
            "preset": "small",
            "allow_short": False,
            "objective": None,
            "normalise": None,
            "dropout": 0.25,
            "learning_rate": None,
            "weight_decay": None,
            "batch_size": None,
            "epochs": None,
            "patience": None,
        },
    )

    def __init__(
        self,
        *,
        preset: str = "small",
        allow_short: bool = False,
        objective: str | None = None,
        normalise: bool | None = None,
        dropout: float = 0.25,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
    ) -> None:
        super().__init__(
            preset=preset,
            allow_short=allow_short,
            objective=objective,
            normalise=normalise,
            dropout=dropout,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
        )
        if self.settings["objective"] not in OBJECTIVES:
            raise unknown_name("objective of deepcre", str(objective), OBJECTIVES)
        self._quartiles: NDArray[np.float64] | None = None
        self._line: NDArray[np.float64] | None = None
        """Intercept and slope of each target over log-odds, shape (2, t); None: values."""

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.deepcre_network import WINDOWS, DeepCRENetwork
        from learners.neural.onehot_windows import cut

        pieces = cut(
            layout, WINDOWS, learner=self.info.name,
            published=self.parameters["preset"] == "paper", allow_short=self.parameters["allow_short"],
        )  # fmt: skip
        return DeepCRENetwork(
            pieces,
            targets,
            filters=self.settings["filters"],
            dense=self.settings["dense"],
            dropout=self.settings["dropout"],
            normalise=self.settings["normalise"],
        )

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Find the quartiles of the training genes.

        Raises
        ------
        InputError
            If a target is observed in no training gene, or its quartiles have a value in common.
        """
        super().prepare(network, train)
        self._line = None
        if self.settings["objective"] != "quartiles":
            return
        cuts, known = [], observed(train)
        for column, targets in enumerate(train.require_targets().T):
            if not known[:, column].any():
                raise InputError(
                    f"deepcre: target {column} is observed in none of {len(train)} training genes; "
                    "use fewer folds or leave the target out"
                )
            low, high = np.quantile(targets[known[:, column]], (0.25, 0.75))
            if low == high:
                raise InputError(
                    f"deepcre: target {column} has no quartiles to tell apart, half of the training "
                    f"genes are at {low:g}; use objective=value or another target"
                )
            cuts.append((low, high))
        self._quartiles = self._scale.apply(np.array(cuts).T)

    def objective(self) -> Objective | None:
        """Squared error, or cross-entropy of quartiles."""
        from learners.neural.objective import Quartiles

        return None if self._quartiles is None else Quartiles(*self._quartiles)

    def conclude(self, train: FeatureBatch, valid: FeatureBatch) -> None:
        """Give log-odds the unit of the target, by a line through the validation genes.

        It does not fall: where the classifier learned nothing, all genes are predicted alike.
        """
        if self._quartiles is None:
            return
        scores = super().predict(valid.without_targets())
        weight, intercept = weigh(scores[None], valid.require_targets(), observed(valid))
        self._line = np.stack([intercept, weight[0]])

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t)."""
        scores = super().predict(batch)
        return scores if self._line is None else self._line[0] + self._line[1] * scores

    def extra(self) -> dict[str, Any]:
        """The line from log-odds to the target."""
        return {} if self._line is None else {"line": self._line.tolist()}

    def take_extra(self, extra: Mapping[str, Any]) -> None:
        """Take up what :meth:`extra` gave."""
        quartiles = self.settings["objective"] == "quartiles"
        self._line = np.array(extra["line"]) if quartiles else None
