"""Learners that know the simulated grammar, or only the fold that they were trained in."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from featurestore.sample.grammar import Grammar
from learners.base import LearnerInfo


class _OfCodes:
    """Base of learners that read the two regions of a gene as codes."""

    def codes(self, batch: Any) -> tuple[np.ndarray, np.ndarray]:
        (block,) = batch.blocks.values()
        values = block.read()
        return values[:, 0], values[:, 1]

    def save(self, path):
        (path / "state.json").write_text(json.dumps(getattr(self, "state", [])))

    @classmethod
    def load(cls, path):
        made = cls()
        made.state = json.loads((path / "state.json").read_text())
        return made


class Oracle(_OfCodes):
    """Predicts what the generator says, mean over tissues."""

    info: ClassVar[LearnerInfo] = LearnerInfo("grammar_oracle", frozenset({"codes"}), "the truth")

    def fit(self, train, valid, *, seed, budget):
        self.state = []

    def predict(self, batch):
        return Grammar().score(*self.codes(batch)).mean(axis=1, keepdims=True)


class SawTheGrammar(_OfCodes):
    """Knows which features there are, learns how much each of them does."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        "saw_the_grammar", frozenset({"codes"}), "a ridge on them"
    )

    def _x(self, batch):
        x = Grammar().features(*self.codes(batch))
        return np.concatenate([np.ones((len(x), 1)), x], axis=1)

    def fit(self, train, valid, *, seed, budget):
        x, y = self._x(train), train.require_targets()
        self.state = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ y).tolist()

    def predict(self, batch):
        return self._x(batch) @ np.array(self.state)


class MeanOfFold:
    """One number: the mean label of its training side, another in each fold."""

    info: ClassVar[LearnerInfo] = LearnerInfo("mean_of_fold", frozenset({"none"}), "a constant")

    def fit(self, train, valid, *, seed, budget):
        self.mean = float(train.require_targets().mean())

    def predict(self, batch):
        return np.full((len(batch), 1), self.mean)

    def save(self, path):
        (path / "mean.json").write_text(json.dumps(self.mean))

    @classmethod
    def load(cls, path):
        made = cls()
        made.mean = json.loads((path / "mean.json").read_text())
        return made
