"""``fs init`` and ``fs families``."""

from __future__ import annotations

from pathlib import Path

import click

from featurestore.cli.common import echo_json, json_option


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the simulator.")
@click.option(
    "--world",
    type=click.Choice(["promoters", "long-range"]),
    default="promoters",
    show_default=True,
    help="What regulates the simulated genes: their promoters and terminators, or also enhancers 5 to 80 kb away.",
)
@click.option(
    "--genes",
    type=click.IntRange(min=20),
    show_default="600 of each species; long-range: 1200 of both",
    help="Genes.",
)
@click.option(
    "--lines",
    type=click.IntRange(min=0),
    show_default="24; long-range has none",
    help="Mutant lines.",
)
@click.option("--overwrite", is_flag=True, help="Write into a folder that is not empty.")
@json_option
def init(
    folder: Path,
    seed: int,
    world: str,
    genes: int | None,
    lines: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write a commented dataset.toml and a SIMULATED two-species sample into FOLDER, truth beside it."""
    from dataclasses import asdict

    from featurestore.sample import SampleSummary, write_sample
    from featurestore.sample.long_range import LongRangeSummary, write_long_range

    summary: SampleSummary | LongRangeSummary
    if world == "long-range":
        if lines:
            raise click.UsageError("--lines: the long-range world has no mutant lines")
        summary = write_long_range(folder, seed=seed, genes=genes or 1200, overwrite=overwrite)
    else:
        lines = 24 if lines is None else lines
        summary = write_sample(
            folder, seed=seed, genes=genes or 600, lines=lines, overwrite=overwrite
        )
    if as_json:
        echo_json(asdict(summary))
        return
    click.echo(str(summary))
    click.echo(f"next: fs build {folder / 'dataset.toml'} --store {folder / 'store.zarr'}")


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="Table gene, family to write.",
)
@click.option(
    "--identity",
    type=click.FloatRange(0, 1),
    default=0.3,
    show_default=True,
    help="Least protein identity.",
)
@click.option(
    "--coverage",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Least coverage of both proteins.",
)
@json_option
def families(dataset: Path, out: Path, identity: float, coverage: float, as_json: bool) -> None:
    """Make gene families jointly over all species of DATASET with MMseqs2, from their proteins."""
    from dataclasses import asdict

    from featurestore.cli.build import dataset_file
    from featurestore.inputs.dataset import load_config
    from featurestore.inputs.orthology import make_families

    config = load_config(dataset_file(dataset))
    made = make_families(config, out, min_identity=identity, coverage=coverage)
    if as_json:
        echo_json(asdict(made))
        return
    for note in made.notes:
        click.echo(note)
    genes = sum(len(family) for family in made.family.values())
    click.echo(
        f"{out}: {genes:,} genes in {made.families:,} families; name it as families in {config.path}"
    )
