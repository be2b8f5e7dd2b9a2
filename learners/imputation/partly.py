"""The part of the hybrid for genes seen in some tissues: the others follow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget
from learners.batch import FeatureBatch
from learners.compute import threads_of
from learners.imputation.boosters import Boosters, part_of, prefixed, stacked
from learners.imputation.folds import NetworkFolds, made_batch
from learners.imputation.settings import PARTLY, SIMILAR, TOKENS_PARTLY, HybridSettings
from learners.imputation.space import Space, Surroundings
from learners.imputation.table import Profiles
from learners.imputation.tissue_features import TissueTable
from learners.imputation.tissues import ExpressionNeighbours

_VIEWS: Final = 2
"""Masks drawn for each training gene."""

_GROUPS: Final = 6
"""Where entries are missing at random: parts of a row's entries hidden in turn from the network."""


@dataclass(frozen=True)
class View:
    """Rows as they might be seen, and what is then to be told.

    Parameters
    ----------
    shown : Profiles
        n rows.
    wanted : float32 array, shape (n, T)
    asked : bool array, shape (n, T)
        Entries that are known. One that is shown too is asked as if it were not.
    """

    shown: Profiles
    wanted: NDArray[np.float32]
    asked: NDArray[np.bool_]

    @classmethod
    def of(cls, known: Profiles, row: NDArray[np.int64], shown: NDArray[np.bool_]) -> View:
        """Some rows that show some of what is known, and are asked for the rest."""
        whole = known.take(row)
        return cls(whole.showing(shown), whole.value, whole.seen & ~shown)

    def take(self, index: NDArray[np.int64]) -> View:
        """Some of the rows."""
        return View(self.shown.take(index), self.wanted[index], self.asked[index])


def views_of(known: Profiles, masks: NDArray[np.bool_] | None, seed: int) -> View:
    """Training examples that look like the rows to come.

    Parameters
    ----------
    known : Profiles
    masks : bool array, shape (m, T), or None
        What rows to come show of all tissues: each training row is given that of some of them,
        drawn at random. None where entries are missing at random from all rows: each known entry
        is then told from all others of its row.
    seed : int
    """
    if masks is None or not len(masks):
        return View(known, known.value, known.seen)
    rng = np.random.default_rng([seed, 7])
    row = np.tile(np.arange(len(known), dtype=np.int64), _VIEWS)
    shown = known.seen[row] & masks[rng.integers(0, len(masks), len(row))]
    kept = np.any(shown, axis=1) & np.any(known.seen[row] & ~shown, axis=1)
    return View.of(known, row[kept], shown[kept])


class Partly:
    """The Gaussian conditional, genes with similar profiles, and trees for each tissue.

    A network over tokens of the tissues and of the nearest genes may be added to what trees are
    told; it was found to add nothing (docs/imputation.md).

    Parameters
    ----------
    settings : HybridSettings
    """

    def __init__(self, settings: HybridSettings) -> None:
        self.settings = settings
        self.networks: NetworkFolds | None = None
        self.boosters: list[Boosters] = []
        self.similar: ExpressionNeighbours | None = None
        self.space: Space
        self.around: Surroundings
        self._masks: NDArray[np.bool_] | None = None
        self._families: Mapping[str, str] = {}
        self._seed = 0
        self._threads = 1

    def look_at(self, references: Profiles, space: Space) -> None:
        """Take up the references."""
        self.space, self.around = space, Surroundings(references, space, self.settings)

    def fit(
        self, known: Profiles, view: View, families: Mapping[str, str], *, seed: int, budget: Budget
    ) -> NDArray[np.float64]:  # fmt: skip
        """Fit; estimates of the rows of ``view``, shape (m, T).

        Parameters
        ----------
        known : Profiles
            Of the training rows.
        view : View
            Validation rows: what they show, and what is asked.
        families : mapping
            The family of each gene.
        """
        self._seed, self._families = seed, families
        # Rows to come that were trained on miss entries; others miss what validation rows miss.
        again = not len(view.shown) or bool(np.isin(view.shown.gene, known.gene).mean() > 0.5)
        self._masks = None if again else view.shown.seen
        self._compare(known)
        if self.settings.tokens_of_tissues:
            self._fit_networks(known, view, budget)
        if not self.settings.xgboost:
            return self._first(view.shown)
        examples = views_of(known, self._masks, seed)
        facts, held = self._facts(examples, known), self._facts(view)
        out = held.table.given.copy()
        every = np.arange(len(out), dtype=np.int64)
        alone = replace(budget, threads=1)
        self._threads = threads_of(budget)
        self.boosters = [Boosters(PARTLY, seed + t, alone) for t in range(known.tissues)]

        def told(tissue: int) -> tuple[NDArray[Any], ...] | None:
            rows = np.flatnonzero(examples.asked[:, tissue])
            stop = np.flatnonzero(view.asked[:, tissue])
            if not len(rows):
                return None
            return (
                facts.columns(tissue, rows), facts.residual(examples, tissue, rows),
                held.columns(tissue, stop), held.residual(view, tissue, stop),
            )  # fmt: skip

        self._at_once(told, lambda boosters, tables: boosters.search(*tables))
        for tissue, boosters in enumerate(self.boosters):
            if boosters.models:
                out[:, tissue] += boosters.predict(held.columns(tissue, every))[:, 0]
        return out

    def _at_once(
        self,
        told: Callable[[int], tuple[NDArray[Any], ...] | None],
        grow: Callable[[Boosters, tuple[NDArray[Any], ...]], object],
    ) -> None:
        """Grow the trees of as many tissues at once as there are threads.

        Those of one tissue are grown no faster by two threads than by one. Tables are made here, one
        after the other.
        """
        tissues = range(len(self.boosters))
        with ThreadPoolExecutor(self._threads) as pool:
            for first in tissues[:: self._threads]:
                some = [(t, told(t)) for t in tissues[first : first + self._threads]]
                jobs = [pool.submit(grow, self.boosters[t], x) for t, x in some if x is not None]
                for job in jobs:
                    job.result()

    def refit(self, known: Profiles, references: Profiles) -> None:
        """Trees again, on training and validation profiles made one; networks are not."""
        self.look_at(references, self.space)
        self._compare(known)
        if not self.boosters:
            return
        examples = views_of(known, self._masks, self._seed)
        facts = self._facts(examples, known)

        def told(tissue: int) -> tuple[NDArray[Any], ...] | None:
            rows = np.flatnonzero(examples.asked[:, tissue])
            if not self.boosters[tissue].rounds:
                return None
            return facts.columns(tissue, rows), facts.residual(examples, tissue, rows)

        self._at_once(told, lambda boosters, tables: boosters.refit(*tables))

    def _compare(self, known: Profiles) -> None:
        """Genes to compare profiles with, where rows are masked as wholes.

        Where single entries are missing the closed form of the Gaussian serves all of them at
        once; similar genes would have to be found anew for each.
        """
        if self._masks is not None and self.settings.tissues:
            self.similar = ExpressionNeighbours()
            self.similar.take_up(known)

    def _facts(self, view: View, known: Profiles | None = None) -> Facts:
        """What trees are told; of training rows by networks that have not seen them.

        Parameters
        ----------
        view : View
        known : Profiles, optional
            Of the rows of ``view`` where these are training rows.
        """
        table = TissueTable.of(view.shown, self.space.gaussian)
        more: list[NDArray[Any]] = []
        if self.similar is not None:
            tried = [{"neighbours": k} for k in SIMILAR]
            found = self.similar.estimate(view.shown, tried)
            more += [np.where(np.isnan(one), 0.0, one - table.given) for one in found]
        if (networks := self.networks) is not None:
            if known is None:
                more.append(networks.of(self._rows(view)).estimate)
            elif self._masks is None:
                more.append(self._hidden_in_turn(networks, known))
            else:
                more.append(networks.of_training(self._rows(view)).estimate)
        return Facts(table, np.stack(more).astype(np.float32) if more else None)

    def _hidden_in_turn(self, networks: NetworkFolds, known: Profiles) -> NDArray[np.float64]:
        """Of each known entry, what networks say with it and some others of its row hidden."""
        group = np.random.default_rng([self._seed, 17]).integers(0, _GROUPS, known.seen.shape)
        every = np.arange(len(known), dtype=np.int64)
        out = np.zeros(known.seen.shape)
        for hidden in range(_GROUPS):
            view = View.of(known, every, known.seen & (group != hidden))
            found = networks.of_training(self._rows(view)).estimate
            out = np.where(group == hidden, found, out)
        return out

    def _fit_networks(self, known: Profiles, view: View, budget: Budget) -> None:
        from learners.imputation.network import Sizes
        from learners.neural.plan import TrainingPlan

        own = self.settings
        plan = TrainingPlan(
            epochs=own.epochs, batch_size=own.batch_size, learning_rate=own.learning_rate,
            weight_decay=own.weight_decay, patience=3, average=2,
        )  # fmt: skip
        sizes = Sizes(own.width, own.heads, own.layers, own.dropout)
        self.networks = NetworkFolds(sizes, plan, self.space.patterns, own.folds)
        examples = views_of(known, self._masks, self._seed)
        if self._masks is None:
            rng = np.random.default_rng([self._seed, 13])
            row = np.tile(np.arange(len(known), dtype=np.int64), _VIEWS)
            hidden = rng.random((len(row), known.tissues)) < 1 / _GROUPS
            examples = View.of(known, row, known.seen[row] & ~hidden)
        self.networks.fit(
            self._rows(examples, targets=True), self._rows(view, targets=True),
            seed=self._seed, budget=budget,
        )  # fmt: skip

    def _rows(self, view: View, *, targets: bool = False) -> FeatureBatch:
        """What the network is shown; its targets are what the Gaussian conditional leaves."""
        rows, gaussian = view.shown, self.space.gaussian
        given, deviation = gaussian.given(rows)
        spread = np.sqrt(np.diag(gaussian.covariance))
        off = np.where(rows.seen, rows.value - gaussian.mean, 0.0)
        tissue = [off / spread, rows.seen, (given - gaussian.mean) / spread, deviation / spread]
        made = {"tissue": np.stack(tissue, axis=2).astype(np.float32)}
        if self.settings.neighbours:
            made["near"] = self.around.tokens(rows, TOKENS_PARTLY)
        family = np.array([self._families.get(gene, gene) for gene in rows.gene.tolist()])
        left = (view.wanted - given) if targets else None
        return made_batch(rows.gene, family, made, left, view.asked if targets else None)

    def _first(self, rows: Profiles) -> NDArray[np.float64]:
        """Without trees."""
        given = self.space.gaussian.given(rows)[0]
        if self.networks is None:
            return given
        view = View(rows, rows.value, rows.seen)
        return given + self.networks.of(self._rows(view)).estimate

    def predict(self, rows: Profiles) -> NDArray[np.float64]:
        """Every entry, shape (n, T)."""
        if not self.boosters:
            return self._first(rows)
        every = np.arange(len(rows), dtype=np.int64)
        facts = self._facts(View(rows, rows.value, rows.seen))
        out = facts.table.given.copy()
        for tissue, boosters in enumerate(self.boosters):
            if boosters.models:
                out[:, tissue] += boosters.predict(facts.columns(tissue, every))[:, 0]
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything fitted but the references."""
        found: dict[str, NDArray[Any]] = {}
        if self.networks is not None:
            found |= prefixed(self.networks.arrays(), "network.")
        if self.similar is not None:
            found |= prefixed(self.similar.arrays(), "similar.")
        for tissue, boosters in enumerate(self.boosters):
            found |= prefixed(boosters.arrays(), f"tissue.{tissue}.")
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
        if similar := part_of(arrays, "similar."):
            self.similar = ExpressionNeighbours()
            self.similar.restore(similar)
        if any(name.startswith("tissue.") for name in arrays):
            for tissue in range(len(self.space.gaussian.mean)):
                boosters = Boosters(PARTLY, 0, Budget(threads=1))
                boosters.restore(part_of(arrays, f"tissue.{tissue}."))
                self.boosters.append(boosters)


@dataclass(frozen=True)
class Facts:
    """What trees are told of the rows of a view.

    Parameters
    ----------
    table : TissueTable
    further : float32 array, shape (kinds, n, T), or None
        What similar genes and networks make of each tissue, less the Gaussian conditional.
    """

    table: TissueTable
    further: NDArray[np.float32] | None

    def columns(self, tissue: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """The table of one tissue."""
        parts: list[NDArray[Any]] = [self.table.columns(tissue, rows)]
        if self.further is not None:
            parts.append(self.further[:, rows, tissue].T)
        return stacked(parts)

    def residual(
        self, view: View, tissue: int, rows: NDArray[np.int64]
    ) -> NDArray[np.float64]:  # fmt: skip
        """What is left to the trees, shape (len(rows), 1)."""
        left = view.wanted[rows, tissue] - self.table.given[rows, tissue]
        return np.asarray(left, np.float64)[:, None]
