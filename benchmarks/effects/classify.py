"""Causal against other variants: a random forest on the scores of tracks, folds of whole blocks.

As eQTLs are classified by Enformer and its like: the features of a variant are its scores of all
tracks, every variant is predicted by a forest that saw nothing of its chromosome (or block), and
beside it stand the distance to the nearest TSS and the same forest on shuffled labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.effects.join import Joined
from benchmarks.scores.areas import AREAS
from benchmarks.scores.stats import family_weights, percentile_interval
from featurestore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FloatArray = NDArray[np.float64]

FEWEST: Final = 10
"""Variants of either class below which a group is not classified."""

WINDOW: Final = 100_000
"""Bases of a stretch that is drawn as one where the table has no blocks."""


@dataclass(frozen=True)
class Forest:
    """Settings of the forest and its folds.

    Parameters
    ----------
    trees, folds : int
        Folds are fewer where there are fewer blocks.
    absolute : bool
        Whether the scores' signs are left out.
    bootstrap, seed : int
    """

    trees: int = 100
    folds: int = 8
    absolute: bool = False
    bootstrap: int = 1000
    seed: int = 0


def classify(joined: Joined, how: Forest) -> tuple[list[dict[str, Any]], list[str]]:
    """Areas under the curves of out-of-fold predictions, per group.

    Returns
    -------
    rows of ``scope, method, metric, value, ci_low, ci_high, n, n_positive, n_blocks, n_clusters, folds``;
    notes. Methods: ``tracks``; ``distance``, the nearer to a TSS the likelier; ``shuffled labels``, the
    forest of ``tracks`` on labels in random order, which says what it finds where there is nothing.
    ``mean of groups``: over groups, drawing clusters of all of them at once.

    Raises
    ------
    InputError
        Without labels, with one block, or with too few of a class in every group.
    """
    table = joined.table
    if "label" not in table:
        raise InputError("no column of labels: name it with --label")
    block, what = _blocks(table)
    cluster, drawn = _clusters(table)
    notes = [f"folds hold whole {what}; intervals draw {drawn}"]
    features = np.concatenate([joined.values(name) for name in joined.names], axis=1)
    features = np.abs(features) if how.absolute else features
    finite = np.isfinite(features).all(axis=1)
    known = table["label"].notna().to_numpy()
    for count, told in ((~known, "have no label"), (known & ~finite, "lack some of the scores")):
        if count.any():
            notes.append(f"{int(count.sum()):,} variants {told}")
    groups = (
        table["group"].astype(str).to_numpy() if "group" in table else np.full(len(table), "all")
    )
    rows: list[dict[str, Any]] = []
    held: dict[tuple[str, str], list[FloatArray]] = {}
    for group in dict.fromkeys(groups.tolist()):
        own = np.flatnonzero((groups == group) & known & finite)
        scope = f"group:{group}" if "group" in table else "all"
        found = _group(table.iloc[own], features[own], block[own], cluster, own, how, notes, scope)
        for key, (row, replicates) in found.items():
            rows.append({"scope": scope, "method": key[0], "metric": key[1], **row})
            held.setdefault(key, []).append(replicates)
    if not rows:
        raise InputError("; ".join(["nothing could be classified", *notes]))
    return rows + _means(rows, held), notes


def _blocks(table: pd.DataFrame) -> tuple[NDArray[np.intp], str]:
    import pandas as pd

    if "block" in table:
        return pd.factorize(table["block"])[0], "blocks"
    if table["contig"].nunique() > 1:
        return pd.factorize(table["contig"])[0], "chromosomes"
    raise InputError(
        "all variants are of one chromosome: name a column of blocks with --block (LD blocks, genes), so that "
        "no fold is judged by its own neighbours"
    )


def _clusters(table: pd.DataFrame) -> tuple[NDArray[np.intp], str]:
    import pandas as pd

    if "block" in table:
        return pd.factorize(table["block"])[0], "blocks"
    stretch = table["contig"].astype(str) + ":" + (table["pos"] // WINDOW).astype(str)
    return pd.factorize(stretch)[0], f"stretches of {WINDOW // 1000} kb"


def _group(
    table: pd.DataFrame, features: FloatArray, block: NDArray[np.intp], clusters: NDArray[np.intp],
    own: NDArray[np.intp], how: Forest, notes: list[str], scope: str,
) -> dict[tuple[str, str], tuple[dict[str, Any], FloatArray]]:  # fmt: skip
    label = table["label"].to_numpy(np.float64)
    positive = int(label.sum())
    folds = min(how.folds, len(np.unique(block)), positive, len(label) - positive)
    if min(positive, len(label) - positive) < FEWEST or folds < 2:
        notes.append(
            f"{scope}: {positive} positive and {len(label) - positive} negative variants in "
            f"{len(np.unique(block))} blocks; at least {FEWEST} of each in two blocks are needed"
        )
        return {}
    shuffled = np.random.default_rng(how.seed).permutation(label)
    predictions = {
        "tracks": (label, _predict(features, label, block, folds, how)),
        "shuffled labels": (shuffled, _predict(features, shuffled, block, folds, how)),
    }
    distance = table["nearest_tss"].to_numpy(np.float64)
    if np.isfinite(distance).all():
        predictions["distance"] = (label, -distance)
    else:
        note = "no distance baseline: the nearest TSS is not known of every variant"
        notes += [note] if note not in notes else []
    facts = {
        "n": len(label), "n_positive": positive, "n_blocks": len(np.unique(block)),
        "n_clusters": len(np.unique(clusters[own])), "folds": folds,
    }  # fmt: skip
    # Clusters of all groups are drawn together, so that replicates of groups belong together.
    weights = [w[:, clusters[own]] for w in family_weights(int(clusters.max()) + 1, how.bootstrap, how.seed)] if how.bootstrap else []  # fmt: skip
    found = {}
    for method, (truth, score) in predictions.items():
        for metric, area in AREAS.items():
            value = float(area(truth, score, np.ones((1, len(truth))))[0])
            parts = [area(truth, score, w) for w in weights]
            replicates = np.concatenate(parts) if parts else np.zeros(0)
            low, high = percentile_interval(replicates)
            row = {"value": value, "ci_low": low, "ci_high": high, **facts}
            found[method, metric] = row, replicates
    return found


def _predict(
    features: FloatArray, label: FloatArray, block: NDArray[np.intp], folds: int, how: Forest
) -> FloatArray:
    """Out-of-fold probabilities."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    out = np.full(len(label), label.mean())
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=how.seed)
    for train, test in splitter.split(features, label, block):
        if len(np.unique(label[train])) < 2:
            continue  # nothing to learn: the share of positives stays
        forest = RandomForestClassifier(
            how.trees, max_features="log2", random_state=how.seed, n_jobs=1
        )
        out[test] = forest.fit(features[train], label[train]).predict_proba(features[test])[:, 1]
    return out


def _means(
    rows: list[dict[str, Any]], held: Mapping[tuple[str, str], list[FloatArray]]
) -> list[dict[str, Any]]:
    """Means over groups, where there are several."""
    found = []
    for (method, metric), replicates in held.items():
        if len(replicates) < 2:
            continue
        own = [r for r in rows if (r["method"], r["metric"]) == (method, metric)]
        low, high = percentile_interval(np.mean(replicates, axis=0))
        found.append({
            "scope": "mean of groups", "method": method, "metric": metric,
            "value": float(np.mean([r["value"] for r in own])), "ci_low": low, "ci_high": high,
            "n": sum(r["n"] for r in own), "n_positive": sum(r["n_positive"] for r in own),
            "n_blocks": max(r["n_blocks"] for r in own),
            "n_clusters": max(r["n_clusters"] for r in own), "folds": min(r["folds"] for r in own),
        })  # fmt: skip
    return found
