"""``fs pretrain``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featurestore.cli.common import echo_json, json_option

if TYPE_CHECKING:
    from featurestore.pretrain.train import Progress

_positive = click.IntRange(min=1)


class _Line:
    """A line with rate and time left on a terminal; elsewhere one whenever held-out loss is known."""

    def __init__(self, quiet: bool) -> None:
        self.quiet, self.last = quiet, 0.0
        self.first: tuple[float, int, float] | None = None

    def __call__(self, now: Progress) -> None:
        terminal = sys.stderr.isatty()
        clock = time.monotonic()
        point = now.held_out_loss is not None or now.share >= 1
        if self.first is None:
            self.first = (now.seconds, now.tokens, now.share)
        if self.quiet or not (point or (terminal and clock - self.last > 0.2)):
            return
        self.last = clock
        seconds, tokens, share = (x - y for x, y in zip((now.seconds, now.tokens, now.share), self.first, strict=True))  # fmt: skip
        left = f"{(1 - now.share) * seconds / share / 60:.1f} min left" if share > 0 else "…"
        rate = f"{tokens / seconds:,.0f} bases/s" if seconds > 0 else "…"
        line = f"step {now.step:,}: loss {now.loss:.4f}, {rate}, {left}"
        if now.held_out_loss is not None:
            line += f", held out {now.held_out_loss:.4f}"
        click.echo(f"\r{line:<78}" if terminal else line, nl=point or not terminal, err=True)


def _excluded(path: Path | None) -> tuple[str, ...]:
    if path is None:
        return ()
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(sorted({line.strip() for line in lines if line.strip()}))


@click.command()
@click.argument("data", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the run and of the model.",
)
@click.option(
    "--evaluate",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="DIR",
    help="Train nothing; evaluate the model in DIR again, on the same DATA.",
)
@click.option(
    "--preset", default="nano", show_default=True, help="Shape and schedule: tiny, nano, l20."
)
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="Train this long, stops left out.",
)
@click.option(
    "--steps", type=_positive, help="Train this many steps; alone, a repeat gives the same bits."
)
@click.option("--d-model", type=_positive, help="Channels.  [default: the preset's, as below]")
@click.option("--layers", "n_layer", type=_positive, help="Layers.")
@click.option("--d-state", type=_positive, help="States a channel.")
@click.option("--window", type=click.IntRange(min=16), help="bp a sequence.")
@click.option("--batch", type=_positive, help="Sequences a step.")
@click.option("--learning-rate", type=float, help="At the top of the schedule.")
@click.option(
    "--held-out",
    type=click.FloatRange(0, 0.5),
    help="Share of the bases held out by family or contig.",
)
@click.option(
    "--exclude-families",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="File of families, one a line, to keep away from both sides.",
)
@click.option(
    "--whole-contigs",
    is_flag=True,
    default=None,
    help="Of a data set take the contigs, not the regions of its genes.",
)
@click.option(
    "--repeat-weight",
    type=click.FloatRange(0, 1),
    help="Weight of soft-masked bases of FASTA files in the loss.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of weights, windows, masks and split.")
@click.option("--threads", type=_positive, help="Threads of torch. Default: torch's own choice.")
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1.")
@click.option(
    "--evaluation-windows",
    type=click.IntRange(min=0),
    default=2000,
    show_default=True,
    help="Held-out windows in the evaluation; 0 leaves it out.",
)
@json_option
def pretrain(
    data: tuple[Path, ...], out: Path | None, evaluate: Path | None, preset: str,
    minutes: float | None, steps: int | None, exclude_families: Path | None, threads: int | None,
    device: str, evaluation_windows: int, as_json: bool, **changes: Any,
) -> None:  # fmt: skip
    """Pre-train a small PlantCaduceus model on DATA, or go on with a run that was stopped.

    DATA are dataset.toml files, FASTA files, or text files with one sequence a line. OUT is then a
    checkpoint: model.safetensors, config.json, README.md (its card), curve.tsv.
    """
    from featurestore.errors import InputError
    from featurestore.pretrain import run
    from featurestore.pretrain.settings import preset as named
    from featurestore.pretrain.train import Limits

    if (out is None) == (evaluate is None):
        raise InputError("give --out DIR to train, or --evaluate DIR to evaluate")
    if evaluate is not None:
        found = run.evaluate_again(
            data, evaluate, windows=evaluation_windows or 2000, threads=threads
        )
        return _show(found, evaluate, as_json)
    assert out is not None  # noqa: S101 # one of both is given
    settings = named(preset, exclude=_excluded(exclude_families), **changes)
    limits = Limits(steps=steps, seconds=minutes * 60 if minutes else None)
    made = run.pretrain(
        data, out, settings, limits, device=device, threads=threads,
        evaluation_windows=evaluation_windows, tell=_Line(as_json),
        say=lambda line: click.echo(line, err=True),
    )  # fmt: skip
    if as_json:
        return echo_json(made)
    click.echo(f"{out}: {made['parameters']:,} parameters, {made['steps']:,} steps, {made['tokens']:,} bases, {made['seconds'] / 60:.1f} min")  # fmt: skip
    return _show(made["evaluation"] or {}, out, as_json)


def _show(evaluation: dict[str, Any], folder: Path, as_json: bool) -> None:
    if as_json:
        return echo_json(evaluation)
    for found in evaluation.values():
        click.echo(f"perplexity of {found['bases']:,} held-out bases, {found['hidden_at_once']:.0%} hidden at once:")  # fmt: skip
        for name, value in sorted(found["perplexity"].items(), key=lambda item: item[1]):
            click.echo(f"  {value:.3f}  {name}")
    click.echo(f"card: {folder / 'README.md'}")
    return None
