"""``fs export``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from featurestore.cli.common import (
    StorePlace,
    backend_option,
    echo_json,
    json_option,
    store_argument,
)
from featurestore.errors import InputError

if TYPE_CHECKING:
    from featurestore.export.profiles import Profile
    from featurestore.store.remote_backends import BackendName


class _Progress:
    """Files done: a line on a terminal, plain lines at most every two seconds elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.last = quiet, time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        on_terminal, now = sys.stderr.isatty(), time.monotonic()
        if self.quiet or (done < total and now - self.last < (0.1 if on_terminal else 2.0)):
            return
        self.last = now
        click.echo(
            f"\r{done}/{total} files" if on_terminal else f"{done}/{total} files",
            nl=not on_terminal,
            err=True,
        )
        if on_terminal and done == total:
            click.echo(err=True)


@click.command()
@store_argument
@click.option(
    "--to",
    "form",
    type=click.Choice(["zarr", "parquet", "npz", "h5ad"]),
    required=True,
    help="zarr: a whole store, to a folder or a bucket; the others: tables for other tools.",
)
@click.option(
    "--out", type=StorePlace(), required=True, help="Where to; for zarr s3:// and gs:// too."
)
@click.option("--species", multiple=True, help="Species; repeatable. Default: all.")
@click.option("--embedder", "embedders", multiple=True, help="Embedder; repeatable. Default: all.")
@click.option(
    "--profile",
    type=click.Choice(["local", "remote", "int8"]),
    help="zarr: how vectors are stored. local as built, remote compressed, int8 half the bytes.",
)
@click.option(
    "--per-bin",
    is_flag=True,
    help="parquet, npz, h5ad: every bin, not the mean over the bins of a region.",
)
@backend_option
@json_option
def export(
    store: Path | str, form: str, out: Path | str, species: tuple[str, ...], embedders: tuple[str, ...],
    profile: Profile | None, per_bin: bool, backend: BackendName | None, as_json: bool,
) -> None:  # fmt: skip
    """Write STORE anew: published to object storage, compressed, or as files of other tools.

    What is read is verified. A run that was stopped goes on where it was.
    """
    from dataclasses import asdict

    from featurestore.store.reader import open_store

    opened = open_store(store, backend=backend)
    progress = _Progress(as_json)
    if form != "zarr":
        if profile is not None:
            raise InputError("--profile says how a store is stored; it goes with --to zarr")
        if isinstance(out, str):
            raise InputError(f"--to {form} writes files here; name a folder with --out")
        from featurestore.export.tables import export_tables

        files = export_tables(
            opened,
            out,
            form,
            species=species,
            embedders=embedders,
            per_bin=per_bin,
            on_file=progress,
        )
        if as_json:
            echo_json([asdict(f) for f in files])
        else:
            for file in files:
                click.echo(
                    f"{file.file}: {file.rows:,} genes × {file.columns:,} columns, {file.bytes / 1e6:,.1f} MB"
                )
        return
    if per_bin:
        raise InputError("--per-bin is for tables; a store always holds every bin")
    from featurestore.export.publish import export_store

    done = export_store(
        opened, out, species=species, embedders=embedders, profile=profile, on_file=progress
    )
    if as_json:
        echo_json(asdict(done))
        return
    earlier = done.files - 1 - done.written
    click.echo(
        f"{done.target}: {done.files} files, {done.bytes / 1e6:,.1f} MB"
        + (f" ({earlier} were there from an earlier run)" if earlier else "")
    )
    click.echo(f"digest {done.digest}")
