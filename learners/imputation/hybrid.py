"""The hybrid imputer: CNN over the promoter, transformer over neighbours and tissues, XGBoost.

After Brown, Dong & Truong, "Estimating genotype-tissue specific gene expression using hybrid deep
learning", Communications Biology 2026, doi:10.1038/s42003-026-10251-7. What of the paper is known
and what was chosen here: docs/imputation.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget, Kind, LearnerInfo
from learners.batch import FeatureBatch
from learners.compute import limited_threads
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.imputation.annotation import Annotation
from learners.imputation.boosters import part_of, prefixed
from learners.imputation.gaussian import Gaussian
from learners.imputation.imputer import known_arrays, known_from, read_from
from learners.imputation.neighbourhood import Places
from learners.imputation.partly import Partly, View
from learners.imputation.settings import HybridSettings
from learners.imputation.space import Space
from learners.imputation.table import (
    READ,
    Profiles,
    asked_of,
    known_of,
    merged,
    profiles_of,
    references_of,
    scenarios_of,
)
from learners.imputation.unseen import Unseen
from learners.layout import check_layout

_PIECE: Final = 4096
_INPUTS: Final[frozenset[Kind]] = frozenset({"profile", "codes", "bins", "tabular"})
_REFERENCE: Final = (
    "Brown, Dong & Truong, Communications Biology 2026, doi:10.1038/s42003-026-10251-7"
)
_DEFAULTS: Final[dict[str, Any]] = dict(vars(HybridSettings()))


class Hybrid:
    """CNN, transformer encoder and boosted trees; genes that show nothing, and genes that show some.

    Two parts, each fitted only where the task asks for it. *Nothing seen*: networks over the
    sequence and the neighbouring genes, trained on all families but those of an inner fold,
    estimate the left-out genes; boosted trees of principal scores of the profile start from that.
    *Some seen*: the Gaussian conditional of the tissues and genes with similar profiles, and
    boosted trees of each tissue on what these leave. Trees stop on the validation entries and are then fitted again with these; networks are
    not. ``held_out`` has the predictions of the validation rows before that.

    Parameters
    ----------
    cnn, transformer, xgboost, tissues, distance, orientation : bool
        Parts that may be switched off: convolutions over sequence, and what trees are told of it;
        the encoder over neighbours and tissues; the trees; correlations of tissues; distances to
        neighbours; their strands and sides.
    neighbours : int
        Genes looked at on the chromosome; 0 switches them off.
    patterns : int
        Principal axes of the tissues.
    width, layers, heads, dropout
        Of the transformer encoder.
    epochs, learning_rate, weight_decay, batch_size
        Of its training.
    folds : int
        Inner folds of the networks.
    rows : int
        Most rows that are learned from; of more a random part. All are references.
    tissue_tokens : bool
        Let the encoder see tissues as tokens for genes seen in part too: five times the time of
        such a fit, for nothing that could be measured.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="hybrid",
        inputs=_INPUTS,
        summary="Imputer: CNN on promoters, transformer on neighbours and tissues, XGBoost",
        reference=_REFERENCE,
        multi_output=True,
        requires=("torch", "xgboost"),
        defaults=_DEFAULTS,
    )

    def __init__(
        self,
        *,
        cnn: bool = True,
        transformer: bool = True,
        xgboost: bool = True,
        tissues: bool = True,
        distance: bool = True,
        orientation: bool = True,
        neighbours: int = 24,
        patterns: int = 8,
        width: int = 32,
        layers: int = 2,
        heads: int = 4,
        dropout: float = 0.2,
        epochs: int = 8,
        learning_rate: float = 2e-3,
        weight_decay: float = 0.05,
        batch_size: int = 256,
        folds: int = 2,
        rows: int = 60_000,
        tissue_tokens: bool = False,
    ) -> None:
        given = locals()
        self.parameters = {name: given[name] for name in _DEFAULTS}
        for name in ("patterns", "width", "layers", "heads", "epochs", "batch_size", "rows"):
            if given[name] < 1:
                raise InputError(f"hybrid: {name} {given[name]}; at least 1")
        if folds < 2 or neighbours < 0:
            raise InputError(
                f"hybrid: folds {folds}, at least 2; neighbours {neighbours}, at least 0"
            )
        if not (cnn or transformer or xgboost):
            raise InputError("hybrid: cnn, transformer and xgboost are all switched off")
        self._settings = HybridSettings(**self.parameters)
        self.held_out: NDArray[np.float64] | None = None
        self.learning_curve: list[dict[str, float]] = []
        self.learned: dict[str, Any] = {}
        self.unseen: Unseen | None = None
        self.partly: Partly | None = None
        self.space: Space
        self.references: Profiles
        self.annotation: Annotation
        self._layout: dict[str, Any] = {}
        self._bare = [0, 0]

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit the parts that are asked for, then again with the validation entries."""
        self._layout = read_from(train, self.info.name)
        check_layout(self._layout, valid)
        with limited_threads(budget):
            self._fit(train, valid, seed, budget)

    def _fit(self, train: FeatureBatch, valid: FeatureBatch, seed: int, budget: Budget) -> None:
        asked = scenarios_of(train, valid)
        references = references_of(train)
        both = merged(references, references_of(valid))
        train = _some(train, self._settings.rows, seed)
        known, rows = known_of(train), profiles_of(valid)
        wanted, there = asked_of(valid)
        view = View(rows, wanted.astype(np.float32), there)
        self.space = Space.of(known, self._settings)
        self.annotation = Annotation.of(train, valid)
        self.held_out = self.space.gaussian.given(rows)[0]
        some = np.any(rows.seen, axis=1)
        if "some" in asked:
            index = np.flatnonzero(some)
            self.partly = Partly(self._settings)
            self.partly.look_at(references, self.space)
            families = _families(train) | _families(valid)
            self.held_out[index] = self.partly.fit(known, view.take(index), families, seed=seed, budget=budget)  # fmt: skip
            self.partly.refit(merged(known, known_of(valid)), both)
        if "none" in asked or self.partly is None:
            index = np.flatnonzero(~some)
            part = view.take(index)
            bare = replace(part.shown, value=part.wanted, seen=part.asked)
            self.unseen = Unseen(self._settings, self._sequence(), self.annotation)
            self.unseen.look_at(references, self.space)
            self.held_out[index] = self.unseen.fit(
                train, known, valid.take(index), bare, every=both, seed=seed, budget=budget
            )
            self.unseen.refit(valid.take(index), bare, both)
        self.references = both
        self._tell()

    def _sequence(self) -> tuple[str, ...]:
        """Names of the sequence features."""
        return tuple(name for name in self._layout if name not in READ)

    def _tell(self) -> None:
        """What a run tells of the fit."""
        for name, part in self._parts().items():
            if part.networks is not None:
                self.learning_curve = part.networks.learning_curve
            rounds = [r for one in part.boosters for r in one.rounds]
            self.learned[name] = {"rounds": rounds}

    def _parts(self) -> dict[str, Unseen | Partly]:
        parts = {"unseen": self.unseen, "partly": self.partly}
        return {name: part for name, part in parts.items() if part is not None}

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Every entry of every row, shape (n, T), in log2(1 + x)."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self.space.gaussian.mean)))
        with limited_threads(Budget(threads=1)):
            for start in range(0, len(batch), _PIECE):
                index = np.arange(start, min(start + _PIECE, len(batch)), dtype=np.int64)
                piece = batch.take(index)
                out[index] = self._complete(piece, profiles_of(piece))
        return out

    def _complete(self, batch: FeatureBatch, rows: Profiles) -> NDArray[np.float64]:
        out = np.empty(rows.value.shape)
        some = np.any(rows.seen, axis=1)
        for seen in (False, True):
            index = np.flatnonzero(some == seen)
            if not len(index):
                continue
            part = rows.take(index)
            if seen:
                if self.partly is None:
                    self._bare[0] += len(index)
                    out[index] = self.space.gaussian.given(part)[0]
                else:
                    out[index] = self.partly.predict(part)
            elif self.unseen is None:
                self._bare[1] += len(index)
                out[index] = self.space.base(part)
            else:
                out[index] = self.unseen.predict(batch.take(index), part)
        return out

    @property
    def notes(self) -> list[str]:
        """What a run tells of rows that no part was fitted for."""
        partly, bare = self._bare
        told = []
        if partly:
            told.append(
                f"hybrid: {partly:,} rows are seen in part, which the fit was not asked for; they "
                "get what the Gaussian conditional gives"
            )
        if bare:
            told.append(
                f"hybrid: {bare:,} rows show nothing, which the fit was not asked for; they get "
                "tissue means"
            )
        return told

    def save(self, path: Path) -> None:
        """Write settings as JSON; weights, trees (UBJSON) and references as safetensors."""
        if not self._parts():
            raise ValueError(f"{self.info.name} has not been fitted or loaded")
        gaussian = self.space.gaussian
        arrays = {
            "mean": gaussian.mean, "covariance": gaussian.covariance, "axes": self.space.axes,
        }  # fmt: skip
        arrays |= prefixed(known_arrays(self.references), "references.")
        arrays |= prefixed(vars(self.annotation.places), "annotation.")
        layouts = {}
        for name, part in self._parts().items():
            arrays |= prefixed(part.arrays(), f"{name}.")
            layouts[name] = None if part.networks is None else part.networks.layout
        config = {
            "learner": self.info.name, "parameters": self.parameters, "layout": self._layout,
            "networks": layouts, "learned": self.learned,
        }  # fmt: skip
        save_state(path, config, arrays)

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote; predicts on the CPU."""
        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        given = {name: config["parameters"][name] for name in cls.info.defaults}
        learner = cls(**given)
        learner._layout, learner.learned = config["layout"], config["learned"]
        gaussian = Gaussian(arrays["mean"], arrays["covariance"])
        learner.space = Space(gaussian, arrays["axes"])
        learner.annotation = Annotation(Places(**part_of(arrays, "annotation.")))
        learner.references = known_from(part_of(arrays, "references."))
        for name, layout in config["networks"].items():
            own = part_of(arrays, f"{name}.")
            part: Unseen | Partly
            if name == "unseen":
                part = learner.unseen = Unseen(
                    learner._settings, learner._sequence(), learner.annotation
                )
            else:
                part = learner.partly = Partly(learner._settings)
            part.look_at(learner.references, learner.space)
            part.restore(own, layout)
        return learner


def _some(batch: FeatureBatch, most: int, seed: int) -> FeatureBatch:
    """At most so many rows of a batch, in its order."""
    if len(batch) <= most:
        return batch
    rng = np.random.default_rng([seed, 3])
    return batch.take(np.sort(rng.choice(len(batch), most, replace=False)).astype(np.int64))


def _families(batch: FeatureBatch) -> dict[str, str]:
    names = np.char.add(np.char.add(batch.species, "\t"), batch.gene)
    return dict(zip(names.tolist(), batch.family.tolist(), strict=True))
