"""Tracks of windows that differ in a few bases: as of whole windows, at the cost of what differs."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from featurestore.embedders.enformer import Enformer, EnformerConfig, TrackModel  # noqa: E402
from featurestore.embedders.enformer import edits as module  # noqa: E402
from featurestore.embedders.enformer.edits import (  # noqa: E402
    convolved_edits,
    stretch_of,
    tracks_of,
)

REACHES = (7, 2, 2, 2, 2, 2, 2)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(4)
    made = Enformer(EnformerConfig.preset("tiny", output_heads={"a": 2, "b": 3}))
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 2)
            elif tensor.is_floating_point() and tensor.ndim <= 1:
                tensor.add_(0.2 * torch.randn_like(tensor))
            elif "to_out" in name:
                tensor.normal_(std=0.1)
    return TrackModel(made.eval())


def _edited(reference: np.ndarray) -> np.ndarray:
    """Every kind of place: the ends, either side of a bin's edge, two at once, a stretch, none."""
    rng = np.random.default_rng(1)
    length = len(reference)
    places = [
        [0],
        [1],
        [127],
        [128],
        [259],
        [260],
        [length - 1],
        [length - 260],
        [50, 700],
        [2000, 2001],
    ]
    places += [[int(p)] for p in rng.integers(0, length, 12)] + [list(range(1500, 2100)), []]
    rows = np.repeat(reference[None], len(places) + 2, axis=0)
    for row, own in zip(rows, places, strict=False):
        row[own] = (row[own] + 1) % 4
    rows[-2, 3000:-2] = reference[3002:]  # a deletion, behind which all is moved
    rows[-1, 5:1000] = reference[:995]
    return rows


@pytest.mark.parametrize("laid", [module.MOST_LAID, 2000])
def test_the_tracks_are_those_of_whole_windows(model, monkeypatch, laid):
    monkeypatch.setattr(module, "MOST_LAID", laid)
    reference = np.random.default_rng(0).integers(0, 5, 4096).astype(np.uint8)
    edited = _edited(reference)
    # By the layers of training: gradients are on.
    whole = model.of(model.module.one_hot(edited)).detach().numpy()
    with torch.no_grad():
        bins = model.module.prepared().convolved(model.module.one_hot(reference[None])[0])
        before = bins.clone()
        patched = list(convolved_edits(model, reference, bins, edited))
        found = np.stack([tracks_of(model, one) for one in patched])
        part = np.stack([tracks_of(model, one, slice(3, 7)) for one in patched])
    assert torch.equal(bins, before)
    np.testing.assert_allclose(found, whole, rtol=1e-5)
    np.testing.assert_allclose(part, whole[:, 3:7], rtol=1e-5)
    assert patched[-3] is bins  # the one that reads as the reference
    for row, one in zip(edited, patched, strict=True):
        with torch.no_grad():
            plain = model.module.prepared().convolved(model.module.one_hot(row[None])[0])
        torch.testing.assert_close(one, plain, rtol=1e-5, atol=2e-6)
        # What is patched is more than rounding.
        assert one is bins or float((one - bins).abs().max()) > 5e-5


def test_a_base_costs_the_bases_around_it(model, monkeypatch):
    reference = np.random.default_rng(0).integers(0, 4, 4096).astype(np.uint8)
    edited = np.repeat(reference[None], 3, axis=0)
    edited[[0, 1, 2], [1500, 2000, 2047]] ^= 1
    prepared = model.module.prepared()
    read = []
    plain = prepared.convolved
    with torch.no_grad():
        bins = plain(model.module.one_hot(reference[None])[0])
        monkeypatch.setattr(prepared, "convolved", lambda row: read.append(len(row)) or plain(row))
        assert len(list(convolved_edits(model, reference, bins, edited))) == 3
    assert len(read) == 1
    assert read[0] <= 3 * 1536


@pytest.mark.parametrize("place", [0, 5, 777, 2048, 4000, 4095])
def test_no_bin_beyond_a_stretch_changes_and_none_rests_on_more_bases(model, place):
    """By gradients of the plain layers: which bases each bin of the convolutions answers to."""
    reference = np.random.default_rng(0).integers(0, 4, 4096).astype(np.uint8)
    edited = reference.copy()
    edited[place] ^= 1
    stretch = stretch_of(reference, edited, model.module.prepared().reaches, 128)
    assert model.module.prepared().reaches == REACHES
    x = model.module.one_hot(reference[None]).requires_grad_()
    out = x.transpose(1, 2).unsqueeze(2)
    for block in (model.module.stem, *model.module.conv_tower):
        out = block(out)
    answers = []
    for index in range(out.shape[3]):
        (gradient,) = torch.autograd.grad(out[0, :, 0, index].square().sum(), x, retain_graph=True)
        answers.append(torch.nonzero(gradient[0].abs().sum(1)).flatten())
    touched = [i for i, bases in enumerate(answers) if place in bases]
    low, high = stretch.bins
    assert low <= touched[0]
    assert touched[-1] < high
    assert high - low <= len(touched) + 1
    bases = torch.cat(answers[low:high])
    assert stretch.bases[0] <= int(bases.min())
    assert int(bases.max()) < stretch.bases[1]


def test_tracks_stand_in_the_order_asked_for(model):
    codes = np.random.default_rng(0).integers(0, 4, (1, 4096)).astype(np.uint8)
    mixed = TrackModel(model.module, tracks=[model.tracks[i] for i in (4, 0, 3)])
    with torch.no_grad():
        bins = model.module.prepared().convolved(model.module.one_hot(codes)[0])
        np.testing.assert_array_equal(tracks_of(mixed, bins), tracks_of(model, bins)[:, [4, 0, 3]])
