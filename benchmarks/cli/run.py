"""``bench run``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from benchmarks.cli.mutagenesis import gene_options, saturate, take_saturation
from benchmarks.cli.options import keep_families_option, species_option, split_option, store_option
from featurestore.cli.common import echo_json, json_option
from featurestore.errors import InputError


@click.command(short_help="Fit learners on a split and score them.")
@store_option
@click.option(
    "--learner",
    "learners",
    multiple=True,
    required=True,
    metavar="NAME[@FEATURES]",
    help="A learner of 'bench learners', or package.module:Class; with features of its own after @; or "
    "'stack(NAME@FEATURES,…)'. May be given several times.",
)
@click.option(
    "--features",
    metavar="EXPR",
    help="group[.array][:pooled], joined with +, e.g. kmer, pc+a2z.accessibility, pc:pooled. "
    "Default: what suits each learner.",
)
@click.option(
    "--target",
    metavar="TARGET",
    help="mean, median, max, each, sample:NAME or tissue:NAME.  [default: that of the task, "
    "median for expression]",
)
@click.option("--task", default="expression", show_default=True, help="What is asked of a learner.")
@split_option
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Repeat split and fit with seeds 0 … N − 1, a run each.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs"),
    show_default=True,
    help="Folder of runs.",
)
@species_option
@keep_families_option
@click.option(
    "--allow-leakage",
    is_flag=True,
    help="Run a split in which a family stands on two sides; every result then says so.",
)
@click.option(
    "--param",
    "params",
    multiple=True,
    metavar="[LEARNER.]KEY=VALUE",
    help="Set a parameter of a learner; values are JSON, or text.",
)
@click.option(
    "--variants",
    metavar="SET",
    help="Task variants: the variant set.  [default: the only one of each species]",
)
@click.option(
    "--lines",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Task variants: a file naming the lines to use (those that passed quality control), one a "
    "line.  [default: all]",
)
@click.option(
    "--mask",
    "masks",
    multiple=True,
    metavar="M",
    help="Task imputation: a mask to score, e.g. whole-profile or entries-20; may be given several times.  "
    "[default: all]",
)
@click.option(
    "--tracks",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Task tracks: table of bigWig files (track, species, file …) or of values (species, contig, "
    "start, end, track, value).",
)
@click.option(
    "--window",
    type=click.IntRange(min=1),
    metavar="BP",
    help="Task tracks: bases that a learner sees at a time.  [default: 196608]",
)
@click.option(
    "--bin",
    type=click.IntRange(min=1),
    metavar="BP",
    help="Task tracks: bases of a bin.  [default: 128]",
)
@click.option(
    "--stretch",
    type=click.IntRange(min=1),
    metavar="BP",
    help="Task tracks: bases of the stretches that folds are made of, about.  [default: 1 Mb, less in "
    "small genomes]",
)
@click.option(
    "--tilings",
    type=click.IntRange(min=1),
    metavar="N",
    help="Task tracks: cover what is learned from N times with windows, each time moved on, so that a "
    "gene is seen in N surroundings an epoch.  [default: 1]",
)
@click.option(
    "--learn-from",
    type=click.Choice(["tiles", "genes"]),
    help="Task tracks: learn from windows side by side, or from windows around each TSS alone (--tilings N "
    "of each).  [default: tiles]",
)
@click.option(
    "--only-fold",
    "only_folds",
    type=click.IntRange(min=0),
    multiple=True,
    metavar="N",
    help="Run fold N alone; may be given several times. Such a run is compared with those of the same "
    "folds only.",
)
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of a fit.  [default: OMP_NUM_THREADS, else all]",
)
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:N.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Fit on the workers of the Dask scheduler at this address, e.g. tcp://10.0.0.1:8786; they must "
    "see the store and the folder of runs at the same paths.",
)
@click.option(
    "--spread",
    type=click.Choice(["folds", "rows"]),
    default="folds",
    show_default=True,
    help="With --scheduler: each worker fits other folds, or all fit each fold together, a share of "
    "its rows each (xgboost, lightgbm).",
)
@click.option(
    "--tune",
    type=click.IntRange(min=1),
    metavar="N",
    help="Search each learner's parameters with N trials in every fold, on validation families; a run "
    "that was killed goes on where it stood.",
)
@click.option(
    "--tune-folds",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="K",
    help="Score each trial on all training families, by K fits, where validation families are few.",
)
@click.option("--budget-seconds", type=float, help="Seconds that one fit may take.")
@click.option("--rounds", type=click.IntRange(min=1), help="Boosting rounds or epochs of a fit.")
@click.option(
    "--bootstrap",
    type=click.IntRange(min=0),
    default=1000,
    show_default=True,
    help="Replicates behind the intervals, over gene families; a run that is there with others is "
    "scored again, not fitted.",
)
@gene_options
@json_option
def run(
    store: Path, seeds: int, threads: int | None, device: str, budget_seconds: float | None,
    rounds: int | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Fit learners fold by fold, predict every gene from the fold where it is under test, score.

    What is there already is left as it is; what is missing is fitted. A learner that fails leaves
    a run that says so, the others go on, and the exit code is 1.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "bench run is started once, not by torchrun or in each task of a job: give --scheduler for "
            "several machines, or call the fit of a learner in torch from a script (docs/loader.md)"
        )
    from benchmarks.runs.plans import RunOptions
    from benchmarks.runs.progress import Progress
    from benchmarks.runs.runner import run as run_all
    from featurestore.store.reader import open_store
    from learners.base import Budget

    budget = Budget(seconds=budget_seconds, rounds=rounds, threads=threads, device=device)
    saturation = take_saturation(options)
    opened = open_store(store)
    outcomes = run_all(opened, RunOptions(seeds=seeds, budget=budget, **options), Progress(0))
    if saturation is not None:
        saturate(opened, saturation, outcomes, options["learners"], device)
    _tell(outcomes, as_json)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise click.exceptions.Exit(1)


def _tell(outcomes: list[Any], as_json: bool) -> None:
    from benchmarks.runs.files import read_run

    facts = []
    for outcome in outcomes:
        metrics = read_run(outcome.path).metrics
        pooled, masks, tracks = {}, {}, {}
        if metrics is not None:
            rows = metrics[metrics["scope"] == "pooled"]
            pooled = dict(zip(rows["metric"], rows["value"], strict=True))
            by_mask = metrics[
                (metrics["metric"] == "mse") & metrics["scope"].str.fullmatch("mask:[^/]+")
            ]
            masks = dict(zip(by_mask["scope"], by_mask["value"], strict=True))
            by_track = metrics[
                (metrics["metric"] == "pearson")
                & metrics["scope"].str.fullmatch("track:[^/]+(/bins)?")
            ]
            tracks = dict(zip(by_track["scope"], by_track["value"], strict=True))
        facts.append(
            {
                "run": outcome.name, "path": str(outcome.path), "method": outcome.label,
                "seed": outcome.seed, "state": outcome.state, "error": outcome.error,
                "pooled": pooled, **({"mse": masks} if masks else {}),
                **({"pearson": tracks} if tracks else {}),
            }
        )  # fmt: skip
    if as_json:
        echo_json(facts)
        return
    for one in facts:
        told = " ".join(f"{k} {v:.3f}" for k, v in one["pooled"].items() if k in _SHOWN)
        if one.get("mse"):
            told = "mse " + " ".join(
                f"{k.removeprefix('mask:')} {v:.3f}" for k, v in one["mse"].items()
            )
        if one.get("pearson"):
            told = "pearson " + " ".join(
                f"{k.removeprefix('track:')} {v:.3f}" for k, v in one["pearson"].items()
            )
        if one["error"]:
            told = f"{one['error']['type']}: {one['error']['message']}"
        click.echo(f"{one['method']}  seed {one['seed']}  {one['state']}  {told}  {one['path']}")


_SHOWN = ("pearson", "spearman", "r2", "beta_between", "beta_within", "partial_r2_within")
