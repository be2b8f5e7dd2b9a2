"""The task interface: between the store, which it reads, and the runner, which fits and times."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import Features
from benchmarks.splits.artefact import AlignedSplit, Sides
from learners.base import LearnerInfo
from learners.batch import FeatureBatch

Predict = Callable[[FeatureBatch], NDArray[np.float64]]
"""Predict of a fitted learner, shape (n, t), checked for shape and finiteness by the runner."""


class Folding(Protocol):
    """The folds of a run: by the sides of its split, or as a task says."""

    @property
    def folds(self) -> Sequence[int]:
        """Numbers of the folds, ascending."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What is to be told of them."""
        ...

    def identity(self) -> dict[str, Any]:
        """What the folds add to the identity of the run."""
        ...

    def sides(self, fold: int) -> Sides:
        """Rows of the genes that a fold learns from, validates on and tests."""
        ...

    def told(self, fold: int) -> list[str]:
        """What is to be told of one fold."""
        ...

    def batches(self, fold: int) -> tuple[FeatureBatch, FeatureBatch]:
        """What is learned from and validated on."""
        ...

    def predict(self, fold: int, learner: Any, predict: Predict) -> pd.DataFrame:
        """Predictions under test, by the fitted learner; ``predict`` checks what it gives."""
        ...

    def facts(self, fold: int) -> dict[str, Any]:
        """What is to be kept of a fold that was predicted, beside its predictions; plain JSON.

        ``notes`` in it join those of the fold.
        """
        ...

    def save(self, folder: Path) -> None:
        """Write what belongs beside the run."""
        ...


@runtime_checkable
class FoldingOfSums(Protocol):
    """Folds of which more is kept than predictions of genes: too many values to keep one by one."""

    def sums(self, fold: int) -> pd.DataFrame:
        """Sums over what was predicted in a fold; they stand in ``sums.parquet`` of the run."""
        ...


@runtime_checkable
class TaskOfSums(Protocol):
    """A task that scores the sums of :class:`FoldingOfSums`."""

    def evaluate_sums(self, sums: pd.DataFrame, *, bootstrap: int, seed: int) -> pd.DataFrame:
        """Metrics that join those of :meth:`Task.evaluate`."""
        ...


@dataclass(frozen=True)
class TaskData:
    """What a task makes of a store, for one feature expression.

    Parameters
    ----------
    batch : FeatureBatch
        Every gene of the species in the order of ``genes``, with targets and mask.
    genes : DataFrame
        From :func:`benchmarks.inputs.genes.gene_frame`.
    scored : bool array, shape (gene,)
        True where a gene may be learned from and scored.
    reason : list of str, length gene
        Why not; "" where it may.
    unit : str
        Unit of the targets.
    notes : list of str
    extra : mapping
        Whatever the task itself needs again when it predicts.
    folding : callable, optional
        Makes the folds of a split, seed and learner where they are not the sides of the split.
    """

    batch: FeatureBatch
    genes: pd.DataFrame
    scored: NDArray[np.bool_]
    reason: list[str]
    unit: str
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    folding: Callable[[AlignedSplit, int, LearnerInfo], Folding] | None = None

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """True where a gene has a label, whatever its features, shape (gene,)."""
        return np.asarray(np.isfinite(self.batch.require_targets()).any(axis=1), np.bool_)

    @cached_property
    def labels_digest(self) -> str:
        """Sha256 of which gene has which labels: runs that share it answer the same question.

        Features, genes without a label and the order of genes leave it as it is. Labels count
        as float32, so that the last bit of another machine's logarithm does not.
        """
        labels = self.batch.require_targets()
        sha = hashlib.sha256("\t".join(self.batch.target_names).encode())
        ids = np.char.add(np.char.add(self.batch.species, "\t"), self.batch.gene)
        rows = np.flatnonzero(self.labelled)
        rows = rows[np.argsort(ids[rows], kind="stable")]
        sha.update("\n".join(ids[rows].tolist()).encode())
        # One bit pattern for every NaN and for both zeros.
        plain = np.where(np.isfinite(labels), labels, np.nan)[rows] + 0.0
        sha.update(plain.astype("<f4").tobytes())
        return sha.hexdigest()


class Task(Protocol):
    """One kind of question put to learners."""

    name: ClassVar[str]
    summary: ClassVar[str]
    default_target: ClassVar[str]

    def prepare(
        self,
        store: Any,
        species: Sequence[str],
        genes: pd.DataFrame,
        features: Features,
        target: str,
    ) -> TaskData:
        """Lay labels and features over the genes; no feature is read yet."""
        ...  # fmt: skip

    def predict(self, data: TaskData, rows: NDArray[np.int64], predict: Predict) -> pd.DataFrame:
        """Predictions for the genes under test in one fold.

        Parameters
        ----------
        data : TaskData
        rows : int64 array
            Genes under test, all of them scored.
        predict : callable
            Give it batches without targets: of these genes, or of haplotypes of them.

        Returns
        -------
        DataFrame
            ``gene, species, family, y_true, y_pred``, and ``target, sample, line, mask`` where the
            task has several; the runner adds repeat and fold.
        """
        ...

    def evaluate(
        self, predictions: pd.DataFrame, *, unit: str, bootstrap: int, seed: int
    ) -> pd.DataFrame:
        """Metrics of all predictions of a run, columns METRIC_COLUMNS."""
        ...
