"""How well each run tells the top from the bottom quartile of expression, as deepCRE is judged.

    python -m benchmarks.scores.quartiles RUNS

Quartiles are those of the observed values of a species in a run; the genes between are left out.
Models of different folds need not have one scale, so each test fold is judged by itself and folds
are averaged. Peleke et al., Nat. Commun. 15:3488, 2024, report such accuracies.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.runs.files import RunResult, read_runs
from benchmarks.scores.areas import auroc
from benchmarks.scores.stats import family_weights, percentile_interval
from featurestore.errors import InputError

COLUMNS: Final = (
    "method", "seed", "species", "metric", "value", "ci_low", "ci_high", "n", "n_families", "folds",
)  # fmt: skip

FloatArray = NDArray[np.float64]


def score_quartiles(runs: list[RunResult], *, bootstrap: int = 1000, seed: int = 0) -> pd.DataFrame:
    """AUROC and accuracy of each run, species by species.

    Parameters
    ----------
    runs : list of RunResult
        Finished ones of task ``expression`` with one target are taken; others are left out.
    bootstrap, seed : int
        Replicates of the bootstrap over gene families; 0 leaves intervals NaN.

    Returns
    -------
    DataFrame
        Columns :data:`COLUMNS`. ``auroc``: probability that a gene of the top quartile is predicted
        above one of the bottom, 0.5 for constants. ``accuracy``: genes of a fold called right, where
        those predicted above the median of both quartiles are called top; what lies on the
        median counts half. Both are means over the folds that have genes of both quartiles. ``n``
        counts the genes of both quartiles.

    Raises
    ------
    InputError
        If no run can be scored.
    """
    rows = [
        (run.label, run.identity["seed"], *row)
        for run in runs
        if run.predictions is not None
        and run.identity["task"] == "expression"
        and "target" not in run.predictions
        for row in _of_run(run.predictions, bootstrap, seed)
    ]
    if not rows:
        raise InputError("no finished run of task expression with one target has quartiles to tell")
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _of_run(predictions: pd.DataFrame, bootstrap: int, seed: int) -> Iterator[tuple[Any, ...]]:
    labelled = predictions[predictions["y_true"].notna()]
    for species, own in labelled.groupby("species", sort=True):
        low, high = own["y_true"].quantile([0.25, 0.75])
        told = own[(own["y_true"] <= low) | (own["y_true"] >= high)]
        if low == high:
            continue
        family, names = pd.factorize(told["family"].fillna("gene " + told["gene"]))
        top = np.asarray(told["y_true"] >= high, np.float64)
        predicted = told["y_pred"].to_numpy(np.float64)
        fold = told.groupby(["repeat", "fold"]).ngroup().to_numpy()
        parts = [np.flatnonzero(fold == f) for f in np.unique(fold)]
        parts = [rows for rows in parts if 0 < top[rows].sum() < len(rows)]
        if not parts:
            continue
        once = np.ones((1, len(names)))
        drawn = [once, *family_weights(len(names), bootstrap, seed)] if bootstrap else [once]
        scores = np.concatenate([_scores(top, predicted, family, parts, w) for w in drawn], axis=1)
        for metric, values in zip(("auroc", "accuracy"), scores, strict=True):
            low_high = percentile_interval(values[1:]) if bootstrap else (np.nan, np.nan)
            yield (
                species,
                metric,
                values[0],
                *low_high,
                told["gene"].nunique(),
                len(names),
                len(parts),
            )


def _scores(
    top: FloatArray, predicted: FloatArray, family: NDArray[np.intp],
    parts: list[NDArray[np.intp]], weights: FloatArray,
) -> FloatArray:  # fmt: skip
    """AUROC and accuracy, mean over folds, shape (2, replicate)."""
    found = []
    for rows in parts:
        if not np.isfinite(predicted[rows]).all():
            return np.full((2, len(weights)), np.nan)
        weight = weights[:, family[rows]]
        called = (np.sign(predicted[rows] - np.median(predicted[rows])) + 1) / 2
        right = np.where(top[rows] == 1, called, 1 - called)
        with np.errstate(invalid="ignore"):
            accuracy = (weight * right).sum(axis=1) / weight.sum(axis=1)
        found.append((auroc(top[rows], predicted[rows], weight), accuracy))
    return np.asarray(np.mean(found, axis=0))


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, exists=True))
@click.option("--bootstrap", type=click.IntRange(0), default=1000, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(runs: Path, *, bootstrap: int, as_json: bool) -> None:
    """Print how well each of the RUNS tells the top from the bottom quartile of a species."""
    try:
        table = score_quartiles(read_runs(runs), bootstrap=bootstrap)
    except InputError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(table.to_json(orient="records"))
        return
    for row in table.itertuples():
        click.echo(
            f"{row.method:<44} seed {row.seed} {row.species} {row.metric:<8} {row.value:.3f} "
            f"[{row.ci_low:.3f}, {row.ci_high:.3f}]  ({row.n:,} genes, {row.folds} folds)"
        )


if __name__ == "__main__":
    main()
