"""The part of the hybrid for genes of which nothing is seen: neighbours and sequence alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget
from learners.batch import FeatureBatch
from learners.imputation.boosters import Boosters, part_of, prefixed, stacked
from learners.imputation.folds import NetworkFolds, with_features
from learners.imputation.settings import TOKENS, UNSEEN, HybridSettings
from learners.imputation.space import Space, Surroundings
from learners.imputation.table import Profiles


class Unseen:
    """Networks over neighbours and sequence, then trees on their estimates and the same facts.

    Parameters
    ----------
    settings : HybridSettings
    sequence : tuple of str
        Names of the sequence features.
    """

    def __init__(self, settings: HybridSettings, sequence: tuple[str, ...]) -> None:
        self.settings, self.sequence = settings, sequence
        self.networks: NetworkFolds | None = None
        self.boosters: Boosters | None = None
        self.space: Space
        self.around: Surroundings

    def look_at(self, known: Profiles, space: Space) -> None:
        """Take up the references."""
        self.space, self.around = space, Surroundings(known, space, self.settings)

    @property
    def informed(self) -> bool:
        """Whether there is anything to tell of a gene."""
        return self.settings.neighbours > 0 or bool(self.sequence)

    def fit(
        self, train: FeatureBatch, known: Profiles, valid: FeatureBatch, wanted: Profiles,
        *, seed: int, budget: Budget,
    ) -> NDArray[np.float64]:  # fmt: skip
        """Fit on known profiles as if they were not seen; estimates of validation rows, (m, T).

        Parameters
        ----------
        train, known
            Rows of the training batch and their profiles.
        valid, wanted
            Validation rows and what is known of their profiles.
        """
        settings, space = self.settings, self.space
        if self._has_network():
            self._fit_networks(train, known, valid, wanted, seed, budget)
        base = space.base(wanted)
        if not settings.xgboost or not self.informed:
            return self._without_trees(valid, wanted, base)
        self._train, self._seed = (train, known), seed
        self._table = self._columns(train, known, trained=True)
        self._targets = space.scores(space.gaussian.completed(known) - space.base(known))
        self.boosters = Boosters(UNSEEN, seed, budget)
        held = self._columns(valid, wanted)
        sought = space.scores(space.gaussian.completed(wanted) - base)
        return base + self.boosters.search(self._table, self._targets, held, sought) @ space.axes.T

    def refit(self, valid: FeatureBatch, wanted: Profiles, references: Profiles) -> None:
        """Trees again, with validation rows and with their profiles as neighbours of others.

        Networks are not trained again: validation rows said when to stop.
        """
        self.look_at(references, self.space)
        if self.boosters is None:
            return
        space = self.space
        train, known = self._train
        tables = [self._columns(train, known, trained=True), self._columns(valid, wanted)]
        targets = space.scores(space.gaussian.completed(wanted) - space.base(wanted))
        self.boosters.refit(np.concatenate(tables), np.concatenate([self._targets, targets]))
        del self._train, self._table, self._targets

    def _has_network(self) -> bool:
        settings = self.settings
        return (settings.cnn and bool(self.sequence)) or (
            settings.transformer and settings.neighbours > 0
        )

    def _fit_networks(
        self, train: FeatureBatch, known: Profiles, valid: FeatureBatch, wanted: Profiles,
        seed: int, budget: Budget,
    ) -> None:  # fmt: skip
        from learners.imputation.network import Sizes
        from learners.neural.plan import TrainingPlan

        own = self.settings
        plan = TrainingPlan(
            epochs=own.epochs, batch_size=own.batch_size, learning_rate=own.learning_rate,
            weight_decay=own.weight_decay, patience=3, average=2,
        )  # fmt: skip
        sizes = Sizes(own.width, own.heads, own.layers, own.dropout)
        self.networks = NetworkFolds(sizes, plan, self.space.patterns, own.folds)
        self.networks.fit(
            self._rows(train, known, known.value - self.space.base(known), known.seen),
            self._rows(valid, wanted, wanted.value - self.space.base(wanted), wanted.seen),
            seed=seed,
            budget=budget,
        )

    def _rows(
        self, batch: FeatureBatch, rows: Profiles, targets: NDArray[Any] | None = None,
        seen: NDArray[np.bool_] | None = None,
    ) -> FeatureBatch:  # fmt: skip
        """What the network is shown."""
        made: dict[str, NDArray[np.float32]] = {}
        own = self.settings
        if own.transformer and own.neighbours > 0:
            made["near"] = self.around.tokens(rows, TOKENS)
            made["gene"] = self._plain(rows)
        elif rows.elsewhere is not None:
            made["gene"] = self._elsewhere(rows)
        keep = self.sequence if own.cnn else ()
        return with_features(batch, made, keep, targets, seen)

    def _elsewhere(self, rows: Profiles) -> NDArray[np.float32]:
        return self.space.scores(self.space.base(rows) - self.space.gaussian.mean)

    def _plain(self, rows: Profiles) -> NDArray[np.float32]:
        """What is told of the surroundings, and of other genotypes, as a table."""
        tables = [self.around.table(rows)]
        if rows.elsewhere is not None:
            tables.append(self._elsewhere(rows))
        return stacked(tables)

    def _columns(
        self, batch: FeatureBatch, rows: Profiles, *, trained: bool = False
    ) -> NDArray[np.float32]:
        """What trees are told, shape (n, columns)."""
        tables = [self._plain(rows)]
        if self.networks is not None:
            shown = self._rows(batch, rows)
            found = self.networks.of_training(shown) if trained else self.networks.of(shown)  # fmt: skip
            tables += [found.represented]
        if self.sequence and self.settings.cnn:
            tables.append(flat_sequence(batch, self.sequence))
        return stacked(tables)

    def _without_trees(
        self, batch: FeatureBatch, rows: Profiles, base: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        if self.networks is None:
            return base
        return base + self.networks.of(self._rows(batch, rows)).estimate

    def predict(self, batch: FeatureBatch, rows: Profiles) -> NDArray[np.float64]:
        """Every entry, shape (n, T)."""
        base = self.space.base(rows)
        if self.boosters is None:
            return self._without_trees(batch, rows, base)
        return base + self.boosters.predict(self._columns(batch, rows)) @ self.space.axes.T

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything fitted but the references."""
        found: dict[str, NDArray[Any]] = {}
        if self.networks is not None:
            found |= prefixed(self.networks.arrays(), "network.")
        if self.boosters is not None:
            found |= prefixed(self.boosters.arrays(), "trees.")
        return found

    def restore(self, arrays: Mapping[str, NDArray[Any]], layout: dict[str, Any] | None) -> None:
        """Take up what :meth:`arrays` gave; references are taken up before."""
        if layout is not None:
            from learners.imputation.network import Sizes
            from learners.neural.plan import TrainingPlan

            own, weights = self.settings, part_of(arrays, "network.")
            sizes = Sizes(own.width, own.heads, own.layers, own.dropout)
            self.networks = NetworkFolds(sizes, TrainingPlan(), weights["patterns"], own.folds)
            self.networks.restore(weights, layout)
        trees = part_of(arrays, "trees.")
        if trees:
            self.boosters = Boosters(UNSEEN, 0, Budget(threads=1))
            self.boosters.restore(trees)


def flat_sequence(batch: FeatureBatch, names: tuple[str, ...]) -> NDArray[np.float32]:
    """Sequence features that trees can be told: no more than 4,096 columns, and no bases."""
    blocks = {
        name: batch.blocks[name]
        for name in names
        if batch.blocks[name].kind != "codes" and batch.blocks[name].flat_columns <= 4096
    }
    if not blocks:
        return np.zeros((len(batch), 0), np.float32)
    found: NDArray[np.float32] = replace(batch, blocks=blocks).array(np.float32)
    return found
