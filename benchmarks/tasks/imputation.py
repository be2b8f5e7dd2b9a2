"""Task ``imputation``: complete the missing entries of a gene × tissue table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation.folding import Imputing
from benchmarks.imputation.masks import check_masks
from benchmarks.imputation.prepare import make_problem
from benchmarks.imputation.problem import Problem
from benchmarks.imputation.setting import Setting
from benchmarks.imputation.sources import ZeroedSource
from benchmarks.inputs.features import Features
from benchmarks.tasks.base import Predict, TaskData
from featurestore.errors import InputError
from learners.batch import Block, FeatureBatch


class ImputationTask:
    """Gene × tissue profiles, completed from neighbours, tissues and sequence.

    Parameters
    ----------
    mask : sequence of str
        Masks to score; empty for all.
    """

    name: ClassVar[str] = "imputation"
    summary: ClassVar[str] = "complete the missing entries of a gene × tissue table"
    default_target: ClassVar[str] = "tissues"

    def __init__(self, mask: Sequence[str] = ()) -> None:
        self.asked = bool(mask)
        self.masks = check_masks(tuple(mask))
        self._problem: Problem | None = None
        self._settings: dict[tuple[str, int], Setting] = {}

    def prepare(
        self, store: Any, species: Sequence[str], genes: pd.DataFrame, features: Features,
        target: str,
    ) -> TaskData:  # fmt: skip
        """Lay the table over the genes; what every learner shares is made once."""
        if target != self.default_target:
            raise InputError(
                f"--target {target} is not for task imputation: its targets are the tissues"
            )
        if self._problem is None:
            self._problem = make_problem(store, species, genes, self.masks)
        problem = self._problem
        rows = np.arange(len(genes), dtype=np.int64)
        sources = {
            name: source if features.usable.all() else ZeroedSource(source, features.usable)
            for name, source in features.sources.items()
        }
        labelled: NDArray[np.bool_] = problem.scored
        reason = ["" if known else "no value in any tissue" for known in labelled]
        mean = problem.values.mean
        return TaskData(
            batch=FeatureBatch(
                blocks={name: Block(source, rows) for name, source in sources.items()},
                gene=genes["gene"].to_numpy(str),
                species=genes["species"].to_numpy(str),
                family=genes["family"].to_numpy(str),
                targets=mean,
                mask=np.isfinite(mean),
                target_names=problem.tissues,
            ),
            genes=genes,
            scored=labelled,
            reason=reason,
            unit=problem.unit,
            notes=[*problem.notes, *_without_features(features, labelled)],
            extra={"identity": {"tissues": list(problem.tissues), **_genotypes(problem)}},
            folding=Imputing(problem, sources, self.asked, self._settings),
        )

    def predict(self, data: TaskData, rows: NDArray[np.int64], predict: Predict) -> pd.DataFrame:
        """Not by sides of a split: the folds of the task predict."""
        raise NotImplementedError("the folds of this task predict: TaskData.folding")

    def evaluate(
        self, predictions: pd.DataFrame, *, unit: str, bootstrap: int, seed: int
    ) -> pd.DataFrame:
        """Metrics per mask, per tissue and without tandem paralogs."""
        from benchmarks.imputation.metrics import evaluate

        return evaluate(predictions, unit=unit, bootstrap=bootstrap, seed=seed)


def _genotypes(problem: Problem) -> dict[str, Any]:
    names = list(problem.values.genotypes)
    return {"genotypes": names} if len(names) > 1 else {}


def _without_features(features: Features, labelled: NDArray[np.bool_]) -> list[str]:
    """What is to be said of genes whose sequence features are not usable: they stay, as they read."""
    lacking = int((labelled & ~features.usable).sum())
    if not lacking:
        return []
    return [
        f"{lacking:,} of {int(labelled.sum()):,} genes with values have no usable {features.name}: they "
        "read zeros there, and are imputed from neighbours and tissues all the same"
    ]
