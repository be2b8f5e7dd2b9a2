"""Imputers to test the task with: what a learner is handed is kept, predictions are plain."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from learners.base import LearnerInfo
from learners.search import Range


class TissueMean:
    """Means of tissues over the training entries; keeps every batch it sees."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_tissue_mean", inputs=frozenset({"profile"}), summary="fake", multi_output=True
    )
    fits: ClassVar[list[dict[str, Any]]] = []

    def fit(self, train, valid, *, seed, budget):
        y, known = train.require_targets(), train.mask
        assert np.isfinite(y[known]).all()
        assert np.isnan(y[~known]).all()
        count = known.sum(axis=0)
        self.mean = np.where(known, y, 0).sum(axis=0) / np.maximum(count, 1)
        self.held_out = np.tile(self.mean, (len(valid), 1))
        self.asked = train.blocks["profile"].source.asked
        one = {"train": train, "valid": valid, "asked": self.asked, "tested": []}
        self.fits.append(one)
        self._seen = one

    def predict(self, batch):
        assert batch.targets is None
        if hasattr(self, "_seen"):
            self._seen["tested"].append(batch)
        return np.tile(self.mean, (len(batch), 1))

    def save(self, path):
        (path / "mean.json").write_text(json.dumps(self.mean.tolist()))

    @classmethod
    def load(cls, path):
        one = cls()
        one.mean = np.array(json.loads((path / "mean.json").read_text()))
        return one


class FailsOnEntries(TissueMean):
    """Fails where entries are hidden at random."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_fails", inputs=frozenset({"profile"}), summary="fake", multi_output=True
    )

    def fit(self, train, valid, *, seed, budget):
        super().fit(train, valid, seed=seed, budget=budget)
        if len(train) == len(set(valid.gene) | set(train.gene)) and self.asked == {"some"}:
            raise RuntimeError("this one fails on entries")


class Tunable(TissueMean):
    """Has something to tune."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_tunable", inputs=frozenset({"profile"}), summary="fake", multi_output=True,
        defaults={"penalty": 1.0},
    )  # fmt: skip

    def __init__(self, penalty=1.0):
        self.penalty = penalty

    search_space: ClassVar[dict[str, Any]] = {"penalty": Range(0.1, 10.0)}


class Worse(TissueMean):
    """As the mean, and off."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_worse", inputs=frozenset({"profile"}), summary="fake", multi_output=True
    )

    def predict(self, batch):
        return super().predict(batch) + 4.0


class Fails(TissueMean):
    """Always fails."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_always_fails", inputs=frozenset({"profile"}), summary="fake", multi_output=True
    )

    def fit(self, train, valid, *, seed, budget):
        raise RuntimeError("always")
