"""The funnel of genes of a run: that of the store, and what of it was scored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.features import common_embedders
from benchmarks.splits.artefact import AlignedSplit
from benchmarks.tasks.base import TaskData

EXAMPLES = 5


def scored_funnel(
    store: Any,
    species: Sequence[str],
    data: TaskData,
    aligned: AlignedSplit,
    predictions: pd.DataFrame | None = None,
) -> list[dict[str, Any]]:
    """Stages of every species, ``scored`` last, each with what was lost there and why.

    Lost at ``scored`` are the genes that the store labelled and embedded and that no fold of
    this run predicted. ``predictions`` are given where only some folds were run.
    """
    tested = aligned.test_fold >= 0
    scored = data.scored & tested
    reason = np.array(data.reason, object)
    reason[(reason == "") & ~aligned.used] = "not in the split"
    reason[(reason == "") & ~tested] = "never under test in this split"
    if predictions is not None:
        keys = ["species", "gene"]
        index = pd.MultiIndex.from_frame(data.genes[keys].astype(str))
        scored &= index.isin(pd.MultiIndex.from_frame(predictions[keys].astype(str)))
        reason[(reason == "") & ~scored] = "under test in folds that were not run"
    rows: list[dict[str, Any]] = []
    for one in species:
        rows += [{"species": one, **stage} for stage in store.funnel(one)]
        here = np.flatnonzero((data.genes["species"] == one).to_numpy())
        lost = here[_reached(store, one, species) & ~scored[here]]
        rows.append(
            {
                "species": one,
                "stage": "scored",
                "count": int(scored[here].sum()),
                "lost": _lost(lost, reason, data.genes["gene"].to_numpy(object)),
            }
        )
    return rows


def _reached(store: Any, one: str, species: Sequence[str]) -> NDArray[np.bool_]:
    """Genes of a species that the store labelled and some embedder embedded."""
    view = store.expression(one)
    count = len(store.genes(one).gene)
    reached = np.zeros(count, bool) if view is None else np.asarray(view.labelled, bool).copy()
    embedders = common_embedders(store, species)
    if embedders:
        reached &= np.any([store.feature_status(one, name) for name in embedders], axis=0)
    return reached


def _lost(
    rows: NDArray[np.int64], reason: NDArray[np.object_], gene: NDArray[np.object_]
) -> list[dict[str, Any]]:
    lost: dict[str, list[str]] = {}
    for row in rows.tolist():
        lost.setdefault(str(reason[row]), []).append(str(gene[row]))
    return [
        {"reason": why, "count": len(genes), "examples": genes[:EXAMPLES]}
        for why, genes in sorted(lost.items(), key=lambda item: -len(item[1]))
    ]
