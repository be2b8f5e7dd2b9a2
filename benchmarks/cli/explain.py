"""``bench explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.cli.options import runs_argument, store_option
from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option
from featurestore.errors import InputError


@click.command(short_help="Where in a gene the signal of trained trees lies.")
@runs_argument
@store_option
@click.option(
    "--genes", type=click.IntRange(min=0), default=2000, show_default=True,
    help="Genes that are explained, drawn over all folds; 0 for all.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=5, show_default=True, help="Bins shown.")
@json_option
def explain(runs: Path, store: Path, genes: int, top: int, as_json: bool) -> None:
    """SHAP values of boosted trees, summed over the channels of each bin.

    RUNS is a finished run, or a folder of them. Each gene is explained by the model of the fold in
    which it was under test. The table goes into the folder of the run as importance.parquet, and from
    there into bench report.
    """
    from benchmarks.explain import explain as explain_run
    from benchmarks.explain import write_importance
    from benchmarks.predict.trained import TrainedRun
    from benchmarks.runs.files import read_runs
    from featurestore.store.reader import open_store

    opened, told, why = open_store(store), [], []
    for run in read_runs(runs):
        try:
            trained = TrainedRun(run.path)
            table = explain_run(trained, opened, genes=genes or None)
        except InputError as error:
            why.append(str(error))
            continue
        told.append(_told(trained, table, write_importance(run.path, table), top))
    if not told:
        raise InputError("\n".join(why))
    if as_json:
        echo_json(told)
        return
    for line in why:
        click.echo(f"left out: {for_terminal(line)}", err=True)
    for one in told:
        click.echo(for_terminal(f"{one['method']}  {one['genes']:,} genes  {one['path']}"))
        for row in one["top"]:
            click.echo(for_terminal(f"  {row['mean_abs_shap']:.4f} {one['unit']}  {_place(row)}"))


def _told(trained: Any, table: Any, path: Path, top: int) -> dict[str, Any]:
    best = table.sort_values("mean_abs_shap", ascending=False, kind="stable").head(top)
    rows = best.drop(columns="n").astype(object).where(best.notna(), None)
    return {
        "method": trained.label, "run": trained.name, "path": str(path), "unit": trained.unit,
        "genes": int(table["n"].max()), "top": rows.to_dict(orient="records"),
    }  # fmt: skip


def _place(row: dict[str, Any]) -> str:
    parts = [row["feature"], row["region"]]
    if row["bin"] >= 0:
        parts.append(f"bin {row['bin']}")
    if row["bin_start"] is not None:
        parts.append(f"from {row['bin_start']:+.0f} bp")
    if row["target"] != "y":
        parts.append(f"of {row['target']}")
    return " ".join(str(part) for part in parts if part)
