"""The training loop: goes on after a kill, ends after steps or minutes, leaves a checkpoint folder."""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from featurestore.embedders.plantcaduceus.configuration import PlantCaduceusConfig
from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
from featurestore.errors import InputError, MeristemError
from featurestore.pretrain import state
from featurestore.pretrain.corpus import Corpus
from featurestore.pretrain.masking import IGNORED, mask
from featurestore.pretrain.optimiser import Optimiser
from featurestore.pretrain.settings import Settings
from featurestore.pretrain.split import Split, split_corpus
from featurestore.pretrain.windows import draw, generator, tile

_DRAW, _MASK, _CHECK = 1, 2, 3
"""Streams of random numbers, each a function of seed and step alone."""

CURVE: Final = ("step", "tokens", "seconds", "learning_rate", "train_loss", "held_out_loss")
CHECKED_WINDOWS: Final = 128
"""Held-out windows that the curve is drawn from, the same ones all along."""


@dataclass(frozen=True)
class Limits:
    """When a run ends, and how often it looks up.

    Parameters
    ----------
    steps : int or None
    seconds : float or None
        Of training, all attempts together. At least one of both; with seconds alone the schedule
        follows the clock, and a repeat differs.
    check_steps : int
        Steps between two points of the curve.
    save_seconds : float
        Between two states on disk.
    """

    steps: int | None = None
    seconds: float | None = None
    check_steps: int = 100
    save_seconds: float = 60.0

    def __post_init__(self) -> None:
        if self.steps is None and self.seconds is None:
            raise InputError("when does it end? give --steps, --minutes, or both")

    def progress(self, steps: int, seconds: float) -> float:
        """Share of the run that is over, 0 … 1."""
        shares = [steps / self.steps] if self.steps else []
        shares += [seconds / self.seconds] if self.seconds else []
        return min(max(shares), 1.0)


@dataclass
class Run:
    """Where a run stands."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    curve: list[list[float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Progress:
    """What a caller is told after each step."""

    step: int
    share: float
    tokens: int
    seconds: float
    loss: float
    held_out_loss: float | None


def corpus_digest(corpus: Corpus) -> str:
    """Sha256 of the bases and groups of a corpus."""
    sha = hashlib.sha256(corpus.code.tobytes())
    for array in (corpus.start, corpus.length):
        sha.update(array.tobytes())
    sha.update("\n".join(corpus.group).encode())
    return sha.hexdigest()


def new_model(settings: Settings) -> PlantCaduceusForMaskedLM:
    """An untrained model; the same weights for the same settings."""
    config = PlantCaduceusConfig(
        d_model=settings.d_model, n_layer=settings.n_layer, ssm_cfg={"d_state": settings.d_state}
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        return PlantCaduceusForMaskedLM(config)


class Trainer:
    """A run in a folder.

    Parameters
    ----------
    corpus : Corpus
    settings : Settings
    folder : Path
        Holds the state; a run that was killed goes on there.
    device : str

    Raises
    ------
    InputError
        If the folder holds a run with other settings or other sequence.
    """

    def __init__(self, corpus: Corpus, settings: Settings, folder: Path, device: str = "cpu") -> None:  # fmt: skip
        self.settings, self.folder, self.device = settings, folder, torch.device(device)
        self.split: Split = split_corpus(
            corpus, held_out=settings.held_out, seed=settings.seed, exclude=settings.exclude
        )
        self.identity = {"settings": settings.as_dict(), "corpus": corpus_digest(corpus)}
        self.model = new_model(settings).to(self.device)
        self.optimiser = Optimiser(self.model, settings)
        self.run = Run()
        self._checks = self._check_batches()
        folder.mkdir(parents=True, exist_ok=True)
        self._resume()

    def _resume(self) -> None:
        found = state.load(self.folder)
        if found is None:
            if (self.folder / "model.safetensors").exists():
                raise InputError(f"{self.folder}: holds a model already; give another --out")
            return
        tensors, facts = found
        if facts["identity"] != json.loads(json.dumps(self.identity)):
            raise InputError(
                f"{self.folder}: holds a run {_difference(facts['identity'], self.identity)}; repeat the command "
                "that began it, or give another --out"
            )
        self.run = Run(**facts["run"])
        self.optimiser.restore(tensors, self.run.step)

    def train(self, limits: Limits, tell: Callable[[Progress], None] = lambda _: None) -> None:
        """Train until the limits; saves states on the way and the model in the end."""
        self.model.train()
        began = saved = time.monotonic() - self.run.seconds
        while limits.progress(self.run.step, self.run.seconds) < 1:
            loss = self._step(limits)
            self.run.seconds = time.monotonic() - began
            held_out = None
            over = limits.progress(self.run.step, self.run.seconds) >= 1
            if over or self.run.step % limits.check_steps == 0:
                held_out = self._check()
            share = limits.progress(self.run.step, self.run.seconds)
            tell(Progress(self.run.step, share, self.run.tokens, self.run.seconds, loss, held_out))
            if over or time.monotonic() - saved >= limits.save_seconds:
                self._save()
                saved = time.monotonic()
        self.finish()

    def _step(self, limits: Limits) -> float:
        run, settings = self.run, self.settings
        drawn = draw(
            self.split.train, generator(settings.seed, _DRAW, run.step), settings.batch, settings.window
        )  # fmt: skip
        made = mask(drawn.code, generator(settings.seed, _MASK, run.step))
        weights = None
        if drawn.repeat is not None and settings.repeat_weight < 1:
            weights = torch.from_numpy(np.where(drawn.repeat, settings.repeat_weight, 1.0))
        loss = self.model(
            self._tensor(made.input_ids), labels=self._tensor(made.labels),
            loss_weights=None if weights is None else weights.to(self.device),
        ).loss  # fmt: skip
        loss.backward()
        progress = limits.progress(run.step + 1, run.seconds)
        _, norm = self.optimiser.step(progress)
        value = float(loss.detach())
        if not (math.isfinite(value) and math.isfinite(norm)):
            raise MeristemError(
                f"step {run.step + 1}: loss {value}, gradient norm {norm}; the last good state is in {self.folder}. "
                f"Start anew with a --learning-rate below {settings.learning_rate}"
            )
        run.step += 1
        run.tokens += drawn.code.size
        run.losses.append(value)
        self._rate = self.optimiser.adam.param_groups[0]["lr"]
        return value

    def _tensor(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.device)

    def _check_batches(self) -> list[tuple[Tensor, Tensor]]:
        """Some held-out windows, masked once and for all."""
        corpus, size = self.split.held_out, self.settings.batch
        if not len(corpus.start):
            return []
        windows, _ = tile(corpus, self.settings.window)
        rng = generator(self.settings.seed, _CHECK)
        chosen = rng.permutation(len(windows.code))[:CHECKED_WINDOWS]
        code = windows.code[np.sort(chosen)]
        made = mask(code, rng)
        rows = range(0, len(code), size)
        return [(self._tensor(made.input_ids[i : i + size]), self._tensor(made.labels[i : i + size])) for i in rows]  # fmt: skip

    @torch.no_grad()
    def _check(self) -> float | None:
        """Add a point to the curve; the held-out loss of the weights as they are, in nats."""
        total, count = 0.0, 0
        for ids, labels in self._checks:
            n = int((labels != IGNORED).sum())
            if n:
                total += float(self.model(ids, labels=labels).loss) * n
                count += n
        held_out = total / count if count else math.nan
        run = self.run
        mean = float(np.mean(run.losses)) if run.losses else math.nan
        run.curve.append([run.step, run.tokens, round(run.seconds, 1), self._rate, mean, held_out])
        run.losses = []
        return held_out if count else None

    def _save(self) -> None:
        facts = {"identity": self.identity, "run": vars(self.run)}
        state.save(self.folder, self.optimiser.tensors(), facts)
        state.write_bytes(self.folder / "curve.tsv", curve_text(self.run.curve).encode())

    def finish(self) -> None:
        """Write the model: the mean of the weights where one is kept."""
        from featurestore.pretrain.facts import write_model

        write_model(self)


def curve_text(curve: Iterable[Iterable[float]]) -> str:
    """The loss curve as a table."""
    rows = ["\t".join(f"{v:.6g}" if v % 1 else f"{v:.0f}" for v in row) for row in curve]
    return "\n".join(["\t".join(CURVE), *rows]) + "\n"


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """In words, the first thing that parts two runs."""
    old, new = there["settings"], here["settings"]
    for key in new:
        if old.get(key) != new[key]:
            return f"with {key} = {old.get(key)!r}, not {new[key]!r}"
    return "on other sequence"
