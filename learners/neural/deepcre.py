"""deepCRE, a convolutional network on 3,020 bp of both ends of a gene.

Peleke, Zumkeller, Gültas, Schmitt & Szymański, Nature Communications 15:3488, 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from learners.base import LearnerInfo
from learners.neural.presets import PresetLearner
from learners.search import Choice, Range, SearchSpace

if TYPE_CHECKING:
    from torch import nn

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "filters": (24, 48, 24), "dense": (64, 32), "dropout": 0.25, "learning_rate": 2e-3,
        "weight_decay": 1e-2, "batch_size": 32, "epochs": 0, "patience": 6,
    },
    "paper": {
        "filters": (64, 128, 64), "dense": (128, 64), "dropout": 0.25, "learning_rate": 1e-4,
        "weight_decay": 0.0, "batch_size": 64, "epochs": 100, "patience": 10,
        "optimiser": "adam", "schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": 5,
        "warmup": 0.0, "clip_norm": 1e9,
    },
}  # fmt: skip


class DeepCRE(PresetLearner):
    """deepCRE as a regression.

    Reads −1,000 … +500 at the TSS, 20 empty positions, −500 … +1,000 at the TTS, cut out of the
    regions of the store; the three bases after the TSS and before the TTS are hidden, as
    published. Three blocks of two convolutions of width 8, max-pooling by 8 and dropout, then
    two dense layers. The publication tells top from bottom quartile; this one predicts the value.

    Parameters
    ----------
    preset : {"small", "paper"}
        ``paper``: as published, 64, 128 and 64 filters, dense layers of 128 and 64, Adam at
        1e-4, batches of 64, the rate ÷ 10 after 5 epochs without a better validation error, the
        end after 10. ``small``: three eighths of the filters; takes what the store has of the
        two windows.
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
            dropout=dropout,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
        )

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
        )
