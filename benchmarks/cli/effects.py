"""``bench effects``."""

from __future__ import annotations

from pathlib import Path

import click

from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option


@click.command(short_help="Hold scores of variants by tracks against measured ones.")
@click.argument("scores", type=click.Path(path_type=Path, exists=True))
@click.option(
    "--measured", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="TABLE",
    help="Variants by contig, pos (from 1), ref, alt, with a label or an effect.",
)  # fmt: skip
@click.option(
    "--task", type=click.Choice(["classify", "correlate"]),
    help="Causal against others, or agreement with effects.  [default: by the table's columns]",
)  # fmt: skip
@click.option("--label", metavar="COLUMN", help="1 or 0.  [default: label, causal]")
@click.option("--value", metavar="COLUMN", help="Effects.  [default: effect, value, beta, slope, log2_fold_change]")  # fmt: skip
@click.option("--group", metavar="COLUMN", help="Told apart.  [default: group, tissue, kind, element]")  # fmt: skip
@click.option("--block", metavar="COLUMN", help="What folds hold whole and intervals draw, such as LD blocks.  [default: block, ld_block]")  # fmt: skip
@click.option("--gene", metavar="COLUMN", help="Gene of an effect.  [default: gene]")
@click.option("--score", "names", multiple=True, metavar="NAME", help="Such as sad_tss; repeatable.  [default: all]")  # fmt: skip
@click.option("--track", "tracks", multiple=True, metavar="NAME", help="* for any letters; repeatable.  [default: all]")  # fmt: skip
@click.option("--abs", "absolute", is_flag=True, help="Classify by scores without their signs.")
@click.option("--trees", type=click.IntRange(min=1), default=100, show_default=True, help="Of the forest.")  # fmt: skip
@click.option("--folds", type=click.IntRange(min=2), default=8, show_default=True, help="At most.")
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Replicates behind the intervals.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for effects.json and effects.tsv.")  # fmt: skip
@json_option
def effects(
    scores: Path, measured: Path, task: str | None, label: str | None, value: str | None,
    group: str | None, block: str | None, gene: str | None, names: tuple[str, ...],
    tracks: tuple[str, ...], absolute: bool, trees: int, folds: int, bootstrap: int, seed: int,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Hold scores of variants by tracks against measured ones.

    SCORES is what fs score wrote as .zarr or .parquet, or the components beside it.
    """
    from benchmarks.effects.api import assess, write_assessed
    from benchmarks.effects.classify import Forest

    columns = {"label": label, "value": value, "group": group, "block": block, "gene": gene}
    how = Forest(trees, folds, absolute, bootstrap, seed)
    found = assess(scores, measured, task, columns=columns, names=names, tracks=tracks, how=how)
    if out is not None:
        write_assessed(found, out)
    if as_json:
        echo_json(found.as_json())
        return
    facts = found.facts
    told = " (SIMULATED data)" if facts["simulated"] else ""
    click.echo(
        f"{facts['n_joined']:,} of {facts['n_measured']:,} measured variants have scores{told}"
    )
    for one in found.left_out:
        shown = "; ".join(one["examples"])
        click.echo(
            for_terminal(f"  left out: {one['count']:,} × {one['reason']}, for example {shown}")
        )
    for note in found.notes:
        click.echo(for_terminal(f"  {note}"))
    click.echo(for_terminal(found.table()))
