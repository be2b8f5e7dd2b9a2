"""``fs import``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featurestore.cli.common import BuiltPlace, echo_json, json_option
from featurestore.inputs.problems import printable


def _window(_: click.Context, __: click.Parameter, text: str) -> tuple[int, int]:
    """Parse OUTSIDE:INSIDE."""
    outside, colon, inside = text.partition(":")
    if not (colon and outside.isdigit() and inside.isdigit()):
        raise click.BadParameter(f"{text!r}: give bp outside and inside, such as 4000:1000")
    return int(outside), int(inside)


@click.command("import")
@click.argument("kind", type=click.Choice(["phytoexpr", "empres"]))
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the data set to write.  [default: beside --store, its name with -dataset]",
)
@click.option("--store", type=BuiltPlace(), help="Also build this store from it.")
@click.option(
    "--table",
    type=click.Path(path_type=Path, dir_okay=False),
    help="empres: PhytoExpr's data.csv, which tells the species of each gene.",
)
@click.option(
    "--species-name",
    "names",
    multiple=True,
    metavar="CODE=NAME",
    help="Name of a species by its code; repeatable.  [default: inferred from the code]",
)
@click.option(
    "--window",
    default="4000:1000",
    show_default=True,
    callback=_window,
    help="phytoexpr: bp outside and inside of the transcribed part, at TSS and TTS.",
)
@click.option(
    "--unit", default="TPM", show_default=True, help="empres: unit of TPM.npy, e.g. log10(1+TPM)."
)
@json_option
def imports(
    kind: str, source: Path, out: Path | None, store: Path | None, table: Path | None,
    names: tuple[str, ...], window: tuple[int, int], unit: str, as_json: bool,
) -> None:  # fmt: skip
    """Make a data set of a published deposit: PhytoExpr's data.csv, or the folder of EMPRES's arrays.

    Rows that cannot be used are told, and listed in dropped.tsv with their reasons. With --store
    the store is built as well, as fs build would.
    """
    from featurestore.inputs.deposits.species_codes import parse_names

    if out is None and store is None:
        raise click.UsageError("give --out FOLDER, or --store STORE, or both")
    folder = out or store.with_name(f"{store.name.removesuffix('.zarr')}-dataset")  # type: ignore[union-attr]
    if kind == "phytoexpr":
        from featurestore.inputs.deposits.phytoexpr import import_phytoexpr

        made = import_phytoexpr(source, folder, names=parse_names(names), window_bp=window)
    else:
        from featurestore.inputs.deposits.empres import import_empres

        made = import_empres(source, folder, table=table, names=parse_names(names), unit=unit)
    result = None
    if store is not None:
        from featurestore.build.engine import build

        result = build(made.dataset, store, say=lambda line: click.echo(line, err=True))
    _tell(made, result, as_json)


def _tell(made: Any, result: Any, as_json: bool) -> None:
    if as_json:
        echo_json(
            {
                "dataset": str(made.dataset), "genes": made.genes, "dropped": made.dropped.count,
                "notes": made.notes, "store": None if result is None else str(result.store),
                "digest": None if result is None else result.digest,
            }
        )  # fmt: skip
        return
    for name, count in sorted(made.genes.items()):
        click.echo(printable(f"{name:<28} {count:>9,} genes"))
    for note in made.notes:
        click.echo(printable(note))
    click.echo(f"written: {made.dataset}")
    if result is None:
        click.echo(f"next: fs build {made.dataset} --store STORE")
    else:
        click.echo(f"built: {result.store}, {result.shards} shards, digest {result.digest[:8]}")
