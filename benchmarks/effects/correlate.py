"""How far scores agree with measured effects, per track and group, with intervals over clusters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from benchmarks.effects.join import Joined
from benchmarks.mutagenesis.agreement import METRICS, STATISTICS
from benchmarks.scores.stats import family_weights, percentile_interval
from featurestore.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

FEWEST: Final = 10
"""Variants below which nothing is told."""

MOST: Final = 200
"""Tracks times scores that are assessed one by one."""


def correlate(
    joined: Joined, *, bootstrap: int = 1000, seed: int = 0
) -> tuple[list[dict[str, Any]], list[str]]:
    """Correlations and agreement in sign.

    Returns
    -------
    rows of ``scope, score, track, metric, value, ci_low, ci_high, n, n_clusters``; notes

    Raises
    ------
    InputError
        Without a column of effects, or for more tracks than can be told one by one.
    """
    if "value" not in joined.table:
        raise InputError("no column of measured effects: name it with --value")
    count = len(joined.names) * len(joined.tracks)
    if count > MOST:
        raise InputError(
            f"{len(joined.tracks):,} tracks × {len(joined.names)} scores: correlations are told one by one, at "
            f"most {MOST}; choose with --track and --score"
        )
    known = joined.table["value"].notna().to_numpy()
    notes = [f"{int((~known).sum()):,} variants have no measured effect"] if not known.all() else []
    cluster, what = clusters_of(joined.table)
    notes.append(f"intervals draw {what}, {len(np.unique(cluster[known])):,} of them")
    rows: list[dict[str, Any]] = []
    for name in joined.names:
        values = joined.values(name)
        for column, track in enumerate(joined.tracks):
            use = known & np.isfinite(values[:, column])
            silent = int((use & (values[:, column] == 0) & _has_effect(joined)).sum())
            if silent:
                notes.append(
                    f"{joined.scores.tracks[track]}, {name}: {silent:,} variants with an effect have a score of "
                    "exactly 0, which sign_accuracy leaves out"
                )
            label = {"score": name, "track": joined.scores.tracks[track]}
            for scope, here in scopes(joined.table, use):
                if here.sum() < FEWEST:
                    note = f"{scope}: {int(here.sum())} variants, fewer than {FEWEST}; not told"
                    notes += [note] if note not in notes else []
                    continue
                x = values[here, column]
                y = joined.table["value"].to_numpy(np.float64)[here]
                rows += [
                    {"scope": scope, **label, **one}
                    for one in _metrics(x, y, cluster[here], bootstrap, seed)
                ]
    return rows, notes


def _has_effect(joined: Joined) -> np.ndarray[Any, np.dtype[np.bool_]]:
    found: np.ndarray[Any, np.dtype[np.bool_]] = (joined.table["value"].fillna(0) != 0).to_numpy()
    return found


def clusters_of(table: pd.DataFrame) -> tuple[np.ndarray[Any, np.dtype[np.intp]], str]:
    """What is drawn as one: the blocks of the table, else genes, else positions."""
    import pandas as pd

    place = table["contig"].astype(str) + ":" + table["pos"].astype(str)
    if "block" in table:
        return pd.factorize(table["block"])[0], "blocks"
    if "gene" in table and (table["gene"] != "").any():
        return pd.factorize(table["gene"].where(table["gene"] != "", place))[0], "genes"
    return pd.factorize(place)[0], "positions"


def scopes(
    table: pd.DataFrame, use: np.ndarray[Any, np.dtype[np.bool_]]
) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[np.bool_]]]]:
    """All variants, and those of each group."""
    yield "all", use
    if "group" in table:
        for group in dict.fromkeys(table["group"]):
            yield f"group:{group}", use & (table["group"] == group).to_numpy()


def _metrics(x: Any, y: Any, cluster: Any, bootstrap: int, seed: int) -> list[dict[str, Any]]:
    names, index = np.unique(cluster, return_inverse=True)
    weights = list(family_weights(len(names), bootstrap, seed)) if bootstrap else []
    found = []
    for metric in METRICS:
        statistic = STATISTICS[metric]
        value = float(statistic(x, y, np.ones((1, len(x))))[0])
        drawn = [statistic(x, y, w[:, index]) for w in weights]
        low, high = percentile_interval(np.concatenate(drawn) if drawn else np.zeros(0))
        counted = (x != 0) & (y != 0) if metric == "sign_accuracy" else np.ones(len(x), bool)
        found.append({
            "metric": metric, "value": value, "ci_low": low, "ci_high": high,
            "n": int(counted.sum()), "n_clusters": len(np.unique(index[counted])),
        })  # fmt: skip
    return found
