"""``bench saturate``, ``context``, ``signs``: mutagenesis and controls of models of long windows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from benchmarks.cli.long_range import (
    choice_of,
    model_options,
    need_genes,
    numbers_of,
    progress,
    tell_all,
)
from benchmarks.text import number
from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option
from featurestore.errors import InputError

_file = click.Path(path_type=Path, dir_okay=False)
_bootstrap = click.option("--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True, help="Replicates behind the intervals.")  # fmt: skip


@click.command(short_help="Every single-base change of elements, by a model of long windows.")
@model_options
@click.option("--elements", "element_file", type=_file, metavar="BED", help="Elements of the genome to change.")  # fmt: skip
@click.option("--region", metavar="CONTIG:START-END", help="One stretch instead, 0-based half-open.")  # fmt: skip
@click.option("--sequences", type=_file, metavar="FASTA", help="Elements of an assay, put into the windows of the genes.")  # fmt: skip
@click.option("--at", type=int, default=-100, show_default=True, help="Where --sequences end, bp from the TSS.")  # fmt: skip
@click.option("--empty", is_flag=True, help="N around --sequences in place of the gene's bases.")
@click.option("--measured", type=_file, metavar="TABLE", help="Measured effects of variants of --sequences.")  # fmt: skip
@click.option("--value", "values", multiple=True, metavar="COLUMN", help="Column of effects; repeatable.")  # fmt: skip
@click.option("--shifts", default="0", show_default=True, metavar="BP,…", help="Windows so moved are averaged.")  # fmt: skip
@click.option("--rc", is_flag=True, help="Average with the reverse complement.")
@_bootstrap
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder of the results.")  # fmt: skip
@json_option
def saturate(out: Path, as_json: bool, **options: Any) -> None:
    """Every single-base change of elements, by what it does at the TSS of the genes.

    A run that was stopped goes on where it was when it is started again.
    """
    chosen = [k for k in ("element_file", "region", "sequences") if options[k]]
    if len(chosen) != 1:
        raise InputError("give one of --elements, --region and --sequences")
    if options["measured"] and not options["sequences"]:
        raise InputError("--measured goes with --sequences")
    if options["sequences"] and (options["rc"] or options["shifts"] != "0"):
        raise InputError("--rc and --shifts go with elements of the genome")
    choice = choice_of(options)
    need_genes(choice)
    found = _placed(choice, options, out) if options["sequences"] else _genomic(choice, options, out)  # fmt: skip
    session, facts = found
    from benchmarks.report.mutagenesis import write_page

    page = write_page(out, "enformer", [*session.notes, *session.tally.sentences()], simulated=session.simulated)  # fmt: skip
    facts["page"] = str(page)
    if as_json:
        echo_json(facts)
        return
    tell_all(session, [*facts["lines"], f"{page}: {facts['changes']:,} changes"])


def _genomic(choice: Any, options: dict[str, Any], out: Path) -> tuple[Any, dict[str, Any]]:
    from benchmarks.long_range.api import parse_region
    from benchmarks.long_range.genes import Element, Reading, read_elements
    from benchmarks.long_range.saturation import Asked
    from benchmarks.long_range.saturation import saturate as run
    from benchmarks.long_range.session import open_session

    if options["region"]:
        contig, start, end = parse_region(options["region"])
        elements = [Element(contig, start, end, options["region"])]
    else:
        elements = read_elements(options["element_file"])
    turned = (False, True) if options["rc"] else (False,)
    shifts = numbers_of(options["shifts"], "--shifts")
    readings = tuple(Reading(shift, reverse) for shift in shifts for reverse in turned)
    session = open_session(choice)
    found = run(session, elements, Asked(options["tracks"], options["heads"], readings), out, progress)  # fmt: skip
    changes = sum(int((one.codes < 4).sum()) * 3 for one in found)
    facts = {**session.facts(), "elements": len(found), "changes": changes, "out": str(out), "lines": []}  # fmt: skip
    return session, facts


def _placed(choice: Any, options: dict[str, Any], out: Path) -> tuple[Any, dict[str, Any]]:
    from benchmarks.long_range.placed import agreement_of, score_placed
    from benchmarks.long_range.session import open_session
    from benchmarks.mutagenesis.measured import read_measured, read_references
    from benchmarks.mutagenesis.results import write_results

    references = read_references(options["sequences"])
    measured = None
    if options["measured"]:
        measured = read_measured(options["measured"], references, values=options["values"], min_confidence=None)  # fmt: skip
    session = open_session(choice)
    table = score_placed(
        session, {name: one.sequence for name, one in references.items()},
        None if measured is None else measured.table, options["at"], options["tracks"],
        options["heads"], empty=options["empty"], tell=progress,
    )  # fmt: skip
    held = found = None
    if measured is not None:
        held, found = agreement_of(table, measured, options["bootstrap"], options["seed"])
    facts = {**session.facts(), "at": options["at"], "empty": options["empty"], "tracks": list(options["tracks"])}  # fmt: skip
    write_results(out, table, facts, held, found)
    lines = [] if found is None else [
        f"{r.scope}  {r.condition}  {r.variants}  {r.metric} {number(r.value)} "
        f"[{number(r.ci_low)}, {number(r.ci_high)}]  n {r.n}"
        for r in found[found["metric"].isin(["pearson", "spearman"])].itertuples(index=False)
    ]  # fmt: skip
    return session, {**facts, "changes": len(table), "out": str(out), "lines": lines}


@click.command(short_help="Predictions from the middle of the window alone.")
@model_options
@click.option("--lengths", metavar="BP,…", default="2000,5000,10000,20000,50000,100000,196608", show_default=True, help="Bases kept around the TSS.")  # fmt: skip
@click.option("--rest", type=click.Choice(["n", "shuffled"]), default="n", show_default=True, help="What stands in the place of the rest: N, or the rest shuffled.")  # fmt: skip
@click.option("--measured-tracks", type=_file, metavar="TSV", help="Table of measured tracks.  [default: what the run measured]")  # fmt: skip
@_bootstrap
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for context.tsv, predictions.tsv, context.svg, context.png.")  # fmt: skip
@json_option
def context(out: Path, as_json: bool, **options: Any) -> None:
    """How well predictions from the middle of the window agree with those from all of it.

    And with what was measured: of a run at its genes under test, or of --measured-tracks.
    """
    from benchmarks.long_range import context as module
    from benchmarks.long_range.outputs import check_folder, write_about
    from benchmarks.long_range.session import open_session

    asked = module.Asked(
        options["tracks"], options["heads"], numbers_of(options["lengths"], "--lengths"),
        options["rest"], options["bootstrap"], options["seed"],
    )  # fmt: skip
    check_folder(out)
    session = open_session(choice_of(options))
    measured = None
    if options["measured_tracks"] is not None:
        measured = module.measured_of_tracks(options["measured_tracks"], session, asked.tracks)
    elif session.opened.run is not None:
        measured = module.measured_of_run(session.opened, asked.tracks)
    table = module.predict_kept(session, asked, progress)
    found = module.curve(table, measured, bootstrap=asked.bootstrap, seed=asked.seed)
    out.mkdir(parents=True, exist_ok=True)
    facts = {**session.facts(), "rest": asked.rest, "tracks": list(asked.tracks)}
    write_about(out, facts)
    table.to_csv(out / "predictions.tsv", sep="\t", index=False)
    found.to_csv(out / "context.tsv", sep="\t", index=False)
    if len(found):
        for ending in ("svg", "png"):
            module.draw_curve(out / f"context.{ending}", found, asked.rest, simulated=session.simulated)  # fmt: skip
    if as_json:
        echo_json({**facts, "rows": found.to_dict("records")})
        return
    tell_all(session, [module.text(found), str(out)])


@click.command(short_help="Do predicted effects of alleles have the measured sign?")
@click.argument("table", type=click.Path(path_type=Path, exists=True))
@click.option("--measured", "measured", metavar="COLUMN", default="measured", show_default=True, help="Measured effect.")  # fmt: skip
@click.option("--predicted", metavar="COLUMN", default="predicted", show_default=True, help="Predicted effect.")  # fmt: skip
@click.option("--gene", "gene", metavar="COLUMN", default="gene", show_default=True, help="Gene of the allele.")  # fmt: skip
@click.option("--scores", type=click.Path(path_type=Path, exists=True), help="What fs score wrote; TABLE then holds measured effects by contig, pos, ref, alt.")  # fmt: skip
@click.option("--score", "names", multiple=True, metavar="NAME", help="Of --scores, such as sad_tss; repeatable.  [default: all]")  # fmt: skip
@click.option("--track", "tracks", multiple=True, metavar="NAME", help="Of --scores; repeatable.  [default: all]")  # fmt: skip
@click.option("--most-genes", type=click.IntRange(min=0), default=20, show_default=True, help="Genes shown; the file holds all.")  # fmt: skip
@_bootstrap
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=_file, metavar="TSV", help="File for all rows.")
@json_option
def signs(
    table: Path, measured: str, predicted: str, gene: str, scores: Path | None,
    names: tuple[str, ...], tracks: tuple[str, ...], most_genes: int, bootstrap: int, seed: int,
    out: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Share of alleles whose predicted effect has the measured sign, pooled and by gene.

    TABLE: one row per allele with its gene, its predicted and its measured effect.
    """
    import pandas as pd

    from benchmarks.long_range.signs import Names, from_scores, read_alleles, sign_test, text

    if scores is not None:
        parts = from_scores(scores, table, names, tracks)
    else:
        parts = [("", *read_alleles(table, Names(predicted, measured, gene)))]
    found = pd.concat(
        [
            sign_test(p, m, genes, bootstrap=bootstrap, seed=seed).assign(score=label)
            for label, p, m, genes in parts
        ],
        ignore_index=True,
    )
    if out is not None:
        found.to_csv(out, sep="\t", index=False)
    if as_json:
        echo_json(found.to_dict("records"))
        return
    click.echo(for_terminal(text(found, most_genes)))
