"""A learner of learners: a non-negative sum of members, weighed on what they had not seen.

Wolpert, Neural Networks 5:241, 1992; the constraint after Breiman, Machine Learning 24:49, 1996.
Every member is fitted on all training families but a tenth or so of them, in turn, and predicts
those; the weights are a least-squares fit of the labels on these predictions, none below zero.
No family stands on both sides of an inner fold. The members are then fitted on all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.layout import accepts, check_layout, layout_of
from learners.members import Member, parse_members
from learners.per_target import PerTarget
from learners.registry import get_learner, make_learner
from learners.targets import observed
from learners.weighing import weigh


class Stack:
    """Members on features of their own, and one non-negative weight for each.

    Parameters
    ----------
    of : str
        ``NAME[@FEATURES],…``, or a JSON list of such names and of objects with ``learner``,
        ``features`` and ``params``. A member that names no features takes all of its kinds.
        Members are registered learners: what a saved stack is made of is loaded by name.
    folds : int
        Inner folds, of whole families, that members are left out of in turn.
    """

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="stack",
        inputs=frozenset({"tabular", "bins", "codes", "long"}),
        summary="Other learners together, weighed on families that they had not seen",
        reference="Wolpert, Neural Networks 5:241, 1992; Breiman, Machine Learning 24:49, 1996",
        multi_output=True,
        requires=("scipy", "sklearn"),
        defaults={"of": "ridge,knn", "folds": 5},
    )

    def __init__(self, *, of: str = "ridge,knn", folds: int = 5) -> None:
        if folds < 2:
            raise InputError(f"stack: folds={folds}, at least 2 are needed")
        self.of, self._folds = of, folds
        self.members = parse_members(of)
        for member in self.members:
            if ":" in member.learner:
                raise InputError(
                    f"stack: {member.learner} must be registered under a name (entry point "
                    "meristem.learners): a saved stack never imports what a file names"
                )
            if get_learner(member.learner) is type(self):
                raise InputError("stack: a stack of stacks is not taken; name all their members")
            make_learner(member.learner, member.params)
        self._layout: dict[str, Any] = {}
        self._fitted: list[Any] = []
        self.weight = np.zeros((0, 0))
        """Weight of each member, shape (members, t), after the fit."""
        self._intercept = np.zeros(0)
        self.learned: dict[str, Any] = {}
        """Weights, and the inner error of each member and of their sum: told in ``run.json``."""

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Weigh the members on inner folds of the training rows, then fit them on all.

        ``valid`` is for the members: their early stopping and their refit.
        """
        self._layout = layout_of(train)
        check_layout(self._layout, valid)
        budget = self._share(budget)
        inner = inner_folds(train, self._folds, seed)
        unseen = np.stack(
            [self._unseen(m, train, valid, inner, seed, budget) for m in self.members]
        )
        self.weight, self._intercept = weigh(unseen, train.require_targets(), observed(train))
        self._fitted = []
        for member in self.members:
            learner = self._make(member, train)
            here, there = _seen_by(member, train), _seen_by(member, valid)
            learner.fit(here, there, seed=seed, budget=budget)
            self._fitted.append(learner)
        self.learned = self._tell(unseen, train)

    def _share(self, budget: Budget) -> Budget:
        """What each fit of a member may use.

        They share the folder of checkpoints, where each fit is told by its genes, features and
        settings: a stack that was killed goes on within the fit that was under way, and fits of
        networks that were over are not made again.
        """
        seconds = budget.seconds
        if seconds is not None:
            seconds /= len(self.members) * (self._folds + 1)
        return replace(budget, seconds=seconds, on_step=None)

    def _make(self, member: Member, batch: FeatureBatch) -> Any:
        """A fresh member; one per target where there are several and it predicts only one."""
        count = batch.require_targets().shape[1]

        def make() -> Any:
            return make_learner(member.learner, member.params)

        if count == 1 or get_learner(member.learner).info.multi_output:
            return make()
        return PerTarget([make() for _ in range(count)])

    def _unseen(
        self,
        member: Member,
        train: FeatureBatch,
        valid: FeatureBatch,
        inner: NDArray[np.int64],
        seed: int,
        budget: Budget,
    ) -> NDArray[np.float64]:
        """Predictions of a member for each training row, by a fit without its family."""
        rows, stops = _seen_by(member, train), _seen_by(member, valid)
        out = np.empty(train.require_targets().shape)
        for fold in range(inner.max() + 1):
            left_out = np.flatnonzero(inner == fold).astype(np.int64)
            kept = np.flatnonzero(inner != fold).astype(np.int64)
            learner = self._make(member, train)
            learner.fit(rows.take(kept), stops, seed=seed, budget=budget)
            out[left_out] = learner.predict(rows.take(left_out).without_targets())
        return out

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Predict, shape (n, t): the weighted sum of the members."""
        check_layout(self._layout, batch)
        out = np.tile(self._intercept, (len(batch), 1))
        for member, learner, weight in zip(self.members, self._fitted, self.weight, strict=True):
            if weight.any():
                out += weight * learner.predict(_seen_by(member, batch))
        return out

    def _tell(self, unseen: NDArray[np.float64], train: FeatureBatch) -> dict[str, Any]:
        labels, mask = train.require_targets(), observed(train)
        together = self._intercept + np.einsum("mnt,mt->nt", unseen, self.weight)
        return {
            "intercept": self._intercept.tolist(),
            "members": [
                {"member": str(member), "weight": weight.tolist(), "rmse": _rmse(labels, one, mask)}
                for member, weight, one in zip(self.members, self.weight, unseen, strict=True)
            ],
            "rmse": _rmse(labels, together, mask),
        }

    def save(self, path: Path) -> None:
        """Write the weights, and each member into a folder of its own."""
        config = {
            "learner": self.info.name,
            "parameters": {"of": self.of, "folds": self._folds},
            "layout": self._layout,
            "per_target": [len(x) if isinstance(x, PerTarget) else 0 for x in self._fitted],
            "learned": self.learned,
        }
        save_state(path, config, {"weight": self.weight, "intercept": self._intercept})
        for place, learner in enumerate(self._fitted):
            folder = path / f"member_{place}"
            folder.mkdir()
            learner.save(folder)

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Stack:
        """Read what :meth:`save` wrote; members are loaded by their registered learners."""
        config, arrays = load_config(path, cls.info.name), load_arrays(path)
        stack = cls(**config["parameters"])
        stack._layout, stack.learned = config["layout"], config["learned"]
        stack.weight, stack._intercept = arrays["weight"], arrays["intercept"]
        if stack.weight.shape != (len(stack.members), len(stack._intercept)):
            raise ValueError(f"weights of shape {stack.weight.shape}")
        counts = config["per_target"]
        for place, (member, count) in enumerate(zip(stack.members, counts, strict=True)):
            learner, folder = get_learner(member.learner), path / f"member_{place}"
            stack._fitted.append(
                PerTarget.load(learner, folder, count) if count else learner.load(folder)
            )
        return stack


def inner_folds(batch: FeatureBatch, count: int, seed: int) -> NDArray[np.int64]:
    """A fold for each row, whole families in each, of about equal size; shape (n,).

    Fewer folds where there are fewer families.

    Raises
    ------
    InputError
        If all rows are of one family.
    """
    names, code = np.unique(batch.family, return_inverse=True)
    if len(names) < 2:
        raise InputError(
            "stack: its members are weighed on families that they have not seen, and all "
            f"{len(batch)} training genes are of one family"
        )
    sizes = np.bincount(code)
    filled = np.zeros(min(count, len(names)), np.int64)
    fold_of = np.empty(len(names), np.int64)
    for family in np.random.default_rng(seed).permutation(len(names)):
        fold_of[family] = filled.argmin()
        filled[fold_of[family]] += sizes[family]
    return fold_of[code]


def _seen_by(member: Member, batch: FeatureBatch) -> FeatureBatch:
    """The same rows with the features that a member takes."""
    info = get_learner(member.learner).info
    if member.features:
        wanted: Sequence[str] = member.features.split("+")
        if lacking := [name for name in wanted if name not in batch.blocks]:
            raise InputError(
                f"stack: {member} needs {', '.join(lacking)}, this batch has "
                f"{', '.join(batch.blocks) or 'no features'}"
            )
    else:
        wanted = [name for name, block in batch.blocks.items() if accepts(info, block.kind)]
    return replace(batch, blocks={name: batch.blocks[name] for name in wanted})


def _rmse(
    labels: NDArray[np.float64], predicted: NDArray[np.float64], mask: NDArray[np.bool_]
) -> float:
    error = np.where(mask, np.where(mask, labels, 0.0) - predicted, 0.0)
    return float(np.sqrt((error**2).sum(axis=0) / np.maximum(mask.sum(axis=0), 1)).mean())
