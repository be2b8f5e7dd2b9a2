"""``bench compare``, ``bench leaderboard`` and ``bench report``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import click

from benchmarks.cli.options import runs_argument
from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option


@click.command(short_help="Test which learner is better, pairwise.")
@runs_argument
@click.option("--metric", default="r2", show_default=True, help="Score that is compared.")
@click.option("--baseline", metavar="METHOD", help="Compare every method with this one only.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True)
@json_option
def compare(runs: Path, metric: str, baseline: str | None, bootstrap: int, as_json: bool) -> None:
    """Corrected resampled t-test over shared folds, adjusted after Holm.

    With fewer than 5 repeats of 5 folds the comparison is descriptive, and says so.
    """
    from benchmarks.runs.files import read_runs
    from benchmarks.scores.compare import compare as compare_runs

    found = compare_runs(read_runs(runs), metric=metric, baseline=baseline, bootstrap=bootstrap)
    click.echo(found.to_json() if as_json else for_terminal(found.render_text()))


@click.command(short_help="Rank the runs of a folder.")
@runs_argument
@click.option("--sort-by", default="r2", show_default=True, help="r2, pearson, spearman or rmse.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True)
@click.option(
    "--by-species",
    is_flag=True,
    help="A row for each species under test and method, marked where a model was pre-trained on the "
    "species.",
)
@json_option
def leaderboard(runs: Path, sort_by: str, bootstrap: int, by_species: bool, as_json: bool) -> None:
    """One row per method, with intervals, cost and warnings; failed runs are rows too."""
    if by_species:
        _by_species(runs, bootstrap, as_json)
        return
    from benchmarks.runs.files import read_runs
    from benchmarks.scores.leaderboard import leaderboard as rank
    from benchmarks.scores.leaderboard import render_text

    board = rank(read_runs(runs), sort_by=sort_by, bootstrap=bootstrap)
    if as_json:
        echo_json(json.loads(board.to_json(orient="records")))
    else:
        click.echo(for_terminal(render_text(board, sort_by=sort_by)))


def _by_species(runs: Path, bootstrap: int, as_json: bool) -> None:
    from benchmarks.runs.files import read_runs
    from benchmarks.scores.transfer import render_text, transfer_table

    table = transfer_table(read_runs(runs), bootstrap=bootstrap)
    if as_json:
        echo_json(json.loads(table.to_json(orient="records")))
    else:
        click.echo(for_terminal(render_text(table)))


@click.command(short_help="Write one HTML file that works offline.")
@runs_argument
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where to write it.  [default: report.html in the folder of runs]",
)
@click.option(
    "--open", "show", is_flag=True, help="Open it in the browser, where there is a screen."
)
@json_option
def report(runs: Path, out: Path | None, show: bool, as_json: bool) -> None:
    """Leaderboard, scatter and fold panels, learning, cost, funnel and identity in one file."""
    from benchmarks.report.html import write_report
    from benchmarks.runs.files import read_runs

    path = out if out is not None else runs / "report.html"
    found = read_runs(runs)
    write_report(found, path)
    if as_json:
        echo_json({"path": str(path), "runs": len(found), "bytes": path.stat().st_size})
    else:
        click.echo(f"{path}: {len(found)} runs, {path.stat().st_size:,} bytes")
    if show and _has_screen():
        click.launch(path.resolve().as_uri())


def _has_screen() -> bool:
    """Whether a browser would have somewhere to open; a text browser would block the terminal."""
    if os.environ.get("CI"):
        return False
    if sys.platform in {"darwin", "win32"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
