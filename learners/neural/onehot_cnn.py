"""A convolutional network of motifs on base codes, and that of Washburn et al., 2019."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.neural.presets import PresetLearner, Shares
from learners.search import Choice, Range, SearchSpace

if TYPE_CHECKING:
    from torch import nn

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "small": {
        "motifs": 96, "width": 13, "pool": 4, "channels": 64, "blocks": 2, "block_width": 5,
        "dense": 64, "dropout": 0.4, "block_dropout": 0.1, "shift": 3,
        "learning_rate": 2e-3, "weight_decay": 0.3, "batch_size": 32, "epochs": 0, "patience": 6,
        "warmup": 0.15, "ema": 0.99,
    },
    "full": {
        "motifs": 256, "width": 15, "pool": 4, "channels": 128, "blocks": 4, "block_width": 5,
        "dense": 128, "dropout": 0.4, "block_dropout": 0.1, "shift": 3,
        "learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 64, "epochs": 0, "patience": 10,
        "warmup": 0.15,
    },
    "paper": {
        "dropout": 0.25, "learning_rate": 1e-3, "weight_decay": 1e-2, "batch_size": 32,
        "epochs": 40, "patience": 8,
    },
}  # fmt: skip


class OneHotCNN(PresetLearner):
    """Convolutions over each region, dense layers over all; any number of regions of any length.

    A first layer of motifs whose matches count by their exponential, max-pooling by 4, residual
    dilated convolutions, means over segments of about 250 bp, dense layers. Codes become
    fractional one-hot inside the network (R = ½A + ½G, N = ¼ each), so the store holds one byte a
    base. There is no reverse-complement augmentation: regions have a direction.

    Parameters
    ----------
    preset : {"small", "full", "paper"}
        ``small``: 96 motifs of 13 bp, 64 channels, two blocks; trains on two cores in minutes.
        ``full``: 256 motifs, 128 channels, four blocks; meant for a GPU. ``paper``: after Washburn
        et al., per region three blocks of two convolutions of 64 filters of width 8, max-pooling
        by 8 and dropout, then dense layers of 128 and 64; meant for a GPU.
    members : int
        Networks trained alike from other seeds, whose mean is the prediction; as many times the
        time.
    shared_branches : bool
        One set of convolutions for all regions instead of one for each.
    motifs, width, shift : int, optional
        Filters of the first layer, bases that each spans, and how far training sequences are
        moved either way at random. None is the preset's; ``paper`` has none of them.
    dropout, learning_rate, weight_decay, batch_size, epochs, patience : optional
        None is the preset's; ``epochs`` of ``small`` and ``full`` are as many as make about 1,800
        steps, 8 to 30.
    amp : {"auto", "off", "bf16"}
        See :class:`learners.neural.plan.TrainingPlan`.
    """

    presets = PRESETS
    steps = (1800, 8, 30)
    search_space: ClassVar[SearchSpace] = {
        "dropout": Range(0.1, 0.6),
        "motifs": Choice((48, 96, 160)),
        "width": Choice((9, 13, 19)),
        "learning_rate": Range(5e-4, 5e-3, log=True),
        "weight_decay": Range(1e-3, 1e-1, log=True),
        "batch_size": Choice((32, 64, 128)),
    }
    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="onehot_cnn",
        inputs=frozenset({"codes"}),
        summary="Convolutional network of motifs on one-hot sequence",
        reference="Washburn et al., PNAS 116:5542, 2019, doi:10.1073/pnas.1814551116; Koo & "
        "Ploenzke, Nat. Mach. Intell. 3:258, 2021",
        multi_output=True,
        requires=("torch",),
        defaults={
            "preset": "small",
            "members": 1,
            "shared_branches": False,
            "dropout": None,
            "motifs": None,
            "width": None,
            "shift": None,
            "learning_rate": None,
            "weight_decay": None,
            "batch_size": None,
            "epochs": None,
            "patience": None,
            "amp": "auto",
        },
    )

    def __init__(
        self,
        *,
        preset: str = "small",
        members: int = 1,
        shared_branches: bool = False,
        dropout: float | None = None,
        motifs: int | None = None,
        width: int | None = None,
        shift: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        patience: int | None = None,
        amp: str = "auto",
    ) -> None:
        if members < 1:
            raise InputError(f"onehot_cnn: members {members}; at least 1")
        super().__init__(
            preset=preset,
            members=members,
            shared_branches=shared_branches,
            dropout=dropout,
            motifs=motifs,
            width=width,
            shift=shift,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            batch_size=batch_size,
            epochs=epochs,
            patience=patience,
            amp=amp,
        )

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Train, several networks one after the other."""
        members = self.parameters["members"]
        if members == 1:
            super().fit(train, valid, seed=seed, budget=budget)
            return
        shares = Shares(budget, members)
        networks: list[nn.Module] = []
        for number in range(members):
            one = type(self)(**(self.parameters | {"members": 1}))
            one.fit(train, valid, seed=seed + 1000 * number, budget=shares.next())
            networks.append(one._fitted())
            if not number:
                self._layout, self._scale, self._budget = one._layout, one._scale, one._budget
                self.learning_curve, self.best_step = one.learning_curve, one.best_step
        self._network = self._several(members, len(self._scale.mean))
        for member, network in zip(self._network.members, networks, strict=True):
            member.load_state_dict(network.state_dict())

    def build(self, layout: Mapping[str, Any], targets: int) -> nn.Module:
        """A new network."""
        from learners.neural.onehot_network import MotifNetwork, MotifSize, WashburnNetwork
        from learners.neural.onehot_windows import whole_regions

        pieces, shared = whole_regions(layout), self.parameters["shared_branches"]
        own = self.settings
        if self.parameters["preset"] == "paper":
            return WashburnNetwork(pieces, targets, dropout=own["dropout"], shared=shared)
        named = (
            "motifs", "width", "pool", "channels", "blocks", "block_width", "dense", "dropout",
            "block_dropout", "shift",
        )  # fmt: skip
        size = MotifSize(**{name: own[name] for name in named})
        return MotifNetwork(pieces, targets, size=size, shared=shared)
