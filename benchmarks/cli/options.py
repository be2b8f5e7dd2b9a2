"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

store_option = click.option(
    "--store", required=True, type=click.Path(path_type=Path), help="A store made by fs build."
)
split_option = click.option(
    "--split", default="families-5fold", show_default=True, metavar="SPLIT",
    help="families-<K>fold, leave-one-species-out, leave-one-chromosome-out, empres, "
    "random-<K>fold, 'species:TRAIN,…->TEST,…', file:PATH or a split.parquet.",
)  # fmt: skip
species_option = click.option(
    "--species", multiple=True, metavar="NAME",
    help="Only this species; may be given several times.  [default: all of the store]",
)  # fmt: skip
keep_families_option = click.option(
    "--keep-test-families", is_flag=True,
    help="By species or chromosome: keep training genes whose family is under test; the gate "
    "then refuses, unless --allow-leakage is given as well, and every result says so.",
)  # fmt: skip
runs_argument = click.argument("runs", type=click.Path(path_type=Path, exists=True))
