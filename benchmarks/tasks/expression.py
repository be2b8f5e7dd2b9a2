"""Task ``expression``: predict a gene's expression from its own features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import Features
from benchmarks.inputs.targets import Targets, make_targets
from benchmarks.tasks.base import Predict, TaskData
from learners.batch import Block, FeatureBatch


class ExpressionTask:
    """Expression of genes, one or several targets each, units as in :mod:`benchmarks.inputs.targets`."""

    name: ClassVar[str] = "expression"
    summary: ClassVar[str] = "predict a gene's expression from its sequence features"
    default_target: ClassVar[str] = "median"

    def prepare(
        self, store: Any, species: Sequence[str], genes: pd.DataFrame, features: Features,
        target: str,
    ) -> TaskData:  # fmt: skip
        """Lay targets and features over the genes."""
        targets = make_targets(store, species, target)
        labelled: NDArray[np.bool_] = np.any(targets.observed, axis=1)
        reason = [
            why or ("" if known else f"no value for target {target}")
            for why, known in zip(features.reason, labelled, strict=True)
        ]
        return TaskData(
            batch=_batch(genes, features, targets),
            genes=genes,
            scored=features.usable & labelled,
            reason=reason,
            unit=targets.unit,
            notes=list(targets.notes),
        )

    def predict(self, data: TaskData, rows: NDArray[np.int64], predict: Predict) -> pd.DataFrame:
        """One row per gene, or per gene and observed target where there are several."""
        test = data.batch.take(rows)
        predicted = predict(test.without_targets())
        table = pd.DataFrame({"gene": test.gene, "species": test.species, "family": test.family})
        table = table.astype(object)
        observed, names = test.require_targets(), data.batch.target_names
        if len(names) == 1:
            return table.assign(y_true=observed[:, 0], y_pred=predicted[:, 0])
        wide = table.loc[table.index.repeat(len(names))].reset_index(drop=True)
        wide = wide.assign(
            target=np.tile(np.array(names, object), len(table)),
            y_true=observed.ravel(),
            y_pred=predicted.ravel(),
        )
        return wide[wide["y_true"].notna()].reset_index(drop=True)

    def evaluate(
        self, predictions: pd.DataFrame, *, unit: str, bootstrap: int, seed: int
    ) -> pd.DataFrame:
        """Pooled, within species, per species, fold and target."""
        from benchmarks.scores.metrics import evaluate

        return evaluate(predictions, unit=unit, bootstrap=bootstrap, seed=seed)


def _batch(genes: pd.DataFrame, features: Features, targets: Targets) -> FeatureBatch:
    rows = np.arange(len(genes), dtype=np.int64)
    observed = targets.observed
    return FeatureBatch(
        blocks={name: Block(source, rows) for name, source in features.sources.items()},
        gene=genes["gene"].to_numpy(str),
        species=genes["species"].to_numpy(str),
        family=genes["family"].to_numpy(str),
        targets=targets.value,
        # A single target needs no mask: genes without it are not scored and never learned from.
        mask=observed if len(targets.names) > 1 else None,
        target_names=targets.names,
    )
