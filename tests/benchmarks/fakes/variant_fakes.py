"""A learner on bases that a test can redo by hand: a line on how many G and C the windows hold."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np

from learners.base import LearnerInfo


class GcOfCodes:
    """log expression = a + b × (share of G and C); an IUPAC code counts by its bases."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="gc_of_codes", inputs=frozenset({"codes"}), summary="a line on GC", defaults={}
    )

    def _gc(self, batch):
        whole = batch.array(np.float64).reshape(len(batch), -1, 4)
        return whole[:, :, 1:3].sum(axis=(1, 2)) / whole.shape[1]

    def fit(self, train, valid, *, seed, budget):
        self.b, self.a = np.polyfit(self._gc(train), train.require_targets()[:, 0], 1)

    def predict(self, batch):
        return (self.a + self.b * self._gc(batch))[:, None]

    def save(self, path):
        (path / "line.json").write_text(json.dumps([self.a, self.b]))

    @classmethod
    def load(cls, path):
        made = cls()
        made.a, made.b = json.loads((path / "line.json").read_text())
        return made
