"""Enformer at its published size on one window of 196,608 bp; random weights, whose time is the same.

Every figure is of a process of its own, by one thread. The reference, measured beside it, runs the
same weights layer by layer, as they are trained, without gradients.

``python -m benchmarks.perf enformer``, or ``python -m benchmarks.perf.enformer train`` for one step of
training alone (so for each of ``KINDS``).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np

WINDOW: Final = 196_608
KINDS: Final = ("layers", "fp32", "bf16", "train", "gradient", "gradient-bf16")
"""``gradient``: contributions of all bases to one track at the TSS, as ``bench contributions`` asks for them."""
_GIB: Final = 2**20
"""``ru_maxrss`` counts in KiB."""


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Processor seconds a window, ratios to the reference, and peaks of memory."""
    del (
        data,
        repeats,
    )  # no real data; a window takes half a minute, and processor seconds are steady
    found = {kind: _apart(kind) for kind in KINDS}
    plain = found["layers"]["cpu_s"]
    figures: dict[str, float] = {}
    for kind in ("fp32", "bf16"):
        figures |= {
            f"Enformer {kind}: processor s a window": found[kind]["cpu_s"],
            f"Enformer {kind}: processor time, share of layer by layer": found[kind]["cpu_s"]
            / plain,
            f"Enformer {kind}: peak GiB of the process": found[kind]["peak_gib"],
            f"Enformer {kind}: correlation with layer by layer": found[kind]["same"],
        }
    return figures | {
        "Enformer layer by layer: processor s a window": plain,
        "Enformer layer by layer: peak GiB of the process": found["layers"]["peak_gib"],
        "Enformer step of training, checkpointed: processor s": found["train"]["cpu_s"],
        "Enformer step of training, checkpointed: peak GiB": found["train"]["peak_gib"],
        "Enformer contributions of a window, fp32: processor s": found["gradient"]["cpu_s"],
        "Enformer contributions of a window, fp32: peak GiB": found["gradient"]["peak_gib"],
        "Enformer contributions of a window, bf16: processor s": found["gradient-bf16"]["cpu_s"],
        "Enformer contributions of a window, bf16: peak GiB": found["gradient-bf16"]["peak_gib"],
    }


def _apart(kind: str) -> dict[str, float]:
    """One figure, measured in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks.perf.enformer", kind],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return found


def _spent() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _window(model: Any) -> Any:
    codes = np.random.default_rng(0).integers(0, 4, (1, WINDOW), dtype=np.uint8)
    return model.one_hot(codes)


def _model() -> Any:
    import torch

    from featurestore.embedders.enformer import Enformer, EnformerConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    return Enformer(EnformerConfig()).eval()


def _layers(model: Any, x: Any) -> Any:
    """Embedding layer by layer."""
    from featurestore.embedders.enformer.layers import gelu

    out = x.transpose(1, 2).unsqueeze(2)
    for block in (model.stem, *model.conv_tower):
        out = block(out)
    out = model.crop(model.transformer(out.squeeze(2).transpose(1, 2)))
    wide = model.final_pointwise[1](out.transpose(1, 2).unsqueeze(2))
    return gelu(wide.squeeze(2).transpose(1, 2))


def _forward(kind: str) -> dict[str, float]:
    import torch

    model = _model()
    x = _window(model)
    with torch.no_grad():
        if kind == "layers":
            start = _spent()
            model.heads_of(_layers(model, x))
            return {"cpu_s": _spent() - start, "peak_gib": _peak(), "same": 1.0}
        model.dtype = kind
        model.prepared()
        start = _spent()
        embedding = model.embed(x)
        model.heads_of(embedding)
        spent, peak = _spent() - start, _peak()
        reference = _layers(model, x)
    same = np.corrcoef(embedding.numpy().ravel(), reference.numpy().ravel())[0, 1]
    return {"cpu_s": spent, "peak_gib": peak, "same": float(same)}


def _train() -> dict[str, float]:
    import torch

    from featurestore.embedders.enformer.modeling import poisson_loss

    model = _model().train()
    model.checkpointing = True
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-4, foreach=False)
    start = _spent()
    tracks = model(_window(model), ["human"])["human"]
    loss: Any = poisson_loss(tracks, torch.ones_like(tracks))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.2)
    optimiser.step()
    return {"cpu_s": _spent() - start, "peak_gib": _peak()}


def _gradient(dtype: str) -> dict[str, float]:
    from benchmarks.long_range.attribution import gradient_x_input
    from featurestore.embedders.enformer.track_model import TrackModel

    model = _model()
    model.dtype, model.checkpointing = dtype, True
    one = TrackModel(model)
    one.tracks = one.tracks[:1]
    codes = np.random.default_rng(0).integers(0, 4, WINDOW, dtype=np.uint8)
    start = _spent()
    gradient_x_input(one, codes)
    return {"cpu_s": _spent() - start, "peak_gib": _peak()}


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _GIB


def _figure(kind: str) -> dict[str, float]:
    if kind == "train":
        return _train()
    if kind.startswith("gradient"):
        return _gradient("bf16" if kind.endswith("bf16") else "fp32")
    return _forward(kind)


if __name__ == "__main__":
    print(json.dumps(_figure(sys.argv[1] if len(sys.argv) > 1 else "fp32")))
