"""``fs query``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from featurestore.cli.common import backend_option, store_argument

if TYPE_CHECKING:
    from featurestore.store.remote_backends import BackendName


@click.command()
@store_argument
@backend_option
@click.option("--gene", "genes", multiple=True, help="Gene id; repeatable.")
@click.option(
    "--region", help="contig:start-end, 1-based and inclusive; genes whose transcript overlaps it."
)
@click.option("--family", help="Gene family.")
@click.option("--species", multiple=True, help="Species; repeatable. Default: all.")
@click.option("--embedder", help="Feature to print with the genes, e.g. kmer or onehot.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["csv", "npz", "parquet", "json"]),
    default="csv",
    show_default=True,
)
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write. Default: stdout."
)
def query(
    store: Path | str, backend: BackendName | None, genes: tuple[str, ...], region: str | None, family: str | None, species: tuple[str, ...],
    embedder: str | None, form: str, out: Path | None,
) -> None:  # fmt: skip
    """Print genes of STORE, and their features, found by id, region or family."""
    from featurestore.store.query import select, write
    from featurestore.store.reader import open_store

    opened = open_store(store, backend=backend)
    chosen = [opened[s].species for s in species] or opened.species
    found = select(opened, chosen, genes=genes, region=region, family=family, embedder=embedder)
    text = write(found, embedder, form, out)
    if text:
        click.echo(text, nl=not text.endswith("\n"))
