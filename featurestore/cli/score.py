"""``fs score``."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from featurestore.cli.common import echo_json, json_option


class _Progress:
    """Sites done, rate and time left: one line on a terminal, plain lines now and then elsewhere."""

    def __init__(self) -> None:
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
        line = f"{done:,}/{total:,} sites{left}"
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
    "--out", type=click.Path(path_type=Path, dir_okay=False),
    help="File to write: .vcf[.gz] annotated, .tsv[.gz] a table. Default: the table on stdout.",
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
@json_option
def score(
    source: Path, variants: Path, embedder: str | None, species: str | None, out: Path | None,
    checkpoint: str | None, dtype: str, strands: str, device: str | None, batch: int | None,
    as_json: bool,
) -> None:  # fmt: skip
    """Score the SNVs of a VCF by a masked genomic model, without training: ln(P_alt / P_ref)."""
    from dataclasses import asdict

    from featurestore.inputs.problems import printable
    from featurestore.score.vcf import score_vcf

    stream = None if out or as_json else sys.stdout.buffer
    summary = score_vcf(
        source, variants, embedder=embedder, species=species, out=out, stream=stream,
        checkpoint=checkpoint, dtype=dtype, device=device, batch=batch,
        strands="both" if strands == "both" else "window", on_progress=_Progress(),
    )  # fmt: skip
    if as_json:
        echo_json(asdict(summary))
        return
    for line in summary.sentences():
        click.echo(printable(line), err=True)
    if out:
        click.echo(f"{out}: written", err=True)
