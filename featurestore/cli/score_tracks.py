"""What ``fs score`` takes besides where a model predicts tracks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click

from featurestore.cli.common import echo_json
from featurestore.errors import InputError

_Command = Callable[..., Any]

SCORES: Final = ("sad", "sar", "geosad", "l2")
AGGREGATIONS: Final = ("sum", "mean", "tss")
DEFAULTS: Final[dict[str, Any]] = {
    "heads": (), "tracks": (), "scores": (), "aggregations": (), "window": None, "shifts": None,
    "rc": False, "share": None, "genes": (), "orientation": None, "pca": None, "max_gb": None,
}  # fmt: skip
"""Options of tracks, as they are where nobody gave them."""


def track_options(command: _Command) -> _Command:
    """Options of models that predict tracks."""
    for option in reversed(
        [
            click.option("--heads", multiple=True, metavar="NAME",
                         help="Tracks: score this head; repeatable.  [default: those of the species]"),
            click.option("--tracks", multiple=True, metavar="NAME",
                         help="Tracks: score this track, * for any letters; repeatable.  [default: all]"),
            click.option("--score", "scores", multiple=True, type=click.Choice(SCORES),
                         help="Tracks: what is computed; repeatable.  [default: sad]"),
            click.option("--agg", "aggregations", multiple=True, type=click.Choice(AGGREGATIONS),
                         help="Tracks: over bins; tss: the three at the TSS; repeatable.  [default: sum; "
                         "tss with --window gene]"),
            click.option("--window", type=click.Choice(["variant", "gene"]),
                         help="Tracks: centred on the variant, or on the TSS of each gene near it.  "
                         "[default: variant]"),
            click.option("--shifts", metavar="BP,…",
                         help="Tracks: average windows moved by so many bp, e.g. -3,0,3.  [default: 0]"),
            click.option("--rc", is_flag=True, help="Tracks: average with the reverse complement."),
            click.option("--share", type=click.IntRange(min=0), metavar="BP",
                         help="Tracks: one window for the variants of each stretch of so many bp.  "
                         "[default: each its own]"),
            click.option("--gene", "genes", multiple=True, metavar="ID",
                         help="Tracks: rows of this gene alone; repeatable.  [default: all]"),
            click.option("--orientation", type=click.Choice(["forward", "transcript"]),
                         help="Tracks: strand that windows of genes read.  [default: forward]"),
            click.option("--pca", type=click.IntRange(min=1), metavar="K",
                         help="Tracks: also write K principal components over tracks."),
            click.option("--max-gb", type=click.FloatRange(min=0, min_open=True),
                         help="Tracks: largest output.  [default: 4]"),
        ]
    ):  # fmt: skip
        command = option(command)
    return command


def take_tracks(
    source: Path, embedder: str | None, checkpoint: str | None, options: dict[str, Any]
) -> bool:
    """Whether a model of tracks is meant: by the embedder's type, or by an option that only it has.

    Raises
    ------
    InputError
        If such an option is given for a masked model.
    """
    from featurestore.score.tracks.settings import TRACK_TYPES

    given = [name for name, default in DEFAULTS.items() if options[name] != default]
    meant = embedder in TRACK_TYPES if embedder else bool(given)
    if embedder and not meant:
        meant = type_of(source, embedder) in TRACK_TYPES
    if given and not meant:
        option = {"scores": "score", "aggregations": "agg", "genes": "gene", "max_gb": "max-gb"}
        raise InputError(
            f"--{option.get(given[0], given[0])}: of models that predict tracks alone "
            f"({', '.join(TRACK_TYPES)}); {embedder!r} is none"
        )
    return meant


def type_of(source: Path, embedder: str) -> str:
    """Type of an embedder of a store or a data set; empty where it has none of that name."""
    if source.is_file() or (source / "dataset.toml").is_file():
        from featurestore.inputs.dataset import read_config
        from featurestore.inputs.problems import Problems

        problems = Problems()
        config = read_config(source, problems)
        problems.raise_if_any()
        options = config.embedder_options if config is not None else {}
        return str(options.get(embedder, {}).get("type", ""))
    from featurestore.store.identify import is_ours
    from featurestore.store.reader import open_store

    if not is_ours(source):
        return ""  # what is wrong is told where the source is opened
    store = open_store(source)
    for species in store.species:
        if embedder in store.embedders(species):
            return str(store.embedder_attrs(species, embedder)["type"])
    return ""


def run_tracks(
    source: Path, variants: Path, out: Path | None, options: dict[str, Any], *, strands: str,
    as_json: bool, progress: Any, **common: Any,
) -> None:  # fmt: skip
    """Score and tell."""
    from dataclasses import asdict

    from featurestore.inputs.problems import printable
    from featurestore.score.tracks.run import score_tracks
    from featurestore.score.tracks.settings import Asked

    if out is None:
        raise InputError(
            "scores of tracks are written to a file: give --out .zarr, .parquet or .vcf[.gz]"
        )
    if strands == "both":
        raise InputError("--strands both: of masked models; for tracks it is --rc")
    chosen: dict[str, Any] = {
        "scores": options["scores"], "aggregations": options["aggregations"],
        "window": options["window"], "orientation": options["orientation"],
        "shifts": shifts_of(options["shifts"]), "rc": options["rc"], "share": options["share"],
        "genes": options["genes"], "batch": common.pop("batch"),
    }  # fmt: skip
    asked = Asked(**{name: value for name, value in chosen.items() if value})
    summary = score_tracks(
        source, variants, out, asked, heads=options["heads"], tracks=options["tracks"],
        components=options["pca"] or 0, most_gb=options["max_gb"] or 4.0, on_progress=progress,
        **common,
    )  # fmt: skip
    if as_json:
        echo_json(asdict(summary))
        return
    for line in summary.sentences():
        click.echo(printable(line), err=True)
    for path in (summary.out, summary.components):
        if path:
            click.echo(f"{path}: written", err=True)


def shifts_of(text: str | None) -> tuple[int, ...]:
    """``-3,0,3`` as numbers.

    Raises
    ------
    InputError
        If it is no list of whole numbers.
    """
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise InputError(f"--shifts {text!r}: give whole numbers of bp, such as -3,0,3") from error
