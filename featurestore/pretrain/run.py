"""From files to a finished checkpoint folder: what ``fs pretrain`` calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from featurestore.errors import InputError
from featurestore.pretrain import card, evaluate, facts, state
from featurestore.pretrain.settings import Settings
from featurestore.pretrain.sources import read_corpus
from featurestore.pretrain.train import Limits, Progress, Trainer


def pretrain(
    paths: Sequence[Path],
    out: Path,
    settings: Settings,
    limits: Limits,
    *,
    device: str = "cpu",
    threads: int | None = None,
    evaluation_windows: int = 2000,
    say: Callable[[str], None] = lambda _: None,
    tell: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Pre-train a model, or go on with a run that was stopped, and evaluate it.

    Parameters
    ----------
    paths : sequence of Path
        See :func:`featurestore.pretrain.sources.read_corpus`.
    out : Path
        Folder of the run: afterwards a checkpoint with its card.
    settings : Settings
    limits : Limits
    device : str
    threads : int, optional
        Of torch; the same number gives the same bits.
    evaluation_windows : int
        Held-out windows of the evaluation; 0 leaves it out.
    say, tell : called with lines, and after each step

    Returns
    -------
    mapping
        ``pretraining.json`` of the run, and ``evaluation``.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    corpus = read_corpus(
        paths, whole_contigs=settings.whole_contigs, keep_repeats=settings.repeat_weight < 1
    )
    trainer = Trainer(corpus, settings, out, device)
    held, kept = trainer.split.held_out, trainer.split.train
    say(
        f"{kept.bases:,} bp in {len(kept.start):,} records to train on, {held.bases:,} bp in {len(held.start):,} held out"
    )
    if trainer.run.step:
        say(f"going on at step {trainer.run.step:,}")
    trainer.train(limits, tell)
    made = facts.run_facts(trainer)
    evaluation = None
    if evaluation_windows and len(held.start):
        say("evaluating on held-out sequence")
        evaluation = evaluate.evaluate_split(out, trainer.split, settings, most=evaluation_windows)
    write_card(out)
    return {**made, "evaluation": evaluation}


def evaluate_again(
    paths: Sequence[Path], folder: Path, *, windows: int = 2000, threads: int | None = None
) -> dict[str, Any]:
    """Evaluate the model of a folder on what its run held out, and renew its card.

    Raises
    ------
    InputError
        If the folder holds no run, or the files are not those it was trained on.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    settings = Settings.from_dict(evaluate.read_facts(folder)["settings"])
    corpus = read_corpus(paths, whole_contigs=settings.whole_contigs)
    found = evaluate.evaluate_folder(folder, corpus, most=windows)
    write_card(folder)
    return found


def write_card(folder: Path) -> None:
    """Write the model card from what stands in the folder."""
    evaluation = None
    path = folder / evaluate.FILE
    if path.is_file():
        try:
            evaluation = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path}: is not JSON ({error}); remove it") from error
    text = card.card_text(folder.resolve().name, evaluate.read_facts(folder), evaluation)
    state.write_bytes(folder / card.FILE, text.encode())
