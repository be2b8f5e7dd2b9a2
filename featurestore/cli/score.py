"""``fs score``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import click

from featurestore.cli.common import echo_json, json_option
from featurestore.cli.score_tracks import run_tracks, take_tracks, track_options
from featurestore.errors import InputError


class _Progress:
    """What is done, rate and time left: one line on a terminal, plain lines now and then elsewhere."""

    def __init__(self, each: str) -> None:
        self.each = each
        self.started, self.last, self.first = time.monotonic(), 0.0, -1

    def __call__(self, done: int, total: int) -> None:
        now, terminal = time.monotonic(), sys.stderr.isatty()
        if (
            self.first < 0
        ):  # what an earlier run computed comes at once and says nothing of the rate
            self.first, self.started = done, now
        if done < total and now - self.last < (0.1 if terminal else 10.0):
            return
        self.last = now
        rate = (done - self.first) / max(now - self.started, 1e-9)
        left = (
            f", {rate:.1f}/s, {(total - done) / rate:.0f} s left" if rate and done < total else ""
        )
        line = f"{done:,}/{total:,} {self.each}{left}"
        click.echo(
            f"\r{line:<60}" if terminal else line, nl=not terminal or done == total, err=True
        )


@click.command()
@click.argument("source", metavar="STORE|DATASET", type=click.Path(path_type=Path))
@click.option(
    "--variants", type=click.Path(path_type=Path), required=True,
    help="VCF, plain, gzip or bgzip, in any order.",
)  # fmt: skip
@click.option(
    "--embedder",
    help="Name in the store or data set, or a type with --checkpoint. Default: the only one that can.",
)
@click.option("--species", help="Species. Default: the one whose contigs meet.")
@click.option(
    "--out", type=click.Path(path_type=Path),
    help="File to write: .vcf[.gz] annotated, .tsv[.gz] a table; scores of tracks also as .zarr, "
    ".parquet. Default: the table on stdout.",
)  # fmt: skip
@click.option("--checkpoint", help="Folder or hub id of the weights. Default: the configured one.")
@click.option(
    "--dtype", type=click.Choice(["fp32", "bf16", "fp16"]), default="fp32", show_default=True,
    help="Compute dtype, whatever the embedder is configured to.",
)  # fmt: skip
@click.option(
    "--strands", type=click.Choice(["window", "both"]), default="window", show_default=True,
    help="The model's one window, or that and its mirror on the other strand.",
)  # fmt: skip
@click.option("--device", help="cpu, cuda, cuda:1. Default: an accelerator if there is one.")
@click.option(
    "--batch", type=click.IntRange(min=1), help="Windows at a time. Default: the model's."
)
@track_options
@json_option
def score(
    source: Path, variants: Path, embedder: str | None, species: str | None, out: Path | None,
    checkpoint: str | None, dtype: str, strands: str, device: str | None, batch: int | None,
    as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Score the variants of a VCF without training.

    By a masked genomic model, SNVs: ln(P_alt / P_ref). By a model that predicts tracks (enformer),
    indels too: what changes in each track.
    """
    common: dict[str, Any] = {
        "embedder": embedder, "species": species, "checkpoint": checkpoint, "dtype": dtype,
        "device": device, "batch": batch,
    }  # fmt: skip
    if take_tracks(source, embedder, checkpoint, options):
        run_tracks(
            source, variants, out, options, strands=strands, as_json=as_json,
            progress=_Progress("windows"), **common,
        )  # fmt: skip
        return
    if out is not None and out.is_dir():
        raise InputError(f"{out}: --out is a folder; name a file in it")
    from dataclasses import asdict

    from featurestore.inputs.problems import printable
    from featurestore.score.vcf import score_vcf

    stream = None if out or as_json else sys.stdout.buffer
    summary = score_vcf(
        source, variants, out=out, stream=stream, on_progress=_Progress("sites"),
        strands="both" if strands == "both" else "window", **common,
    )  # fmt: skip
    if as_json:
        echo_json(asdict(summary))
        return
    for line in summary.sentences():
        click.echo(printable(line), err=True)
    if out:
        click.echo(f"{out}: written", err=True)
