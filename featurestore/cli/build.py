"""``fs plan`` and ``fs build``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from featurestore.cli.common import echo_json, json_option
from featurestore.inputs.problems import printable

_dataset = click.argument("dataset", type=click.Path(path_type=Path))
_store = click.option(
    "--store", type=click.Path(path_type=Path), required=True, help="Folder of the store."
)
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


@click.command()
@_dataset
@_store
@_embedder
@_species
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes of a local Dask cluster. Default: threads.",
)
@click.option("--device", help="Device of the embedders: cpu, cuda, cuda:1. Default: each chooses.")
@json_option
def build(
    dataset: Path, store: Path, embedders: tuple[str, ...], species: tuple[str, ...], workers: int | None,
    device: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Build or complete a store from DATASET (a dataset.toml or its folder).

    A build that was stopped goes on where it was; what is already there is not computed again.
    """
    from dataclasses import asdict

    from featurestore.build.engine import build as run
    from featurestore.build.funnel import describe
    from featurestore.errors import IncompleteStoreError

    def say(line: str) -> None:
        click.echo(line, err=True)

    result = run(
        dataset_file(dataset), store, embedders=embedders, species=species, workers=workers,
        device=device, say=say, on_task=_Progress(as_json),
    )  # fmt: skip
    if as_json:
        echo_json({**asdict(result), "failures": result.failures})
    elif result.up_to_date:
        click.echo(f"{store} is up to date (checked in {result.seconds:.1f} s); nothing to do.")
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
            f"{store}: {result.shards} shards ({result.computed} computed{earlier}) in {result.seconds:.1f} s"
        )
        click.echo(f"digest {result.digest}")
    if result.failures:
        raise IncompleteStoreError(
            "some regions have no vector (status failed): " + "; ".join(result.failures)
        )


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
    from featurestore.build.estimate import estimate, render

    facts = estimate(dataset_file(dataset), store, embedders, species)
    if as_json:
        echo_json(facts)
    else:
        _echo(render(facts))
