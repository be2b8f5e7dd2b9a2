"""The transformer of PhytoExpr, on 5 kb around either end of a gene.

Li et al., PNAS 121:e2319811121, 2024, doi:10.1073/pnas.2319811121.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from featurestore.errors import InputError, unknown_name
from learners.base import LearnerInfo
from learners.batch import FeatureBatch
from learners.neural.presets import PresetLearner
from learners.search import Choice, Range, SearchSpace
from learners.targets import observed

if TYPE_CHECKING:
    from torch import nn

OUTPUTS: Final = ("linear", "softplus", "relu")

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "stages": 0, "dim": 64, "layers": 2, "heads": 4, "key_dim": 16, "step": 16, "output": "linear",
        "dropout": 0.2, "learning_rate": 2e-3, "weight_decay": 1e-2, "batch_size": 32,
        "epochs": 0, "patience": 6,
    },
    "paper": {
        "stages": 5, "dim": 512, "layers": 6, "heads": 10, "key_dim": 32, "step": 128, "output": "softplus",
        "dropout": 0.2, "learning_rate": 1e-4, "weight_decay": 0.0, "batch_size": 64,
        "epochs": 100, "patience": 2,
        "optimiser": "adam", "schedule": "constant", "warmup": 0.0, "clip_norm": 1e9,
    },
}  # fmt: skip


def check_output(learner: str, output: str, train: FeatureBatch) -> None:
    """Refuse targets below zero where the output cannot be.

    Raises
    ------
    UnknownNameError
        If there is no such output.
    InputError
    """
    if output not in OUTPUTS:
        raise unknown_name(f"output of {learner}", output, OUTPUTS)
    if output == "linear":
        return
    least = float(train.require_targets()[observed(train)].min(initial=0.0))
    if least < 0:
        raise InputError(
            f"{learner}: the targets go down to {least:.3g}, and output={output} predicts nothing "
            "below zero; use output=linear"
        )


def _stages(length: int) -> int:
    """As many as leave eight tokens, from one to the published five."""
    from learners.neural.onehot_layers import pooled_length

    left = [pooled_length(length, *[4] * (1 + stages)) for stages in range(1, 6)]
    return max(1, sum(tokens >= 8 for tokens in left))


class PhytoExprTransformerLearner(PresetLearner):
    """PhytoExpr's transformer.

    Reads −4,000 … +1,000 at the TSS and −1,000 … +4,000 at the TTS end to end. A stem and five
    stages of convolutions, each pooled by 4, leave three tokens of 10,000 bp; six transformer
    layers; all of their output to one dense layer. Squared error.

    Parameters
    ----------
    preset : {"small", "paper"}
        ``paper``: as published, with Adam at 1e-4, batches of 64, the end after 2 epochs without
        a better validation error. ``small``: 64 channels, two layers, as many stages as leave
        eight tokens; takes what the store has of the two windows.
    output : {"linear", "softplus", "relu"}, optional
        ``paper`` keeps predictions above zero by softplus; targets below zero are then refused.
    allow_short : bool
        ``paper`` on a store that lacks part of its windows: fill up with N (¼ each).
    dropout : float
    learning_rate, weight_decay, batch_size, epochs, patience : optional
        None is the preset's; ``epochs`` of ``small`` are as many as make about 2,000 steps, 12 to
        30.
    """

    presets = PRESETS
    steps = (2000, 12, 30)
    search_space: ClassVar[SearchSpace] = {
        "dropout": Range(0.1, 0.5),
        "learning_rate": Range(5e-5, 3e-3, log=True),
        "weight_decay": Range(1e-4, 1e-1, log=True),
        "batch_size": Choice((32, 64)),
    }
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="phytoexpr_transformer",
        inputs=frozenset({"codes"}),
        summary="PhytoExpr: convolutions and a transformer on 5 kb around either end of a gene",
        reference="Li et al., PNAS 121:e2319811121, 2024, doi:10.1073/pnas.2319811121",
        multi_output=True,
        requires=("torch",),
        defaults={
            "preset": "small",
            "output": None,
            "allow_short": False,
            "dropout": 0.2,
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
        output: str | None = None,
        allow_short: bool = False,
        dropout: float = 0.2,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
    ) -> None:
        super().__init__(
            preset=preset,
            output=output,
            allow_short=allow_short,
            dropout=dropout,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
        )

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Look at the targets."""
        super().prepare(network, train)
        check_output(self.info.name, self.settings["output"], train)

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.onehot_windows import cut
        from learners.neural.phytoexpr_networks import (
            PhytoExprTransformer,
            TransformerSize,
            windows,
        )

        pieces = cut(
            layout, windows(4000), learner=self.info.name,
            published=self.parameters["preset"] == "paper", allow_short=self.parameters["allow_short"],
        )  # fmt: skip
        named = ("dim", "layers", "heads", "key_dim", "step", "dropout")
        stages = self.settings["stages"] or _stages(sum(piece.length for piece in pieces))
        size = TransformerSize(stages=stages, **{name: self.settings[name] for name in named})
        return PhytoExprTransformer(
            pieces,
            size,
            targets=targets,
            activation=self.settings["output"],
            mean=self._scale.mean,
            deviation=self._scale.deviation,
        )
