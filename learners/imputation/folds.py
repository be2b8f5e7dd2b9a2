"""Networks that estimate what trees are then told: each row by networks that have not seen it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource, Block, FeatureBatch
from learners.layout import layout_of
from learners.targets import TargetScale

if TYPE_CHECKING:
    from learners.imputation.network import ProfileNetwork, Sizes
    from learners.neural.plan import TrainingPlan


@dataclass(frozen=True)
class Estimates:
    """What networks say of some rows.

    Parameters
    ----------
    estimate : float64 array, shape (n, T)
        In the unit of the targets.
    represented : float32 array, shape (n, r)
        Coefficients of the tissue patterns: the gene's fused representation.
    """

    estimate: NDArray[np.float64]
    represented: NDArray[np.float32]


class NetworkFolds:
    """One network per inner fold of the training families.

    A training row is estimated by the network whose training left its family out, any other row
    by the mean of all networks: what trees learn of the estimates then holds for new genes.

    Parameters
    ----------
    sizes : Sizes
    plan : TrainingPlan
    patterns : float array, shape (T, r)
    folds : int
    """

    def __init__(
        self, sizes: Sizes, plan: TrainingPlan, patterns: NDArray[np.float64], folds: int
    ) -> None:
        self.sizes, self.plan, self.patterns, self.folds = sizes, plan, patterns, folds
        self.networks: list[ProfileNetwork] = []
        self.layout: dict[str, Any] = {}
        self.scale = TargetScale(np.zeros(0), np.zeros(0))
        self.learning_curve: list[dict[str, float]] = []
        self.budget = Budget(threads=1)
        self._seed = 0

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Train a network for each fold, stopped on the validation rows."""
        from learners.neural.training import reproducible, train_network

        self.layout, self.budget, self._seed = layout_of(train), budget, seed
        self.scale = TargetScale.of(train)
        self.scale = replace(self.scale, mean=np.zeros_like(self.scale.mean))
        shares = replace(budget, seconds=None if budget.seconds is None else budget.seconds / self.folds)  # fmt: skip
        which = inner_folds(train.family, self.folds, seed)
        for fold in range(self.folds):
            rows = train.take(np.flatnonzero(which != fold).astype(np.int64))
            with reproducible(seed + fold, budget):
                network = self._made()
                self._measure(network, rows)
                trained = train_network(
                    network, rows, valid, scale=self.scale, plan=self.plan, seed=seed + fold,
                    budget=replace(shares, on_step=None, checkpoint=None),
                    identity=f"hybrid, fold {fold}",
                )  # fmt: skip
            self.networks.append(network.eval())
            self.learning_curve = self.learning_curve or trained.learning_curve

    def _made(self) -> ProfileNetwork:
        from learners.imputation.network import ProfileNetwork

        return ProfileNetwork(self.layout, self.patterns, self.sizes)

    def _measure(self, network: ProfileNetwork, rows: FeatureBatch) -> None:
        from learners.neural.inputs import measure

        measure(network.measured(), rows)

    def of_training(self, train: FeatureBatch) -> Estimates:
        """Of the rows that the networks were trained on, each by the one that has not seen it."""
        which = inner_folds(train.family, self.folds, self._seed)
        estimate = np.zeros((len(train), len(self.scale.mean)))
        represented = np.zeros((len(train), self.patterns.shape[1]), np.float32)
        for fold, network in enumerate(self.networks):
            rows = np.flatnonzero(which == fold).astype(np.int64)
            estimate[rows], represented[rows] = self._by(network, train.take(rows))
        return Estimates(estimate, represented)

    def of(self, rows: FeatureBatch) -> Estimates:
        """Of any other rows, by the mean of all networks."""
        found = [self._by(network, rows) for network in self.networks]
        return Estimates(
            np.mean([one for one, _ in found], axis=0),
            np.mean([one for _, one in found], axis=0, dtype=np.float32),
        )

    def _by(
        self, network: ProfileNetwork, rows: FeatureBatch
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        import torch

        from learners.neural.rows import tensors_of
        from learners.neural.training import reproducible

        estimate = np.zeros((len(rows), len(self.scale.mean)))
        represented = np.zeros((len(rows), self.patterns.shape[1]), np.float32)
        device = self.budget.device
        network.to(device).eval()
        with reproducible(0, self.budget), torch.inference_mode():
            for part in rows.shards(512):
                values = tensors_of(part, device)
                scores, coefficients = network.both(values)
                estimate[part.index] = self.scale.undo(scores.cpu().numpy())
                represented[part.index] = coefficients.cpu().numpy()
        return estimate, represented

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Weights of all networks."""
        found = {
            f"{number}.{name}": tensor.cpu().numpy()
            for number, network in enumerate(self.networks)
            for name, tensor in network.state_dict().items()
        }
        return found | {"patterns": self.patterns, "deviation": self.scale.deviation}

    def restore(self, arrays: Mapping[str, NDArray[Any]], layout: dict[str, Any]) -> None:
        """Take up what :meth:`arrays` gave.

        Raises
        ------
        InputError
            If the weights are not those of the settings.
        """
        import torch

        self.layout = layout
        self.scale = TargetScale(np.zeros(len(arrays["deviation"])), arrays["deviation"])
        for number in range(self.folds):
            network, prefix = self._made(), f"{number}."
            wanted = network.state_dict()
            found = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
            if {n: tuple(t.shape) for n, t in wanted.items()} != {n: a.shape for n, a in found.items()}:  # fmt: skip
                raise InputError(
                    "the weights of a network are not those of its settings; save again"
                )
            network.load_state_dict({n: torch.from_numpy(a) for n, a in found.items()})
            self.networks.append(network.eval())


def inner_folds(family: NDArray[np.str_], folds: int, seed: int) -> NDArray[np.int64]:
    """The inner fold of each row, by its family's name: the same whatever rows stand beside."""
    return np.array(
        [crc32(f"{seed} {name}".encode()) % folds for name in family.tolist()], np.int64
    )


def with_features(
    batch: FeatureBatch,
    made: Mapping[str, NDArray[Any]],
    keep: tuple[str, ...],
    targets: NDArray[np.float64] | None = None,
    mask: NDArray[np.bool_] | None = None,
) -> FeatureBatch:
    """Rows of a batch with features made for the network, and some of their own."""
    rows = np.arange(len(batch), dtype=np.int64)
    blocks = {name: Block(ArraySource(a, kind="profile"), rows) for name, a in made.items()}
    blocks |= {name: batch.blocks[name] for name in keep}
    names = batch.target_names if targets is None else tuple(f"t{i}" for i in range(targets.shape[1]))  # fmt: skip
    return replace(batch, blocks=blocks, targets=targets, mask=mask, target_names=names)


def made_batch(
    gene: NDArray[np.str_],
    family: NDArray[np.str_],
    made: Mapping[str, NDArray[Any]],
    targets: NDArray[np.float64] | None,
    mask: NDArray[np.bool_] | None,
) -> FeatureBatch:
    """Rows with nothing but features made for the network."""
    plain = FeatureBatch({}, gene=gene, species=gene, family=family)
    return with_features(plain, made, (), targets, mask)
