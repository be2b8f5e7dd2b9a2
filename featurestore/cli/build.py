"""``fs plan`` and ``fs build``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featurestore.cli.common import BuiltPlace, echo_json, json_option
from featurestore.inputs.problems import printable

if TYPE_CHECKING:
    from featurestore.build.engine import BuildResult
    from featurestore.build.workers.execution import Execution

_dataset = click.argument("dataset", type=click.Path(path_type=Path))
_store = click.option("--store", type=BuiltPlace(), required=True, help="Folder of the store.")
_embedder = click.option(
    "--embedder", "embedders", multiple=True, help="Embedder; repeatable. Default: the data set's."
)
_species = click.option("--species", multiple=True, help="Species; repeatable. Default: all.")


def dataset_file(path: Path) -> Path:
    """A data set given as its folder means the dataset.toml in it."""
    return path / "dataset.toml" if path.is_dir() else path


def _echo(text: str) -> None:
    """Print what may hold names from files: nothing in them reaches the terminal as a command."""
    click.echo("\n".join(map(printable, text.split("\n"))))


class _Progress:
    """A line with rate and time left on a terminal, plain lines at most every two seconds elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.started, self.last = quiet, time.monotonic(), 0.0

    def __call__(self, report: dict[str, Any], done: int, total: int) -> None:
        now = time.monotonic()
        if self.quiet or (done < total and now - self.last < (0.1 if sys.stderr.isatty() else 2.0)):
            return
        self.last = now
        rate = done / max(now - self.started, 1e-9)
        left = (total - done) / rate
        line = f"{done}/{total} shards, {rate:.1f}/s, {left:.0f} s left"
        if sys.stderr.isatty():
            click.echo(f"\r{line:<60}", nl=done == total, err=True)
        else:
            click.echo(line, err=True)


_device = click.option(
    "--device", help="Device of the embedders: cpu, cuda, cuda:1. Default: each chooses."
)


def _adapt(_: click.Context, __: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Parse MIN:MAX."""
    if text is None:
        return None
    low, colon, high = text.partition(":")
    if not (colon and low.isdigit() and high.isdigit() and 0 <= int(low) <= int(high) != 0):
        raise click.BadParameter(f"{text!r}: give MIN:MAX, such as 0:20")
    return int(low), int(high)


@click.command()
@_dataset
@_store
@_embedder
@_species
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Worker processes of this machine, or of --cluster. Default: threads.",
)
@click.option("--processes", is_flag=True, help="Worker processes of this machine, one per core.")
@click.option(
    "--scheduler",
    metavar="ADDRESS",
    help="Dask scheduler that is running, such as tcp://node7:8786.",
)
@click.option(
    "--cluster",
    metavar="NAME",
    help="Start workers through slurm, pbs, sge, lsf, htcondor, oar, kubernetes, local or MODULE:CLASS.",
)
@click.option(
    "--cluster-option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="Argument of the cluster's class; repeatable. The rest comes from Dask's configuration.",
)
@click.option(
    "--adapt", metavar="MIN:MAX", callback=_adapt, help="Let the number of workers follow the load."
)
@click.option(
    "--plan-only", is_flag=True, help="Only write the plan, for 'fs build-shard' and 'fs finalise'."
)
@click.option(
    "--large", is_flag=True, help="Let an embedder of long windows store more than 50 GB."
)
@_device
@json_option
def build(
    dataset: Path, store: Path, embedders: tuple[str, ...], species: tuple[str, ...], workers: int | None,
    processes: bool, scheduler: str | None, cluster: str | None, options: tuple[str, ...],
    adapt: tuple[int, int] | None, plan_only: bool, large: bool, device: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Build or complete a store from DATASET (a dataset.toml or its folder).

    A build that was stopped goes on where it was; what is already there is not computed again.
    """
    from featurestore.build.engine import build as run

    if plan_only:
        _plan_only(dataset_file(dataset), store, embedders, species, large, as_json)
        return
    result = run(
        dataset_file(dataset), store, embedders=embedders, species=species, say=_say, on_task=_Progress(as_json),
        execution=_execution(workers, processes, scheduler, cluster, options, adapt, device),
        large=large,
    )  # fmt: skip
    _tell(result, as_json)


def _say(line: str) -> None:
    click.echo(line, err=True)


def _execution(
    workers: int | None, processes: bool, scheduler: str | None, cluster: str | None,
    options: tuple[str, ...], adapt: tuple[int, int] | None, device: str | None,
) -> Execution:  # fmt: skip
    """Where to run, from the options of the command."""
    from featurestore.build.workers.cluster import parsed_options
    from featurestore.build.workers.execution import Execution

    if sum((bool(scheduler), bool(cluster), processes)) > 1:
        raise click.UsageError("give one of --scheduler, --cluster and --processes")
    if scheduler and workers:
        raise click.UsageError("--scheduler has the workers it has: leave --workers out")
    if (options or adapt) and not cluster:
        raise click.UsageError("--cluster-option and --adapt belong to --cluster")
    if adapt and workers:
        raise click.UsageError("give --workers or --adapt")
    return Execution(
        workers, processes, scheduler, cluster, parsed_options(options) if options else {}, adapt, device
    )  # fmt: skip


def _plan_only(
    dataset: Path, store: Path, embedders: tuple[str, ...], species: tuple[str, ...], large: bool,
    as_json: bool,
) -> None:  # fmt: skip
    from dataclasses import asdict

    from featurestore.build.array_jobs import plan_only
    from featurestore.build.workers.run import Voices

    planned = plan_only(dataset, store, embedders, species, Voices(_say), large)
    if as_json:
        echo_json(asdict(planned))
    elif planned.up_to_date:
        click.echo(f"{store} is up to date; nothing to do.")
    elif not planned.tasks:
        click.echo(f"0 tasks: all is there. Run: fs finalise {store}")
    else:
        click.echo(f"{planned.tasks} tasks")
        click.echo(
            f"run them in any order, any number at once: fs build-shard {store} 0-{planned.tasks - 1}"
        )
        if planned.first:
            click.echo(
                f"best begin with 0-{planned.first - 1}: they compute what several of the others need"
            )
        click.echo(f"then: fs finalise {store}")


def _tell(result: BuildResult, as_json: bool) -> None:
    """Print what a build did; regions without a vector make it incomplete."""
    from dataclasses import asdict

    from featurestore.build.sealing.funnel import describe
    from featurestore.errors import IncompleteStoreError

    if as_json:
        echo_json({**asdict(result), "failures": result.failures})
    elif result.up_to_date:
        click.echo(
            f"{result.store} is up to date (checked in {result.seconds:.1f} s); nothing to do."
        )
    else:
        for name, notes in result.notes.items():
            for note in notes:
                _echo(f"{name}: {note}")
        for name, steps in result.funnel.items():
            _echo(f"{name}: {describe(steps)}")
            for step in steps:
                for lost in step["lost"]:
                    _echo(
                        f"  not {step['stage']}: {lost['count']:,} ({lost['reason']}): {', '.join(lost['examples'][:3])} …"
                    )
        earlier = (
            f", {result.taken_over + result.resumed} taken over"
            if result.taken_over + result.resumed
            else ""
        )
        click.echo(
            f"{result.store}: {result.shards} shards ({result.computed} computed{earlier}) in {result.seconds:.1f} s"
        )
        click.echo(f"digest {result.digest}")
    if result.failures:
        raise IncompleteStoreError(
            "some regions have no vector (status failed): " + "; ".join(result.failures)
        )


_planned = click.argument("store", type=click.Path(path_type=Path))


@click.command("build-shard")
@_planned
@click.argument("tasks", metavar="I")
@_device
@json_option
def build_shard(store: Path, tasks: str, device: str | None, as_json: bool) -> None:
    """Run task I of the plan of STORE, or a range of them such as 0-99.

    The plan is what 'fs build --plan-only' wrote. Any number of these may run at once, on any
    machine that sees the folder; a task that is done is not run again.
    """
    from featurestore.build.array_jobs import build_shards

    reports = build_shards(store, tasks, device, _Progress(as_json))
    if as_json:
        echo_json({"tasks": reports})
    else:
        again = sum(bool(r.get("again")) for r in reports)
        click.echo(f"{len(reports)} tasks done" + (f" ({again} were already)" if again else ""))


@click.command()
@_planned
@json_option
def finalise(store: Path, as_json: bool) -> None:
    """Check the tasks of the plan of STORE by reading what they wrote, and make the store."""
    from featurestore.build.array_jobs import finalise as run

    _tell(run(store), as_json)


@click.command()
@_dataset
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Folder of the store; tells what is there already.",
)
@_embedder
@_species
@json_option
def plan(
    dataset: Path,
    store: Path | None,
    embedders: tuple[str, ...],
    species: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tell what a build of DATASET would make: genes, windows, bytes, files, free disk, time."""
    from featurestore.build.planning.estimate import estimate, render

    facts = estimate(dataset_file(dataset), store, embedders, species)
    if as_json:
        echo_json(facts)
    else:
        _echo(render(facts))
