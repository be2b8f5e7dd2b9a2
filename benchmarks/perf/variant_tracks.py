"""What alleles of one window cost: convolutions of what they change against whole windows."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from featurestore.embedders.enformer.configuration import EnformerConfig
from featurestore.embedders.enformer.edits import convolved_edits, tracks_of
from featurestore.embedders.enformer.modeling import Enformer
from featurestore.embedders.enformer.track_model import TrackModel

ALLELES: Final = 16
SIZES: Final = {"full": "enformer-small", "quick": "enformer-plant"}
"""Presets; ``enformer-small`` reads 196,608 bp at a quarter of the published width."""


def measure(data: Path, repeats: int, size: str = "full") -> dict[str, float]:
    """CPU seconds on one thread of 16 substitutions of one window, random weights.

    ``whole``: the reference and each allele through the whole network. ``shared``: the reference
    once, of each allele the changed convolutions and the transformer. ``at the TSS``: the latter for
    three bins of output alone.
    """
    del data
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    name = SIZES[size]
    model = TrackModel(Enformer(EnformerConfig.preset(name, output_heads={"plant": 100})))
    with torch.no_grad():
        for layer, weight in model.module.named_parameters():
            if "to_out" in layer:  # zero in an untrained model, which would keep bins apart
                weight.normal_(std=0.05)
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 4, model.input_bp).astype(np.uint8)
    alleles = np.repeat(reference[None], ALLELES, axis=0)
    places = rng.choice(model.input_bp, ALLELES, replace=False)
    alleles[np.arange(ALLELES), places] = (alleles[np.arange(ALLELES), places] + 1) % 4
    middle = slice(model.bins // 2 - 1, model.bins // 2 + 2)
    everything = np.concatenate([reference[None], alleles])
    ways: dict[str, Callable[[], NDArray[np.float32]]] = {
        "whole": lambda: model.predict(everything),
        "shared": lambda: shared(model, reference, alleles, None),
        "shared, at the TSS": lambda: shared(model, reference, alleles, middle),
    }
    model.predict(reference[None])  # lays the weights out
    best: dict[str, float] = {}
    found: dict[str, NDArray[np.float32]] = {}
    for _ in range(min(repeats, 2)):
        for way, run in ways.items():
            started = time.process_time()
            found[way] = run()
            best[way] = min(best.get(way, np.inf), time.process_time() - started)
    torch.set_num_threads(threads)
    label = f"{name}, {model.input_bp:,} bp, {ALLELES} alleles of one window"
    figures = {f"{label}, {way}, CPU seconds": value for way, value in best.items()}
    for way in ("shared", "shared, at the TSS"):
        figures[f"{label}, whole ÷ {way}"] = best["whole"] / best[way]
    gap = np.abs(found["shared"] - found["whole"]) / np.abs(found["whole"])
    figures[f"{label}, largest relative difference × 1e6"] = float(gap.max() * 1e6)
    return figures


def shared(
    model: TrackModel,
    reference: NDArray[np.uint8],
    alleles: NDArray[np.uint8],
    wanted: slice | None,
) -> NDArray[np.float32]:
    """Tracks of the reference and of its alleles, shape (1 + alleles, bins, tracks)."""
    with torch.no_grad():
        bins = model.module.prepared().convolved(model.module.one_hot(reference[None])[0])
        parts = [tracks_of(model, bins, wanted)]
        parts += [
            tracks_of(model, b, wanted) for b in convolved_edits(model, reference, bins, alleles)
        ]
        return np.stack(parts)
