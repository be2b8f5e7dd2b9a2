"""The learner interface. A learner sees feature batches, never a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from learners.batch import FeatureBatch

Kind = Literal["tabular", "bins", "codes", "long", "signal", "profile", "none"]
"""What a learner can take. ``none``: it looks at no feature (controls on species, family)."""


@dataclass(frozen=True)
class LearnerInfo:
    """What a registry shows of a learner without importing what the learner needs.

    Parameters
    ----------
    name : str
    inputs : frozenset of Kind
        Kinds of feature it takes. ``tabular`` learners are given ``bins`` flattened.
    summary : str
        One line for the list.
    reference : str
        Paper or documentation that it comes from.
    needs_gpu, multi_output : bool
    control : bool
        True for the controls (baselines that know no sequence).
    requires : tuple of str
        Importable modules it needs; the list says why a learner is unavailable.
    defaults : mapping
        Constructor parameters and their default values; what ``--param`` may set.
    deterministic : str
        ``"exact"`` or ``"close"``: what same seed, same data promises on CPU.
    distributed : bool
        Whether one fit can be spread over the workers of ``Budget.scheduler``.
    """

    name: str
    inputs: frozenset[Kind]
    summary: str
    reference: str = ""
    needs_gpu: bool = False
    multi_output: bool = False
    control: bool = False
    requires: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    deterministic: Literal["exact", "close"] = "exact"
    distributed: bool = False


@dataclass(frozen=True)
class Budget:
    """What a fit may use. None leaves it to the learner.

    ``rounds`` counts boosting rounds or epochs; ``memory`` is in bytes. ``scheduler`` is the
    address of a Dask scheduler: a learner whose info says ``distributed`` spreads each fit over
    its ``workers`` (None: all there are).

    ``checkpoint`` is a folder of this very fit: a learner that trains by epochs leaves there what
    it needs to go on after a kill, and takes up what it finds. ``on_step`` is told the step and
    the validation error after each, and ends the fit by saying True; ``say`` is given lines to
    show. Neither of the three changes what a fit gives, but for a fit that ``on_step`` ends, and
    the two callables stay in their process: a pickled budget lacks them.
    """

    seconds: float | None = None
    rounds: int | None = None
    threads: int | None = None
    device: str = "cpu"
    memory: int | None = None
    scheduler: str | None = None
    workers: int | None = None
    checkpoint: Path | None = None
    on_step: Callable[[int, float], bool] | None = field(default=None, compare=False)
    say: Callable[[str], None] | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        """What travels to other processes."""
        return {**self.__dict__, "on_step": None, "say": None}


@runtime_checkable
class Learner(Protocol):
    """Learns targets from feature batches.

    A class with a class attribute ``info`` and a constructor that takes the parameters named
    in ``info.defaults`` by keyword. After ``fit`` a learner may carry ``learning_curve``: a
    list of ``{"step": int, "train": float, "valid": float}``, drawn in the report.
    """

    info: ClassVar[LearnerInfo]

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Fit on ``train``; ``valid`` is for early stopping and tuning.

        A learner whose stopping point is a number (rounds, penalty) finds it on ``valid``
        and refits on both.
        """

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t), in the order of the batch."""
        ...

    def save(self, path: Path) -> None:
        """Write into the folder ``path`` (exists): safetensors, UBJSON, text, JSON — no pickle."""

    @classmethod
    def load(cls, path: Path) -> Learner:
        """Read what :meth:`save` wrote; nothing in the folder is ever executed."""
        ...
