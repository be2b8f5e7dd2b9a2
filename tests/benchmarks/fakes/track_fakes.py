"""Learners of tracks to test the task with: plain arithmetic on the bases of each bin."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import numpy as np

from learners.base import LearnerInfo


class GcLine:
    """A line in the GC content of each bin, fitted track by track; keeps what it was handed."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_gc", inputs=frozenset({"long", "signal"}), summary="fake", multi_output=True,
        defaults={"slope": 1.0},
    )  # fmt: skip
    fits: ClassVar[list[dict[str, Any]]] = []

    def __init__(self, slope=1.0):
        self.slope = slope

    def fit(self, train, valid, *, seed, budget):
        self.fits.append({"train": train, "valid": valid})
        source = train.blocks["tracks"].source
        self.bin_bp, self.bins = source.bin_bp, source.shape[0]
        y, x = [], []
        for part in train.shards(8):
            y.append(part.values["tracks"].reshape(-1, source.shape[1]))
            x.append(self._gc(part.values["genome"]).ravel())
        y, x = np.concatenate(y), np.concatenate(x)
        self.lines = []
        for track in range(y.shape[1]):
            known = y[:, track] >= 0
            self.lines.append(np.polyfit(x[known], y[known, track], 1).tolist())

    def _gc(self, codes):
        margin = (codes.shape[1] - self.bins * self.bin_bp) // 2
        middle = codes[:, margin : codes.shape[1] - margin]
        is_gc = (middle == 1) | (middle == 2)
        return is_gc.reshape(len(codes), self.bins, self.bin_bp).mean(axis=2)

    def predict_tracks(self, batch):
        assert batch.targets is None
        assert batch.mask is None
        for part in batch.shards(5):
            assert (part.values["tracks"] == -1).all()
            gc = self._gc(part.values["genome"])
            rows = np.stack([a * self.slope * gc + b for a, b in self.lines], axis=2)
            yield part.index, rows.astype(np.float32)

    def predict(self, batch):
        out = np.empty((len(batch), len(self.lines)))
        for index, tracks in self.predict_tracks(batch):
            out[index] = tracks.mean(axis=1)
        return out

    def save(self, path):
        (path / "lines.json").write_text(json.dumps([self.bin_bp, self.bins, self.lines]))

    @classmethod
    def load(cls, path):
        one = cls()
        one.bin_bp, one.bins, one.lines = json.loads((path / "lines.json").read_text())
        return one


class Level(GcLine):
    """The mean of each track, everywhere."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_level", inputs=frozenset({"long", "signal"}), summary="fake", multi_output=True
    )

    def __init__(self):
        super().__init__(0.0)


class LeavesOut(GcLine):
    """Forgets the first window."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_leaves_out", inputs=frozenset({"long", "signal"}), summary="fake",
        multi_output=True,
    )  # fmt: skip

    def __init__(self):
        super().__init__()

    def predict_tracks(self, batch):
        for index, tracks in super().predict_tracks(batch):
            yield index[1:], tracks[1:]


class PromoterGc:
    """A line in the GC content of the 200 bases before the TSS, from long windows."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_promoter_gc", inputs=frozenset({"long"}), summary="fake"
    )
    layout: ClassVar[dict[str, Any]] = {}

    def fit(self, train, valid, *, seed, budget):
        from learners.layout import layout_of

        type(self).layout = layout_of(train)
        self.line = np.polyfit(self._gc(train), train.require_targets()[:, 0], 1).tolist()

    def _gc(self, batch):
        out = np.empty(len(batch))
        for part in batch.shards(16):
            (codes,) = part.values.values()
            middle = codes.shape[1] // 2
            out[part.index] = np.isin(codes[:, middle - 200 : middle], (1, 2)).mean(axis=1)
        return out

    def predict(self, batch):
        return np.polyval(self.line, self._gc(batch))[:, None]

    def save(self, path):
        (path / "line.json").write_text(json.dumps(self.line))

    @classmethod
    def load(cls, path):
        one = cls()
        one.line = json.loads((path / "line.json").read_text())
        return one
