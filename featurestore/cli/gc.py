"""``fs gc``."""

from __future__ import annotations

from pathlib import Path

import click

from featurestore.cli.common import BuiltPlace, echo_json, json_option
from featurestore.inputs.problems import printable


@click.command()
@click.argument("store", type=BuiltPlace())
@click.option("--dry-run", is_flag=True, help="Only tell what would be removed.")
@click.option(
    "--work-area", is_flag=True,
    help="Also remove the work area of an unfinished build: its finished shards are lost.",
)  # fmt: skip
@click.option(
    "--unseen", is_flag=True,
    help="Also remove replaced stores where the file system cannot tell whether somebody reads them.",
)  # fmt: skip
@json_option
def gc(store: Path, dry_run: bool, work_area: bool, unseen: bool, as_json: bool) -> None:
    """Remove what builds of STORE left behind and nothing refers to any more.

    These are stores that were replaced while somebody read them, and what builds that were killed
    did not clean up. What is in use stays, and so does what is not of this project.
    """
    from featurestore.build.sealing.collect import collect

    found = collect(store, dry_run=dry_run, work_area=work_area, unseen=unseen)
    if as_json:
        echo_json(found.facts())
        return
    done = "would be removed" if dry_run else "removed"
    for item in found.items:
        fate = done if item.removed else f"stays: {item.why}"
        click.echo(printable(f"{item.path}: {item.what}, {item.bytes / 1e6:,.1f} MB; {fate}"))
    click.echo(f"{found.freed / 1e6:,.1f} MB {'would be ' if dry_run else ''}freed")
