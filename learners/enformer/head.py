"""``enformer_head``: a small network on stored embeddings of Enformer's trunk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from featurestore.errors import InputError
from learners.base import LearnerInfo
from learners.batch import FeatureBatch
from learners.neural.presets import PresetLearner
from learners.search import Choice, Range, SearchSpace

if TYPE_CHECKING:
    from torch import nn

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "width": 128, "dropout": 0.3, "learning_rate": 1e-3, "weight_decay": 1e-2,
        "batch_size": 64, "epochs": 0, "patience": 8, "ema": 0.99,
    },
}  # fmt: skip


class EnformerHead(PresetLearner):
    """Stored bins around the TSS to expression.

    Each bin's vector is standardised and made narrow; attention that knows the place of a bin says
    how much each counts; two dense layers follow. With the one vector of a summary at the TSS the
    attention falls away. Takes any bins: those of other embedders too.

    Parameters
    ----------
    preset : {"small"}
    width, dropout, learning_rate, weight_decay, batch_size, epochs, patience : optional
        None is the preset's.
    """

    presets = PRESETS
    steps = (1500, 8, 60)
    search_space: ClassVar[SearchSpace] = {
        "width": Choice((64, 128, 256)),
        "dropout": Range(0.1, 0.6),
        "learning_rate": Range(2e-4, 5e-3, log=True),
        "weight_decay": Range(1e-3, 1e-1, log=True),
    }
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="enformer_head",
        inputs=frozenset({"bins"}),
        summary="Attention over stored trunk embeddings of Enformer, dense layers",
        reference="Avsec et al., Nat. Methods 18:1196, 2021, doi:10.1038/s41592-021-01252-x",
        multi_output=True,
        requires=("torch",),
        defaults={
            "preset": "small", "width": None, "dropout": None, "learning_rate": None,
            "weight_decay": None, "batch_size": None, "epochs": None, "patience": None,
        },
    )  # fmt: skip

    def __init__(
        self,
        *,
        preset: str = "small",
        width: int | None = None,
        dropout: float | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
    ) -> None:
        super().__init__(
            preset=preset, width=width, dropout=dropout, learning_rate=learning_rate,
            weight_decay=weight_decay, batch_size=batch_size, epochs=epochs, patience=patience,
        )  # fmt: skip

    @classmethod
    def wanted_features(cls, params: Mapping[str, Any]) -> str:
        """Embeddings of Enformer."""
        return "enformer"

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.enformer.head_network import HeadNetwork

        for name, block in layout.items():
            if block["kind"] != "bins":
                raise InputError(f"enformer_head takes bins, and {name!r} is {block['kind']}")
        shapes = {name: tuple(block["shape"]) for name, block in layout.items()}
        own = self.settings
        return HeadNetwork(shapes, targets, width=own["width"], dropout=own["dropout"])

    def prepare(self, network: nn.Module, train: FeatureBatch) -> None:
        """Measure means and deviations of the training rows."""
        from learners.neural.inputs import measure

        super().prepare(network, train)
        standardised: Any = network.get_submodule("standardised")
        measure(dict(standardised.items()), train)
