"""``bench contributions``, ``links``: what models of long windows read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option
from featurestore.errors import InputError

_file = click.Path(path_type=Path, dir_okay=False)
_Command = Callable[..., Any]

METHODS = ("gradient_x_input", "integrated_gradients", "attention", "ablation", "shuffle")


def model_options(command: _Command) -> _Command:
    """Which model, which genes."""
    for option in reversed(
        [
            click.option("--model", required=True, metavar="M", help="Folder of a checkpoint, hub id, or a run of learner enformer."),
            click.option("--store", required=True, type=click.Path(path_type=Path), help="Store with the genome of the genes."),
            click.option("--fold", type=click.IntRange(min=0), help="Fold of a run whose model is meant.  [default: the only one]"),
            click.option("--gene", "gene", multiple=True, metavar="ID", help="Repeatable.  [default: all of the store]"),
            click.option("--genes", "gene_file", type=_file, metavar="FILE", help="Genes, one a line."),
            click.option("--species", multiple=True, metavar="NAME", help="Repeatable.  [default: all of the store]"),
            click.option("--contig", "contigs", multiple=True, metavar="NAME", help="Only genes of this contig; repeatable."),
            click.option("--tested", is_flag=True, help="Only genes under test in the fold of the run."),
            click.option("--most", type=click.IntRange(min=0), default=0, show_default=True, help="At most so many genes, drawn at random; 0 for all."),
            click.option("--track", "tracks", multiple=True, metavar="NAME", help="Track or target whose sum is explained; repeatable.  [default: all]"),
            click.option("--head", "heads", multiple=True, metavar="NAME", help="Head of the model; repeatable.  [default: those of the species]"),
            click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True, help="Of the products."),
            click.option("--device", help="cpu, cuda, cuda:1.  [default: cuda where there is one]"),
            click.option("--batch", type=click.IntRange(min=1), default=1, show_default=True, help="Windows at a time."),
            click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn: genes, shuffles, intervals."),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def choice_of(options: dict[str, Any]) -> Any:
    """Takes the options of :func:`model_options` out of those of a command."""
    from benchmarks.long_range.session import Choice

    named = list(options.pop("gene"))
    file: Path | None = options.pop("gene_file")
    if file is not None:
        named += [line.split()[0] for line in file.read_text().splitlines() if line.strip()]
    return Choice(
        options.pop("model"), options.pop("store"), options.pop("fold"),
        tuple(dict.fromkeys(named)), options.pop("species"), options.pop("contigs"),
        options.pop("tested"), options.pop("most"), options["seed"], options.pop("dtype"),
        options.pop("device"), options.pop("batch"),
    )  # fmt: skip


def need_genes(choice: Any) -> None:
    """Refuse to begin with all genes of a store where each takes long.

    Raises
    ------
    InputError
    """
    if not (choice.genes or choice.tested or choice.most or choice.contigs):
        raise InputError("whose TSS? Name genes with --gene or --genes, or draw some with --most")


def tell_all(session: Any, lines: Sequence[str]) -> None:
    """What was left out, what was found, and whether it is simulated."""
    for line in session.tally.sentences():
        click.echo(for_terminal(f"left out: {line}"), err=True)
    for line in session.notes:
        click.echo(for_terminal(f"note: {line}"), err=True)
    for line in lines:
        click.echo(for_terminal(line))
    if session.simulated:
        click.echo("SIMULATED data")


def progress(done: int, total: int) -> None:
    """One line that is written over."""
    if sys.stderr.isatty():
        click.echo(f"\r{done:,} of {total:,}", nl=done == total, err=True)


@click.command(short_help="What each base contributes to a prediction at a TSS.")
@model_options
@click.option("--method", type=click.Choice(METHODS), default=METHODS[0], show_default=True)
@click.option("--elements", "element_file", type=_file, metavar="BED", help="Elements whose contributions are told; needed by ablation and shuffle.")  # fmt: skip
@click.option("--baseline", type=click.Choice(["zeros", "shuffled"]), default="zeros", show_default=True, help="Of integrated gradients.")  # fmt: skip
@click.option("--steps", type=click.IntRange(min=2), default=50, show_default=True, help="Of integrated gradients.")  # fmt: skip
@click.option("--shuffles", type=click.IntRange(min=1), default=5, show_default=True, help="Shuffled copies that are averaged.")  # fmt: skip
@click.option("--region", metavar="CONTIG:START-END", help="Stretch that the logos show, 0-based half-open.  [default: the strongest]")  # fmt: skip
@click.option("--logo-width", type=click.IntRange(min=0), default=100, show_default=True, help="Bases of a logo; 0 draws none.")  # fmt: skip
@click.option("--zarr-dtype", type=click.Choice(["float16", "float32"]), default="float32", show_default=True)  # fmt: skip
@click.option("--bigwig/--no-bigwig", default=True, show_default=True, help="One file a gene.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results.")  # fmt: skip
@json_option
def contributions(out: Path, as_json: bool, **options: Any) -> None:
    """What each base contributes to a prediction at a TSS.

    Windows are centred on the TSS in transcript orientation; what is explained is the sum over the
    tracks of the mean of the three bins at the TSS.
    """
    from benchmarks.long_range.api import explain, parse_region
    from benchmarks.long_range.contributions import Asked
    from benchmarks.long_range.session import open_session

    choice = choice_of(options)
    asked = Asked(
        options["method"], options["tracks"], options["heads"], options["baseline"],
        options["steps"], options["shuffles"], options["seed"],
    )  # fmt: skip
    region = parse_region(options["region"]) if options["region"] else None
    need_genes(choice)
    session = open_session(choice)
    facts = explain(
        session, asked, out, element_file=options["element_file"], region=region,
        logo_width=options["logo_width"], zarr_dtype=options["zarr_dtype"],
        bigwig=options["bigwig"], tell=progress,
    )  # fmt: skip
    if as_json:
        echo_json(facts)
        return
    tell_all(session, [*facts["notes"], f"{out}: {facts['genes']:,} genes, {asked.method}"])


@click.command(short_help="Score gene-element pairs, against tested ones.")
@model_options
@click.option("--elements", "element_file", type=_file, metavar="BED", help="Candidate elements.  [default: those of --pairs]")  # fmt: skip
@click.option("--pairs", "pair_file", type=_file, metavar="TSV", help="Tested pairs: contig, start, end, gene, significant or label; perhaps species, effect.")  # fmt: skip
@click.option("--score", "scores", multiple=True, type=click.Choice([*METHODS, "mutagenesis"]), help="Repeatable.  [default: gradient_x_input, attention, ablation]")  # fmt: skip
@click.option("--around", type=click.IntRange(min=0), default=0, show_default=True, help="Gradients and attention over so many bp to either side of an element's middle; 0: its own bases. The paper has 1000.")  # fmt: skip
@click.option("--shuffles", type=click.IntRange(min=1), default=5, show_default=True, help="Shuffled copies that are averaged.")  # fmt: skip
@click.option("--activity", type=_file, metavar="BIGWIG", help="Measured activity of elements, for the ABC-like score.")  # fmt: skip
@click.option("--activity-track", metavar="NAME", help="Predicted track instead, such as accessibility.")  # fmt: skip
@click.option("--gamma", type=float, default=1.024, show_default=True, help="Contact falls by distance to that power.")  # fmt: skip
@click.option("--bins", "edges", metavar="BP,…", default="10000,30000,100000", show_default=True, help="Edges of the strata of distance.")  # fmt: skip
@click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Replicates behind the intervals, over genes.")  # fmt: skip
@click.option("--out", type=_file, required=True, help="Table of scores (.parquet); areas beside it as .json.")  # fmt: skip
@json_option
def links(out: Path, as_json: bool, **options: Any) -> None:
    """Score pairs of genes and candidate elements, and hold them against tested pairs.

    Beside the scores of the model stand those of distance alone and, with --activity or
    --activity-track, activity × contact as a share of the gene's elements.
    """
    from benchmarks.long_range.links import Asked, link
    from benchmarks.long_range.session import open_session

    choice = choice_of(options)
    if options["element_file"] is None and options["pair_file"] is None:
        raise InputError("give candidate elements with --elements, tested pairs with --pairs, or both")  # fmt: skip
    asked = Asked(
        options["scores"] or METHODS[:1] + METHODS[2:4], options["tracks"], options["heads"],
        options["around"], options["shuffles"], options["activity"], options["activity_track"],
        options["gamma"], numbers_of(options["edges"], "--bins"), options["bootstrap"],
        options["seed"],
    )  # fmt: skip
    session = open_session(choice)
    found = link(session, asked, options["element_file"], options["pair_file"], out, progress)
    if as_json:
        echo_json(found.as_json())
        return
    session.notes = found.notes
    tell_all(session, [*([found.text()] if found.areas else []), f"{out}: {found.rows:,} pairs"])  # fmt: skip


def numbers_of(text: str, option: str) -> tuple[int, ...]:
    """Whole numbers between commas.

    Raises
    ------
    InputError
    """
    try:
        return tuple(int(cell) for cell in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text!r}: give whole numbers, such as 10000,30000") from error
