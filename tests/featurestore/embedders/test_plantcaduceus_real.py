"""The published l20 weights give the number that their authors recorded.

Runs where the weights are at hand: MERISTEM_PLANTCADUCEUS_L20 names their folder.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from featurestore.embedders.registry import make_embedder
from featurestore.score import masked_model, score_variants
from featurestore.sequence.iupac import encode

VARIABLE = "MERISTEM_PLANTCADUCEUS_L20"
RECORDED = (
    Path(__file__).resolve().parents[4]
    / "shared"
    / "fixtures"
    / "plantcaduceus_l20_masked_probs.json"
)


@pytest.fixture(scope="module")
def recorded():
    if not RECORDED.is_file():
        pytest.skip(f"needs {RECORDED}, which is not here")
    return json.loads(RECORDED.read_text())


@pytest.fixture(scope="module")
def model():
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"needs the weights of PlantCaduceus_l20: set {VARIABLE} to their folder")
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    made = masked_model(make_embedder("plantcaduceus", {"checkpoint": folder}))
    made.load(None)
    return made


def test_the_recorded_sequence_fits_the_window(recorded):
    assert (len(recorded["sequence"]), recorded["mask_index"], recorded["order"]) == (
        512,
        255,
        "acgt",
    )
    assert sum(recorded["probs"]) == pytest.approx(1, abs=1e-6)


def test_the_recorded_probabilities_come_out(recorded, model):
    """Layers run in another order (the unfused form) give wholly different ones."""
    assert (model.window, model.mask_index) == (512, recorded["mask_index"])
    found = np.exp(model.log_probabilities(encode(recorded["sequence"])[None]))[0]
    np.testing.assert_allclose(found, recorded["probs"], rtol=2e-3, atol=1e-5)


def test_a_score_is_the_ratio_of_recorded_probabilities(recorded, model):
    sequence = recorded["sequence"]
    ref = sequence[255]
    alts = [b for b in "ACGT" if b != ref]
    expected = dict(zip("ACGT", recorded["probs"], strict=True))
    given = [("window", 255, ref, alt) for alt in alts]
    for scored in score_variants(model, {"window": sequence}, given):
        ratio = np.log(expected[scored.variant.alt] / expected[ref])
        assert scored.llr == pytest.approx(ratio, abs=5e-3)
