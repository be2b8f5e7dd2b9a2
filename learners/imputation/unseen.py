"""The part of the hybrid for genes of which nothing is seen: neighbours and sequence alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget
from learners.batch import FeatureBatch
from learners.imputation.annotation import Annotation
from learners.imputation.boosters import Boosters, part_of, prefixed, stacked
from learners.imputation.folds import NetworkFolds, with_features
from learners.imputation.settings import TOKENS, UNSEEN, HybridSettings
from learners.imputation.space import Space, Surroundings
from learners.imputation.table import Profiles, References

_APART: Final = 0.5
"""So many of the next references are missing on either side of rows that lie apart."""
_ALL_APART: Final = 10


class Unseen:
    """Networks over neighbours and sequence, and trees that start from what they say.

    Half of the trees start from the first estimate of the networks, shrunk by as much as it is too
    sure of itself on rows that they have not seen; half know nothing of it. Their mean counts.

    Parameters
    ----------
    settings : HybridSettings
    sequence : tuple of str
        Names of the sequence features.
    annotation : Annotation
    """

    def __init__(
        self, settings: HybridSettings, sequence: tuple[str, ...], annotation: Annotation
    ) -> None:
        self.settings, self.sequence, self._annotation = settings, sequence, annotation
        self.networks: NetworkFolds | None = None
        self.boosters: list[Boosters] = []
        """Those that start from the networks' estimate, where there is one; the last do not."""
        self.shrink = 1.0
        self.space: Space
        self.around: Surroundings

    def look_at(self, known: Profiles, space: Space) -> None:
        """Take up the references."""
        self.space = space
        self.around = Surroundings(known, space, self.settings, self._annotation)

    @property
    def informed(self) -> bool:
        """Whether there is anything to tell of a gene."""
        return self.settings.neighbours > 0 or (bool(self.sequence) and self.settings.cnn)

    def fit(
        self, train: FeatureBatch, known: Profiles, valid: FeatureBatch, wanted: Profiles,
        *, every: Profiles, seed: int, budget: Budget,
    ) -> NDArray[np.float64]:  # fmt: skip
        """Fit on known profiles as if they were not seen; estimates of validation rows, (m, T).

        Parameters
        ----------
        train, known
            Rows of the training batch and their profiles.
        valid, wanted
            Validation rows and what is known of their profiles.
        every
            References with validation rows among them.
        """
        self._missing = References(every).missing(wanted, self.around.references)
        known = self._apart(known, wanted, seed)
        if self._has_network():
            self._fit_networks(train, known, valid, wanted, seed, budget)
        if not self.settings.xgboost or not self.informed:
            return self.space.base(wanted) + self._first(valid, wanted)
        table, held = self._columns(train, known), self._columns(valid, wanted)
        targets, sought = self._targets(known), self._targets(wanted)
        starts = self._starts(train, known, trained=True)
        if self.networks is not None:
            first = starts[0]
            self.shrink = float((first * targets).sum() / max((first**2).sum(), 1e-12))
            starts[0] = first * self.shrink
        self._seen = table, targets, starts
        found = []
        for number, (start, other) in enumerate(
            zip(starts, self._starts(valid, wanted, shrink=self.shrink), strict=True)
        ):
            boosters = Boosters(UNSEEN, seed + 100 * number, budget)
            found.append(other + boosters.search(table, targets - start, held, sought - other))
            self.boosters.append(boosters)
        return self._profiles(wanted, found)

    def refit(self, valid: FeatureBatch, wanted: Profiles, references: Profiles) -> None:
        """Trees again, with validation rows and with their profiles as neighbours of others.

        Networks are not trained again: validation rows said when to stop.
        """
        if not self.boosters:
            self.look_at(references, self.space)
            return
        train, known = self._trained_on
        more = self._starts(valid, wanted, shrink=self.shrink)
        if known.passed is not None:
            wanted = replace(wanted, passed=self._missing)
        self.look_at(references, self.space)
        table = np.concatenate([self._columns(train, known), self._columns(valid, wanted)])
        targets = np.concatenate([self._seen[1], self._targets(wanted)])
        for boosters, start, other in zip(self.boosters, self._seen[2], more, strict=True):
            boosters.refit(table, targets - np.concatenate([start, other]))
        del self._seen, self._trained_on, self._missing

    def _apart(self, known: Profiles, wanted: Profiles, seed: int) -> Profiles:
        """Training rows that lie as far apart from references as validation rows do.

        Where stretches or whole chromosomes are missing, what training rows tell of neighbours next
        door would mislead. Each then passes over as many references as are missing around some
        validation row, drawn at random.
        """
        missing = self._missing[wanted.places.known]
        if not len(missing) or np.minimum(missing, _ALL_APART).min(axis=1).mean() < _APART:
            return known
        rng = np.random.default_rng([seed, 19])
        return replace(known, passed=missing[rng.integers(0, len(missing), len(known))])

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

    def _columns(self, batch: FeatureBatch, rows: Profiles) -> NDArray[np.float32]:
        """What trees are told, shape (n, columns)."""
        tables = [self._plain(rows)]
        if self.settings.cnn:
            tables.append(flat_sequence(batch, self.sequence))
        return stacked(tables)

    def _targets(self, rows: Profiles) -> NDArray[np.float64]:
        """Scores of what is known, from the base on."""
        space = self.space
        found = space.scores(space.gaussian.completed(rows) - space.base(rows))
        return found.astype(np.float64)

    def _starts(
        self, batch: FeatureBatch, rows: Profiles, *, trained: bool = False, shrink: float = 1.0
    ) -> list[NDArray[np.float64]]:
        """Scores from which trees start, of each kind of trees."""
        nothing = np.zeros((len(rows), self.space.axes.shape[1]))
        if trained:
            self._trained_on = (batch, rows)
        if self.networks is None:
            return [nothing]
        shown = self._rows(batch, rows)
        found = (self.networks.of_training if trained else self.networks.of)(shown).estimate
        return [found @ self.space.axes * shrink, nothing]

    def _first(self, batch: FeatureBatch, rows: Profiles) -> NDArray[np.float64]:
        """What networks alone add to the base."""
        if self.networks is None:
            return np.zeros(rows.value.shape)
        return self.networks.of(self._rows(batch, rows)).estimate

    def predict(self, batch: FeatureBatch, rows: Profiles) -> NDArray[np.float64]:
        """Every entry, shape (n, T)."""
        if not self.boosters:
            return self.space.base(rows) + self._first(batch, rows)
        table = self._columns(batch, rows)
        starts = self._starts(batch, rows, shrink=self.shrink)
        found = [s + b.predict(table) for s, b in zip(starts, self.boosters, strict=True)]
        return self._profiles(rows, found)

    def _profiles(self, rows: Profiles, scores: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        """The mean of several scores as profiles."""
        found: NDArray[np.float64] = (
            self.space.base(rows) + np.mean(scores, axis=0) @ self.space.axes.T
        )
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything fitted but the references."""
        found: dict[str, NDArray[Any]] = {"shrink": np.array([self.shrink])}
        if self.networks is not None:
            found |= prefixed(self.networks.arrays(), "network.")
        for number, boosters in enumerate(self.boosters):
            found |= prefixed(boosters.arrays(), f"trees.{number}.")
        return found

    def restore(self, arrays: Mapping[str, NDArray[Any]], layout: dict[str, Any] | None) -> None:
        """Take up what :meth:`arrays` gave; references are taken up before."""
        self.shrink = float(arrays["shrink"][0])
        if layout is not None:
            from learners.imputation.network import Sizes
            from learners.neural.plan import TrainingPlan

            own, weights = self.settings, part_of(arrays, "network.")
            sizes = Sizes(own.width, own.heads, own.layers, own.dropout)
            self.networks = NetworkFolds(sizes, TrainingPlan(), weights["patterns"], own.folds)
            self.networks.restore(weights, layout)
        if any(name.startswith("trees.") for name in arrays):
            for number in range(1 if layout is None else 2):
                self.boosters.append(Boosters(UNSEEN, 0, Budget(threads=1)))
                self.boosters[-1].restore(part_of(arrays, f"trees.{number}."))


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
