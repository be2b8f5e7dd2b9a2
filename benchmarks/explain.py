"""Where in a gene the signal of a trained run lies: SHAP values summed over the channels of each bin.

Genes are explained by the model of the fold in which they were under test, as they were predicted.
The SHAP values of a gene add up to its prediction, so those of the channels of a bin add up to what
that bin gives to it; the importance of a bin is the mean over genes of the size of that sum.
Lundberg et al., Nature Machine Intelligence 2:56, 2020.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import resolve
from benchmarks.inputs.genes import gene_frame
from benchmarks.predict.apply import Matched
from benchmarks.predict.trained import TrainedRun
from benchmarks.runs.files import write_table
from benchmarks.runs.tables import read_result
from featurestore.errors import InputError
from learners.batch import Block, FeatureBatch
from learners.places import Place, places

FILE: Final = "importance.parquet"

COLUMNS: Final = (
    "target", "feature", "region", "bin", "bin_start", "mean_abs_shap", "n",
)  # fmt: skip
"""``bin`` is −1 and ``bin_start`` (bp from the anchor) NaN where a feature has no bins."""


def explain(trained: TrainedRun, store: Any, *, genes: int | None = 2000) -> pd.DataFrame:
    """Importance of every bin for the genes under test.

    Parameters
    ----------
    trained : TrainedRun
        Of a learner that has ``contributions`` (the boosted trees).
    store : featurestore.store.reader.Store
        With the features that the run was fitted on.
    genes : int or None
        How many genes are explained, drawn over all folds; None is all.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`; ``mean_abs_shap`` in the unit of the target, over ``n`` genes.

    Raises
    ------
    InputError
        If the learner has no SHAP values, or no gene of the store was under test.
    """
    if not hasattr(trained.learner(trained.folds[0]), "contributions"):
        raise InputError(
            f"{trained.label}: only boosted trees have SHAP values here (xgboost, lightgbm); what single "
            "bases do to any learner is told by bench run --task mutagenesis"
        )
    batch, fold = _tested(trained, store)
    rows = np.flatnonzero(fold >= 0)
    if not len(rows):
        raise InputError(f"{trained.name}: no gene of {store.path} was under test in it")
    if genes is not None and len(rows) > genes:
        rows = np.sort(np.random.default_rng(0).choice(rows, genes, replace=False))
    found, starts = places(batch)
    total = np.zeros((len(trained.targets), len(found)))
    for one in np.unique(fold[rows]).tolist():
        here = batch.take(rows[fold[rows] == one])
        for part in trained.learner(int(one)).contributions(here):
            total[part.target] += np.abs(_by_place(part.values, starts)).sum(axis=0)
    return _table(trained.targets, found, total / len(rows), len(rows))


def _tested(trained: TrainedRun, store: Any) -> tuple[FeatureBatch, NDArray[np.int64]]:
    """Genes of the store, and the fold in which each was under test; −1 where in none."""
    matched = Matched.of(trained, store, trained.species)
    genes = gene_frame(store, trained.species)
    features = resolve(store, trained.species, matched.features)
    every = np.arange(len(genes), dtype=np.int64)
    fold = np.full(len(genes), -1, np.int64)
    for row in np.flatnonzero(features.usable).tolist():
        known = trained.fold_of(str(genes["gene"].iat[row]), str(genes["species"].iat[row]))
        fold[row] = known if known in trained.folds else -1
    batch = FeatureBatch(
        blocks={n: Block(s, every) for n, s in matched.named(features.sources).items()},
        gene=genes["gene"].to_numpy(str),
        species=genes["species"].to_numpy(str),
        family=genes["family"].to_numpy(str),
        target_names=trained.targets,
    )
    return batch, fold


def _by_place(values: NDArray[Any], starts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sums over the columns of each place, shape (rows, places)."""
    summed: NDArray[np.float64] = np.add.reduceat(values.astype(np.float64), starts, axis=1)
    return summed


def _table(
    targets: Sequence[str], found: Sequence[Place], mean: NDArray[np.float64], n: int
) -> pd.DataFrame:
    rows = [
        (target, one.feature, one.region, one.bin, one.bin_start, float(value), n)
        for target, values in zip(targets, mean, strict=True)
        for one, value in zip(found, values, strict=True)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_importance(path: Path, table: pd.DataFrame) -> Path:
    """Write the table into the folder of its run, where the report finds it."""
    file = path / FILE
    write_table(file, table)
    return file


def read_importance(path: Path) -> pd.DataFrame | None:
    """The table of a run; None where it was not explained.

    Raises
    ------
    InputError
        If the file is none of ours.
    """
    file = path / FILE
    return read_result(file, "importance") if file.exists() else None
