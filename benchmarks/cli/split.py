"""``bench split`` and ``bench audit``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.cli.options import keep_families_option, species_option, split_option, store_option
from featurestore.cli.common import echo_json, json_option


@click.command(short_help="Make a split and write it as an artefact.")
@store_option
@split_option
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Repeats, made with seeds 0 … N − 1.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("split.parquet"),
    show_default=True,
    help="Where to write it.",
)
@species_option
@keep_families_option
@json_option
def split(
    store: Path, split: str, repeats: int, out: Path, species: tuple[str, ...],
    keep_test_families: bool, as_json: bool,
) -> None:  # fmt: skip
    """Make a split, say how its folds look and whether a family stands on two sides, write it."""
    from benchmarks.inputs.genes import choose_species, gene_frame
    from benchmarks.splits.artefact import write_split
    from benchmarks.splits.files import load_split
    from benchmarks.splits.leakage import gate
    from featurestore.store.reader import open_store

    opened = open_store(store)
    genes = gene_frame(opened, choose_species(opened, species))
    made = load_split(split, genes, seeds=range(repeats), keep_test_families=keep_test_families)
    leakage = gate(made, genes, allow=True)
    write_split(made, out)
    facts: dict[str, Any] = {
        "path": str(out), "name": made.name, "digest": made.digest, "recipe": made.recipe,
        "folds": _fold_sizes(made), "leaks": leakage.leaks, "leakage": leakage.text(),
        "notes": made.notes,
    }  # fmt: skip
    if as_json:
        echo_json(facts)
        return
    click.echo(f"{made.name}  digest {made.digest[:8]}  written to {out}")
    for row in facts["folds"]:
        click.echo(
            f"  repeat {row['repeat']}  fold {row['fold']}  {row['genes']:>8,} genes"
            f"  {row['families']:>8,} families  {row['name']}".rstrip()
        )
    click.echo(leakage.text())
    for note in made.notes:
        click.echo(f"note: {note}", err=True)


def _fold_sizes(made: Any) -> list[dict[str, Any]]:
    names = made.recipe.get("fold_names", {})
    table = made.table
    if "role" in table:
        table = table[table["role"] == "test"]
    return [
        {
            "repeat": int(repeat), "fold": int(fold), "genes": len(part),
            "families": int(part["family"].nunique()), "name": names.get(str(fold), ""),
        }
        for (repeat, fold), part in table.groupby(["repeat", "fold"])
    ]  # fmt: skip


@click.command(short_help="Overlapping windows and shared sequence across the sides of a split.")
@store_option
@split_option
@click.option(
    "--runs",
    type=click.Path(path_type=Path, exists=True),
    help="A run or a folder of runs: audit their own splits, give scores with and without the "
    "genes concerned, and note both in run.json.",
)
@species_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the genes concerned, as TSV or Parquet by its ending.",
)
@json_option
def audit(
    store: Path, split: str, runs: Path | None, species: tuple[str, ...], out: Path | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Measure what the leakage gate does not refuse.

    Windows of neighbouring genes that overlap across the sides of a fold, and genes half or more
    of whose sampled 31-mers recur on the training side.
    """
    from benchmarks.inputs.genes import choose_species, gene_frame
    from benchmarks.runs.files import read_runs
    from benchmarks.scores.audit_runs import audit_runs
    from benchmarks.splits.files import load_split
    from benchmarks.splits.leakage import audit as measure
    from featurestore.store.reader import open_store

    opened = open_store(store)
    if runs is not None:
        facts = audit_runs(opened, read_runs(runs))
        if as_json:
            echo_json(facts)
        else:
            _tell_runs(facts)
        return
    chosen = choose_species(opened, species)
    genes = gene_frame(opened, chosen)
    report = measure(opened, chosen, genes, load_split(split, genes))
    if out is not None:
        _write(report, out)
    if as_json:
        echo_json(report.summary())
    else:
        _tell_audit(report.summary())


def _write(report: Any, out: Path) -> None:
    from benchmarks.splits.leakage import CONTAINMENT

    table = report.concerned
    table = table[table["family"] | (table["overlap"] > 0) | (table["identity"] >= CONTAINMENT)]
    if out.suffix == ".parquet":
        table.to_parquet(out, index=False)
    else:
        table.to_csv(out, sep="\t", index=False)


_WORDS = {
    "family": "have a relative on another side",
    "overlap": "have a window that overlaps one on another side",
    "identity": "share half or more of their sampled 31-mers with another side",
}


def _tell_audit(facts: dict[str, Any]) -> None:
    click.echo(f"{facts['tested']:,} genes under test")
    for reason, found in facts["reasons"].items():
        examples = f" ({', '.join(found['examples'])} …)" if found["examples"] else ""
        click.echo(f"  {found['genes']:>8,}  {found['fraction']:6.1%}  {_WORDS[reason]}{examples}")
    apart = facts["reasons"]["identity"]["without_overlap"]
    click.echo(f"  {apart:>8,}          of these with no window that overlaps")
    for note in facts["notes"]:
        click.echo(f"note: {note}", err=True)


def _tell_runs(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        click.echo(f"{row['label']}  {row['run']}")
        if "scores" not in row:
            click.echo(f"  {row['status']}: nothing to score")
            continue
        _tell_audit(row)
        for score in row["scores"]:
            if score["metric"] in ("r2", "pearson"):
                few = "–" if score["without"] is None else f"{score['without']:.3f}"
                mask, what = (f"{score['mask']}: ", "entries") if "mask" in score else ("", "genes")
                click.echo(
                    f"  {mask}{score['metric']} {score['all']:.3f} of {score['n_all']:,} {what}, {few} of "
                    f"the {score['n_without']:,} without those concerned by {score['reason']}"
                )
