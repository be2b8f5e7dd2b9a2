"""``bench mutagenesis``, and what ``bench run --task mutagenesis`` takes besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click

from benchmarks.cli.options import species_option
from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option
from featurestore.errors import InputError

TASK: Final = "mutagenesis"
ZERO_SHOT: Final = "zero-shot@"
_file = click.Path(path_type=Path, dir_okay=False)
_Command = Callable[..., Any]


def gene_options(command: _Command) -> _Command:
    """``--gene``, ``--genes``, ``--mutate``: which changes are scored."""
    for option in reversed(
        [
            click.option("--gene", "gene", multiple=True, metavar="ID",
                         help="Mutagenesis: score the changes of this gene; repeatable."),
            click.option("--genes", "gene_file", type=_file, metavar="FILE",
                         help="Mutagenesis: the genes, one a line."),
            click.option("--mutate", multiple=True, metavar="REGION[:START-END]",
                         help="Mutagenesis: bases to change, bp from the anchor of a region, e.g. "
                         "promoter:-200-50; repeatable.  [default: all regions whole]"),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


@click.command(short_help="Score every single-base change of genes or elements.")
@click.option(
    "--model", "models", multiple=True, type=click.Path(path_type=Path, exists=True), metavar="RUN",
    help="A finished run whose models score; repeatable.",
)  # fmt: skip
@click.option(
    "--zero-shot", "zero_shot", multiple=True, metavar="EMBEDDER[=DIR]",
    help="An embedder of the store, or a type, that scores variants without training; with its weights.",
)  # fmt: skip
@click.option("--store", type=click.Path(path_type=Path), help="Store of the genes.")
@gene_options
@species_option
@click.option(
    "--sequences", type=_file, metavar="FASTA", help="Elements to change, instead of genes."
)
@click.option(
    "--measured", type=_file, metavar="TABLE", help="Measured effects of variants of the elements."
)
@click.option(
    "--value", "values", multiple=True, metavar="COLUMN", help="Column of effects; repeatable."
)
@click.option("--min-confidence", type=float, help="Leave out measurements below it.")
@click.option(
    "--place", default="", metavar="REGION[:START]",
    help="Where in the regions of a run elements stand; START in bp from the anchor.",
)  # fmt: skip
@click.option(
    "--background", "backgrounds", multiple=True, metavar="GENE",
    help="Put elements into this gene of --store; several are averaged.  [default: N around them]",
)  # fmt: skip
@click.option(
    "--checkpoint", "checkpoints", multiple=True, metavar="NAME=DIR",
    help="Where the weights of an embedder of a run lie.",
)  # fmt: skip
@click.option(
    "--learner", metavar="MODULE:CLASS", help="Class of a learner that is not registered."
)
@click.option("--device", help="Device of embedders and models: cpu, cuda, cuda:1.")
@click.option(
    "--bootstrap", type=click.IntRange(min=0), default=1000, show_default=True,
    help="Replicates behind the intervals, over positions.",
)  # fmt: skip
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write.",
)
@json_option
def mutagenesis(
    models: tuple[Path, ...], zero_shot: tuple[str, ...], store: Path | None, out: Path,
    learner: str | None, device: str | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Score every single-base change, by trained runs and without training.

    Of genes of a store (--store, --gene), each by the models that have not learned from it; or of
    elements of a FASTA file (--sequences), held against measured effects (--measured).
    """
    from benchmarks.cli.predict import named_folders
    from benchmarks.mutagenesis.api import Scorers
    from benchmarks.mutagenesis.results import write_results
    from benchmarks.predict.trained import TrainedRun
    from benchmarks.report.mutagenesis import write_page
    from benchmarks.runs.progress import Progress

    _one_kind(store, options)
    scorers = Scorers(
        [TrainedRun(path, learner) for path in models], parse_zero_shot(zero_shot),
        named_folders(options["checkpoints"]), device,
    )  # fmt: skip
    progress = Progress(0, each="step")
    if options["sequences"]:
        scored = _elements(scorers, store, options, progress)
    else:
        scored = _genes(scorers, store, options, progress)
    labels = [*scorers.labels, *(f"{ZERO_SHOT}{name}" for name in scorers.zero_shot)]
    about = {
        "runs": [run.name for run in scorers.runs], "zero_shot": sorted(scorers.zero_shot),
        "simulated": scorers.simulated, "notes": scored.notes,
    }  # fmt: skip
    write_results(out, scored.table, about, scored.measured, scored.agreement)
    page = write_page(out, ", ".join(labels), scored.notes, simulated=scorers.simulated)
    _tell(scored, out, page, about, as_json)


def _one_kind(store: Path | None, options: dict[str, Any]) -> None:
    of_genes = bool(options["gene"] or options["gene_file"] or options["mutate"])
    if options["sequences"] and of_genes:
        raise InputError(
            "--gene, --genes and --mutate are of a store; leave them out with --sequences"
        )
    if not options["sequences"]:
        if store is None:
            raise InputError("give --store with --gene, or --sequences")
        alone = [
            k
            for k in ("measured", "values", "min_confidence", "place", "backgrounds")
            if options[k]
        ]
        if alone:
            raise InputError(
                f"--{alone[0].rstrip('s').replace('_', '-')} goes with --sequences. Measurements of a region of a "
                "gene: give its bases as FASTA (>NAME chr1:1001-1200 where positions are those of a chromosome), "
                "and put them where they stand with --place REGION:START --background GENE"
            )
    if options["backgrounds"] and store is None:
        raise InputError("--background names genes of a store: give --store")


def asked_of(gene: Sequence[str], gene_file: Path | None, mutate: Sequence[str], species: Sequence[str]) -> Any:  # fmt: skip
    """What of a store is to be scored.

    Raises
    ------
    InputError
        If a span is not one.
    """
    from benchmarks.mutagenesis.changes import parse_span
    from benchmarks.mutagenesis.genes import Asked

    named = list(gene)
    if gene_file is not None:
        named += [line.split()[0] for line in gene_file.read_text().splitlines() if line.strip()]
    return Asked(tuple(dict.fromkeys(named)), tuple(map(parse_span, mutate)), tuple(species))


def parse_zero_shot(texts: Sequence[str]) -> dict[str, str | None]:
    """``EMBEDDER`` or ``EMBEDDER=DIR``."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not name or (equals and not folder):
            raise InputError(f"--zero-shot {text!r}: write EMBEDDER or EMBEDDER=DIR")
        found[name] = folder or None
    return found


def _genes(scorers: Any, store: Path | None, options: dict[str, Any], progress: Any) -> Any:
    from benchmarks.mutagenesis.api import saturate_genes
    from featurestore.store.reader import open_store

    assert store is not None  # noqa: S101 - seen to above
    asked = asked_of(options["gene"], options["gene_file"], options["mutate"], options["species"])
    return saturate_genes(open_store(store), asked, scorers, progress)


def _elements(scorers: Any, store: Path | None, options: dict[str, Any], progress: Any) -> Any:
    from benchmarks.mutagenesis.api import saturate_elements
    from benchmarks.mutagenesis.elements import parse_place
    from benchmarks.mutagenesis.measured import read_measured, read_references

    references = read_references(options["sequences"])
    measured = None
    if options["measured"]:
        measured = read_measured(
            options["measured"], references, values=options["values"],
            min_confidence=options["min_confidence"],
        )  # fmt: skip
    backgrounds = None
    if options["backgrounds"]:
        from benchmarks.mutagenesis.genes import background_codes
        from featurestore.store.reader import open_store

        assert store is not None  # noqa: S101 - seen to above
        backgrounds = background_codes(open_store(store), options["backgrounds"], scorers.runs)
    return saturate_elements(
        {name: one.sequence for name, one in references.items()}, scorers, progress,
        measured=measured, place=parse_place(options["place"]), backgrounds=backgrounds,
        bootstrap=options["bootstrap"],
    )  # fmt: skip


def _tell(scored: Any, out: Path, page: Path, about: dict[str, Any], as_json: bool) -> None:
    facts = {"path": str(out), "page": str(page), "rows": len(scored.table), **about}
    if scored.agreement is not None:
        facts["agreement"] = scored.agreement.to_dict("records")
    if as_json:
        echo_json(facts)
        return
    for note in scored.notes:
        click.echo(for_terminal(f"note: {note}"), err=True)
    if scored.agreement is not None:
        wide = scored.agreement[scored.agreement["metric"].isin(["pearson", "spearman"])]
        for row in wide.itertuples(index=False):
            click.echo(for_terminal(
                f"{row.learner}  {row.scope}  {row.condition}  {row.variants}  {row.metric} "
                f"{row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]  n {row.n}"
            ))  # fmt: skip
    told = " (trained on SIMULATED data)" if about["simulated"] else ""
    click.echo(for_terminal(f"{page}: {len(scored.table):,} scores{told}"))


def take_saturation(options: dict[str, Any]) -> tuple[Any, dict[str, str | None]] | None:
    """Takes out of the options of ``bench run`` what is of task ``mutagenesis`` alone.

    Returns
    -------
    what is asked for, and models that score without training; None for another task

    Raises
    ------
    InputError
        If such an option is given for another task, or no gene or no learner is named.
    """
    gene, file, mutate = (options.pop(key) for key in ("gene", "gene_file", "mutate"))
    zero = [x.removeprefix(ZERO_SHOT) for x in options["learners"] if x.startswith(ZERO_SHOT)]
    if options["task"] != TASK:
        if gene or file or mutate or zero:
            what = "--gene, --genes and --mutate" if gene or file or mutate else "zero-shot@…"
            raise InputError(f"{what}: of --task {TASK} alone; this is --task {options['task']}")
        return None
    asked = asked_of(gene, file, mutate, options["species"])
    if not asked.genes:
        raise InputError(f"--task {TASK}: name the genes to change with --gene ID or --genes FILE")
    options["learners"] = tuple(x for x in options["learners"] if not x.startswith(ZERO_SHOT))
    if not options["learners"]:
        raise InputError(
            "zero-shot alone trains nothing, so there is no run: use bench mutagenesis --store S "
            f"--zero-shot {zero[0] if zero else 'EMBEDDER'} --gene ID --out DIR"
        )
    return asked, parse_zero_shot(zero)


def saturate(store: Any, taken: tuple[Any, dict[str, str | None]], outcomes: Sequence[Any], asked_learners: Sequence[str], device: str) -> None:  # fmt: skip
    """Score the changes by each finished run of ``bench run``, into its folder."""
    from benchmarks.mutagenesis.api import saturate_runs
    from benchmarks.runs.progress import Progress
    from learners.registry import get_learner

    classes = {
        get_learner(name).info.name: name
        for text in asked_learners if ":" in (name := text.partition("@")[0])
    }  # fmt: skip
    done = [one for one in outcomes if one.state != "failed"]
    learners = {
        one.path: classes[name]
        for one in done if (name := one.label.partition("@")[0]) in classes
    }  # fmt: skip
    notes = saturate_runs(
        store, [one.path for one in done], taken[0], taken[1], learners=learners, device=device,
        progress=Progress(0, each="step"),
    )  # fmt: skip
    for note in notes:
        click.echo(for_terminal(f"note: {note}"), err=True)
