"""How well held-out bases are predicted: by a model, and by baselines at the same positions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore.embedders.plantcaduceus.modeling import PlantCaduceusForMaskedLM
from featurestore.embedders.plantcaduceus.tokenizer import BASE_IDS, ID_OF_CODE, MASK_ID
from featurestore.errors import InputError
from featurestore.pretrain import state
from featurestore.pretrain.corpus import Corpus
from featurestore.pretrain.facts import FILE as FACTS_FILE
from featurestore.pretrain.markov import BASELINES, Neighbours, contexts
from featurestore.pretrain.settings import Settings
from featurestore.pretrain.split import Split, split_corpus
from featurestore.pretrain.train import corpus_digest
from featurestore.pretrain.windows import generator, tile

FILE: Final = "evaluation.json"
REACH: Final = 5
"""Bases on either side that must be known of a position that counts: what the widest baseline reads."""

RATES: Final = {"few": 0.02, "training": 0.15}
"""Shares of bases hidden at once: few, so that nearly all neighbours are seen, as a variant score
has it; and as many as in training."""

_POSITIONS: Final = 4
_CHOICE: Final = 5


@dataclass(frozen=True)
class Positions:
    """Held-out windows and the bases in them that are predicted.

    Parameters
    ----------
    code : uint8 array, shape (n, window)
    at : bool array, shape (n, window)
    source : int64 array, shape (n,)
    """

    code: NDArray[np.uint8]
    at: NDArray[np.bool_]
    source: NDArray[np.int64]


def positions(corpus: Corpus, window: int, rate: float, most: int, seed: int) -> Positions:
    """At most ``most`` windows that tile a corpus, and a share ``rate`` of their bases.

    Windows and bases are drawn by ``seed`` alone, whatever the model. A base counts if it and the
    :data:`REACH` bases on either side are A, C, G or T.
    """
    windows, rows = tile(corpus, window)
    _, known = contexts(windows.code, REACH, REACH)
    usable = np.flatnonzero(known.any(1))
    if not len(usable):
        raise InputError("no held-out base has known neighbours; hold out more sequence")
    kept = np.sort(generator(seed, _CHOICE).permutation(usable)[:most])
    drawn = generator(seed, _POSITIONS, round(rate * 1e6)).random(known[kept].shape) < rate
    at = drawn & known[kept]
    return Positions(windows.code[kept], at, corpus.source[rows[kept]])


@torch.no_grad()
def model_log_probability(
    model: PlantCaduceusForMaskedLM, given: Positions, batch: int = 32
) -> NDArray[np.float64]:
    """Log-probability of each hidden base among A, C, G and T, every one of them read as [MASK].

    Returns
    -------
    float64 array, shape (number of true ``given.at``,), window by window
    """
    tokens = ID_OF_CODE[given.code].astype(np.int64)
    device = next(model.parameters()).device
    found = []
    for i in range(0, len(tokens), batch):
        at = given.at[i : i + batch]
        ids = torch.from_numpy(np.where(at, MASK_ID, tokens[i : i + batch])).to(device)
        logits = model(ids).logits[torch.from_numpy(at).to(device)][:, list(BASE_IDS)]
        own = torch.from_numpy(given.code[i : i + batch][at].astype(np.int64)).to(device)
        log_p = logits.double().log_softmax(-1)
        found.append(log_p.gather(1, own[:, None])[:, 0].cpu().numpy())
    return np.concatenate(found)


def baselines(train: Corpus, *, both_strands: bool = True) -> dict[str, Neighbours]:
    """The baselines, counted in training sequence."""
    return {
        name: Neighbours.fit(train, *reach, both_strands=both_strands)
        for name, reach in BASELINES.items()
    }


def score(log_p: Mapping[str, NDArray[np.float64]], given: Positions) -> dict[str, Any]:
    """Perplexities, over all bases and by source, and the model's lead on each baseline.

    A lead is in nats a base; its standard error is over windows, which are independent where
    bases are not.
    """
    row = np.repeat(np.arange(len(given.at)), given.at.sum(1))
    source = given.source[row]
    facts: dict[str, Any] = {"bases": len(row), "windows": len(given.at)}
    facts["perplexity"] = {n: float(np.exp(-v.mean())) for n, v in log_p.items()}
    facts["by_source"] = {
        int(s): {n: float(np.exp(-v[source == s].mean())) for n, v in log_p.items()}
        for s in np.unique(source)
    }
    count = np.bincount(row, minlength=len(given.at))
    lead = {}
    for name, value in log_p.items():
        if name == "model":
            continue
        difference = np.bincount(row, log_p["model"] - value, minlength=len(given.at))
        mean = difference.sum() / count.sum()
        spread = np.sqrt(np.sum((difference - mean * count) ** 2)) / count.sum()
        lead[name] = {"nats": float(mean), "standard_error": float(spread)}
    facts["lead"] = lead
    return facts


def evaluate(
    model: PlantCaduceusForMaskedLM,
    split: Split,
    *,
    window: int,
    seed: int,
    most: int = 2000,
    rates: Mapping[str, float] = RATES,
) -> dict[str, Any]:
    """Perplexity of a model and of the baselines on held-out sequence.

    Parameters
    ----------
    model : PlantCaduceusForMaskedLM
        In eval mode.
    split : Split
        Baselines are counted in its training side, on both strands, as the model learns both.
    window : int
        bp the model sees.
    most : int
        Held-out windows.
    rates : mapping of name to share of bases hidden at once

    Returns
    -------
    mapping of rate name to what :func:`score` gives
    """
    if not len(split.held_out.start):
        raise InputError("nothing was held out in this run, so there is nothing to evaluate on")
    counted = baselines(split.train)
    found: dict[str, Any] = {}
    names = [s.name for s in split.held_out.sources]
    for name, rate in rates.items():
        given = positions(split.held_out, window, rate, most, seed)
        uniform = np.full(int(given.at.sum()), -np.log(4.0))
        log_p = {"model": model_log_probability(model, given), "uniform": uniform}
        log_p |= {n: b.log_probability(given.code, given.at) for n, b in counted.items()}
        facts = score(log_p, given)
        facts["by_source"] = {names[s]: v for s, v in facts["by_source"].items()}
        found[name] = {"hidden_at_once": rate, **facts}
    return found


def read_facts(folder: Path) -> dict[str, Any]:
    """``pretraining.json`` of a finished run.

    Raises
    ------
    InputError
        Where it is missing or something else.
    """
    path = folder / FACTS_FILE
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        Settings.from_dict(facts["settings"])
    except FileNotFoundError:
        raise InputError(f"{path}: not found; `fs pretrain` writes it when it ends") from None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is not the record of a pre-training run ({error})") from error
    return facts


def evaluate_split(folder: Path, split: Split, settings: Settings, *, most: int) -> dict[str, Any]:
    """Evaluate the model of a folder; writes ``evaluation.json`` there."""
    model = PlantCaduceusForMaskedLM.from_pretrained(folder)
    found = evaluate(model, split, window=settings.window, seed=settings.seed, most=most)
    state.write_json(folder / FILE, found)
    return found


def evaluate_folder(folder: Path, corpus: Corpus, *, most: int = 2000) -> dict[str, Any]:
    """Evaluate the model of a folder on what its run held out.

    Raises
    ------
    InputError
        If the sequence is not what the run was trained on.
    """
    facts = read_facts(folder)
    settings = Settings.from_dict(facts["settings"])
    if corpus_digest(corpus) != facts["corpus"]:
        names = ", ".join(s["source"] for s in facts["split"]["train"]["sources"])
        raise InputError(
            f"{folder}: was trained on other sequence; give the same files in the same order: {names}"
        )
    split = split_corpus(
        corpus, held_out=settings.held_out, seed=settings.seed, exclude=settings.exclude
    )
    return evaluate_split(folder, split, settings, most=most)
