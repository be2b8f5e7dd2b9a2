"""The published weights give the correlation that was recorded for them.

Runs where the weights are at hand: MERISTEM_ENFORMER names the folder of
EleutherAI/enformer-official-rough, MERISTEM_ENFORMER_SAMPLE the file ``data/test-sample.pt`` of the
public port (a sequence of 196,608 bp and its 896 × 5,313 human targets), for which its README records
a Pearson correlation of 0.5963. The figures of the model's card, 0.625 on validation and 0.650 on
test windows, are means over the whole data set of Basenji, which no test downloads:
MERISTEM_ENFORMER_SET may name a folder of such files, a split each (``valid-*.pt``, ``test-*.pt``).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from featurestore.embedders.enformer import Enformer

CARD = {"valid": 0.6252, "test": 0.6503}


def _given(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"needs {what}: set {variable}")
    return Path(value)


@pytest.fixture(scope="module")
def model() -> Enformer:
    return Enformer.from_pretrained(_given("MERISTEM_ENFORMER", "the weights of Enformer"))


def _predicted(model: Enformer, path: Path) -> tuple[np.ndarray, np.ndarray]:
    import torch

    sample: Any = torch.load(path, weights_only=True)
    sequence = sample["sequence"].reshape(-1, 196_608)
    codes = sequence.numpy().astype(np.uint8)  # A C G T N = 0 … 4, as here
    with torch.no_grad():
        tracks = model.forward_codes(codes, ["human"])["human"].numpy()
    return tracks, sample["target"].reshape(tracks.shape).numpy()


def test_all_weights_have_their_place(model: Enformer) -> None:
    assert sum(p.numel() for p in model.parameters()) == 251_221_292


def test_the_recorded_correlation_comes_out(model: Enformer) -> None:
    path = _given("MERISTEM_ENFORMER_SAMPLE", "data/test-sample.pt of the public port")
    found, target = _predicted(model, path)
    each = [np.corrcoef(found[0, :, t], target[0, :, t])[0, 1] for t in range(target.shape[2])]
    assert np.nanmean(each) == pytest.approx(0.5963, abs=0.01)


@pytest.mark.nightly
@pytest.mark.parametrize("side", list(CARD))
def test_the_figures_of_the_card_come_out(model: Enformer, side: str) -> None:
    folder = _given("MERISTEM_ENFORMER_SET", "windows and targets of Basenji's human data")
    sums = np.zeros((6, 5313))
    for path in sorted(folder.glob(f"{side}-*.pt")):
        x, y = (a.reshape(-1, 5313).astype(np.float64) for a in _predicted(model, path))
        sums += [np.full(5313, len(x)), x.sum(0), y.sum(0), (x * x).sum(0), (y * y).sum(0), (x * y).sum(0)]  # fmt: skip
    n, x, y, xx, yy, xy = sums
    pearson = (n * xy - x * y) / np.sqrt((n * xx - x**2) * (n * yy - y**2))
    assert np.nanmean(pearson) == pytest.approx(CARD[side], abs=0.01)
