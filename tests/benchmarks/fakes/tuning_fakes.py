"""Learners that can be tuned, and that tell what they were given."""

from __future__ import annotations

import os
import signal
from typing import Any, ClassVar

import numpy as np
from bench_fakes import Linear, fit_count

from learners.base import LearnerInfo
from learners.search import Choice, Range


def _info(name: str) -> LearnerInfo:
    return LearnerInfo(
        name=name, inputs=Linear.info.inputs, summary="ridge with steps",
        defaults={"penalty": 1.0, "flip": False},
    )  # fmt: skip


class Tunable(Linear):
    """Ridge whose penalty is to be found; ``flip`` turns predictions round, and is bad."""

    info: ClassVar[LearnerInfo] = _info("tunable")
    search_space: ClassVar[dict[str, Any]] = {
        "penalty": Range(1e-2, 1e4, log=True), "flip": Choice([False, True]),
    }  # fmt: skip
    steps: ClassVar[int] = 6
    ended: ClassVar[list[int]] = []

    def __init__(self, penalty: float = 1.0, flip: bool = False) -> None:
        super().__init__(penalty)
        self.flip = flip

    def fit(self, train, valid, *, seed, budget):
        super().fit(train, valid, seed=seed, budget=budget)
        error = float(np.sqrt(((self._raw(valid) - valid.require_targets()) ** 2).mean()))
        for step in range(1, self.steps + 1):
            if budget.on_step is not None and budget.on_step(step, error * (1 + 1 / step)):
                type(self).ended.append(step)
                return

    def _raw(self, batch):
        out = self._design(batch) @ self.weight
        return -out if self.flip else out

    def predict(self, batch):
        return self._raw(batch)


class DiesInTrial(Tunable):
    """Kills its own process in the fit whose number BENCH_FAKES_DIE says."""

    info: ClassVar[LearnerInfo] = _info("dies_in_trial")

    def fit(self, train, valid, *, seed, budget):
        if fit_count() == int(os.environ.get("BENCH_FAKES_DIE") or -1):
            os.kill(os.getpid(), signal.SIGKILL)
        super().fit(train, valid, seed=seed, budget=budget)


class FailsFlipped(Tunable):
    """Raises where predictions are turned round."""

    info: ClassVar[LearnerInfo] = _info("fails_flipped")

    def fit(self, train, valid, *, seed, budget):
        if self.flip:
            raise RuntimeError("a flipped fit is no fit")
        super().fit(train, valid, seed=seed, budget=budget)


class AlwaysFails(Tunable):
    info: ClassVar[LearnerInfo] = _info("always_fails")

    def fit(self, train, valid, *, seed, budget):
        raise RuntimeError("out of luck")
