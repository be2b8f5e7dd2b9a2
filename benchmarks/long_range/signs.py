"""The sign test on alleles: do predictions move in the measured direction, gene by gene and pooled.

Models of one reference genome get the direction wrong for many genes (Sasse et al., Huang et al., Nat.
Genet. 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.scores.stats import family_weights, percentile_interval
from benchmarks.text import align, number, p_text
from featurestore.errors import InputError, InputFileNotFoundError, unknown_name

COLUMNS: Final = (
    "scope", "right", "n", "share", "ci_low", "ci_high", "p_value", "cluster_low", "cluster_high",
    "undecided",
)  # fmt: skip
"""``share`` of equal signs with its exact interval (Clopper–Pearson) and two-sided p against ½, for
alleles taken as independent; ``cluster_…`` of the bootstrap over genes; ``undecided`` alleles of which
either value is 0 or unknown, which are left out."""


@dataclass(frozen=True)
class Names:
    """Columns of a table of alleles."""

    predicted: str = "predicted"
    measured: str = "measured"
    gene: str = "gene"


def sign_test(
    predicted: NDArray[np.float64], measured: NDArray[np.float64], gene: Sequence[str],
    *, bootstrap: int = 1000, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Shares of alleles whose predicted and measured effects have one sign.

    Parameters
    ----------
    predicted, measured : float arrays, shape (alleles,)
    gene : sequence of str

    Returns
    -------
    DataFrame, columns COLUMNS
        ``pooled``; ``genes``, the genes most of whose alleles are right among those that have a
        majority; ``gene:NAME`` for each.
    """
    product = np.sign(predicted) * np.sign(measured)
    decided = np.isfinite(product) & (product != 0)
    right = product > 0
    codes, names = pd.factorize(np.asarray(gene, object))
    n = np.bincount(codes, decided, len(names)).astype(np.float64)
    good = np.bincount(codes, decided & right, len(names)).astype(np.float64)
    cluster = _cluster(good, n, bootstrap, seed)
    rows = [_row("pooled", good.sum(), n.sum(), len(product) - n.sum(), *cluster)]
    majority = 2 * good != n
    rows.append(_row("genes", (2 * good > n).sum(), majority.sum(), (~majority).sum()))
    total = np.bincount(codes, minlength=len(names))
    for index in np.argsort(names, kind="stable"):
        undecided = total[index] - n[index]
        rows.append(_row(f"gene:{names[index]}", good[index], n[index], undecided))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    scope: str, right: float, n: float, undecided: float, low: float = float("nan"),
    high: float = float("nan"),
) -> list[Any]:  # fmt: skip
    from scipy.stats import binomtest

    right, n = int(right), int(n)
    if not n:
        return [scope, 0, 0, *[float("nan")] * 4, low, high, int(undecided)]
    test = binomtest(right, n)
    interval = test.proportion_ci(0.95, "exact")
    return [
        scope, right, n, right / n, float(interval.low), float(interval.high), float(test.pvalue),
        low, high, int(undecided),
    ]  # fmt: skip


def _cluster(
    good: NDArray[np.float64], n: NDArray[np.float64], bootstrap: int, seed: int
) -> tuple[float, float]:
    if not bootstrap or len(n) < 2:
        return float("nan"), float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = [(w @ good) / (w @ n) for w in family_weights(len(n), bootstrap, seed)]
    return percentile_interval(np.concatenate(drawn))


def text(found: pd.DataFrame, genes: int) -> str:
    """Aligned columns, of single genes the first so many."""
    single = found["scope"].str.startswith("gene:")
    shown = pd.concat([found[~single], found[single].head(genes)])
    rows: list[dict[Any, Any]] = shown.to_dict("records")
    body = [
        [
            r["score"], r["scope"], f"{r['right']:,} / {r['n']:,}", number(r["share"]),
            f"[{number(r['ci_low'])}, {number(r['ci_high'])}]", p_text(r["p_value"]),
            f"[{number(r['cluster_low'])}, {number(r['cluster_high'])}]", f"{r['undecided']:,}",
        ]
        for r in rows
    ]  # fmt: skip
    head = ["score", "scope", "right", "share", "exact 95 %", "p", "over genes", "undecided"]
    return align(head, body, {2, 3, 5, 7})


def read_alleles(path: Path, names: Names) -> tuple[Any, Any, list[str]]:
    """Predicted and measured effects and genes of a table (TSV, CSV or Parquet).

    Raises
    ------
    InputError
        For a column that is not there or holds no numbers.
    """
    if not path.is_file():
        raise InputFileNotFoundError(f"{path}: not found; give a table of alleles")
    if path.suffix == ".parquet":
        table = pd.read_parquet(path)
    else:
        table = pd.read_csv(path, sep=None, engine="python", comment="#", dtype={names.gene: str})
    for name in (names.predicted, names.measured, names.gene):
        if name not in table:
            raise unknown_name(f"column of {path}", name, list(table.columns))
    found = []
    for name in (names.predicted, names.measured):
        numbers = pd.to_numeric(table[name], errors="coerce")
        bad = numbers.isna() & table[name].notna()
        if bad.any():
            at = int(np.flatnonzero(bad.to_numpy())[0])
            raise InputError(
                f"{path}: {name} of row {at + 1} is {table[name].iloc[at]!r}, no number"
            )
        found.append(numbers.to_numpy(np.float64))
    return found[0], found[1], table[names.gene].astype(str).tolist()


def from_scores(
    scores: Path, measured: Path, score_names: Sequence[str], tracks: Sequence[str]
) -> list[tuple[str, Any, Any, list[str]]]:
    """Effects of ``fs score`` beside measured ones: one entry for each score and track.

    Returns
    -------
    list of (label, predicted, measured, genes)
    """
    from benchmarks.effects.join import join
    from benchmarks.effects.measured import read_measured
    from featurestore.score.tracks.read import read_scores

    held = join(read_measured(measured, {}), read_scores(scores), score_names, tracks)
    table = held.table
    genes = table["gene"].astype(str) if "gene" in table else pd.Series(["?"] * len(table))
    value = table["value"].to_numpy(np.float64)
    found = []
    for name in held.names:
        cells = held.values(name)
        for index, track in enumerate(held.tracks):
            label = f"{name} {held.scores.tracks[track]}"
            found.append((label, cells[:, index], value, genes.tolist()))
    return found
