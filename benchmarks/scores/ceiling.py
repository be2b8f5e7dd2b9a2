"""How much of what the sequence explains each run on the simulated sample has found.

    python -m benchmarks.scores.ceiling RUNS SAMPLE

``SAMPLE`` is a folder of ``fs init``; its ``truth/`` says what the grammar alone makes of each
gene. The ceiling is scored on exactly the genes that a run has scored, so that a share of 1 is
what a learner that knew the grammar, and nothing of family, gene or noise, would reach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click
import pandas as pd

from benchmarks.runs.files import RunResult, read_runs
from benchmarks.scores.metrics import METRICS, score
from featurestore.errors import InputError

SHOWN: Final = ("r2", "pearson")
_TARGET: Final = "median"
_SAMPLES: Final = ("controls", "all")
_ROUNDING: Final = 2e-5
"""Labels are kept as float32, and the tables of the truth are written rounded."""


def shares_of_ceiling(runs: list[RunResult], sample: Path) -> pd.DataFrame:
    """Score of each run, of the grammar on the same genes, and their ratio.

    Parameters
    ----------
    runs : list of RunResult
        Finished ones of task ``expression`` and target ``median`` are taken; others are left out.
    sample : Path
        Folder of ``fs init``.

    Returns
    -------
    DataFrame
        Columns ``method, seed, metric, value, ceiling, share, n``; pooled over species.

    Raises
    ------
    InputError
        If the folder has no truth, no run can be scored, or genes or labels are not the sample's.
    """
    truth = _truth(sample)
    rows = []
    for run in runs:
        asked = run.identity["task"], run.identity["target"]
        if run.predictions is None or asked != ("expression", _TARGET):
            continue
        known = run.predictions.merge(truth, on=["species", "gene"], how="left", validate="m:1")
        samples = _samples_behind(known)
        if samples is None:
            raise InputError(
                f"{run.path}: its genes or labels are not those of {sample}/truth; give the folder "
                "that the store was built from"
            )
        grammar = known[f"target_sequence_{samples}"]
        found = dict(zip(METRICS, score(known["y_true"], known["y_pred"]), strict=True))
        best = dict(zip(METRICS, score(known["y_true"], grammar), strict=True))
        for name in SHOWN:
            share = found[name] / best[name]
            rows.append((run.label, run.identity["seed"], name, found[name], best[name], share, len(known)))  # fmt: skip
    if not rows:
        raise InputError(f"no finished run of task expression and target {_TARGET} is here")
    columns = ["method", "seed", "metric", "value", "ceiling", "share", "n"]
    return pd.DataFrame(rows, columns=columns)


def _truth(sample: Path) -> pd.DataFrame:
    """Per gene the label and what the grammar alone would make of it, for either set of samples."""
    file = sample / "truth" / "expression.tsv"
    if not file.exists():
        raise InputError(f"{file} is missing: give a folder made by fs init")
    columns = [f"target_{kind}_{which}" for kind in ("observed", "sequence") for which in _SAMPLES]
    return pd.read_csv(file, sep="\t", usecols=["species", "gene", *columns])


def _samples_behind(known: pd.DataFrame) -> str | None:
    """Whether the labels are medians over the controls or over all samples; None if neither."""
    for which in _SAMPLES:
        difference = (known["y_true"] - known[f"target_observed_{which}"]).abs()
        if difference.notna().all() and difference.max() <= _ROUNDING:
            return which
    return None


@click.command()
@click.argument("runs", type=click.Path(path_type=Path, exists=True))
@click.argument("sample", type=click.Path(path_type=Path, exists=True))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def main(runs: Path, sample: Path, *, as_json: bool) -> None:
    """Print how much of the ceiling of the simulated SAMPLE each of the RUNS has reached."""
    try:
        table = shares_of_ceiling(read_runs(runs), sample)
    except InputError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        click.echo(json.dumps(table.to_dict("records")))
        return
    click.echo("SIMULATED data; share = score of the run / score of the noise-free grammar")
    for row in table.itertuples():
        click.echo(
            f"{row.method:<44} seed {row.seed} {row.metric:<8} {row.value:.3f} of {row.ceiling:.3f} = "
            f"{row.share:.2f}  ({row.n:,} genes)"
        )


if __name__ == "__main__":
    main()
