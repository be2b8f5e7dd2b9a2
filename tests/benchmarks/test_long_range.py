"""What models of long windows read: against models whose answer is known, and plain recomputation."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks.long_range import contributions as parts  # noqa: E402
from benchmarks.long_range.attribution import (  # noqa: E402
    attention,
    gradient_x_input,
    integrated_gradients,
)
from benchmarks.long_range.contributions import Asked, contributions  # noqa: E402
from benchmarks.long_range.genes import Element, Gene, GeneWindows, Reading  # noqa: E402
from benchmarks.long_range.models import ExpressionModel, Opened, tss_bins  # noqa: E402
from benchmarks.long_range.outputs import write_bigwig  # noqa: E402
from benchmarks.long_range.placed import placed  # noqa: E402
from benchmarks.long_range.responses import Responses, gone, of_windows, shuffled  # noqa: E402
from benchmarks.long_range.saturation import Asked as SaturationAsked  # noqa: E402
from benchmarks.long_range.saturation import saturate  # noqa: E402
from benchmarks.long_range.session import Session  # noqa: E402
from featurestore.embedders.enformer import Enformer, EnformerConfig, TrackModel  # noqa: E402
from featurestore.embedders.enformer.track_model import Track  # noqa: E402
from featurestore.errors import InputError  # noqa: E402
from featurestore.sequence.iupac import decode, encode, reverse_complement  # noqa: E402
from featurestore.sequence.long_windows import LongWindows  # noqa: E402

CONTIG = 9000
MOTIF = "TGACCTCAATGC"  # not its own reverse complement


class Stand(torch.nn.Module):
    """A hand-made model: one track, the same in all bins."""

    def __init__(self, fn, length=1024, bins=4):
        super().__init__()
        self.fn, self.module = fn, torch.nn.Linear(1, 1)
        self.digest, self.tracks = "hand-made", (Track("h", 0, "t"),)
        self.input_bp, self.bin_bp, self.bins = length, 128, bins

    def of(self, x):
        return self.fn(x)[:, None, None].expand(-1, self.bins, 1)

    def predict(self, codes):
        with torch.no_grad():
            return self.of(torch.stack([one_hot(row) for row in codes])).numpy().copy()


def one_hot(codes):
    table = np.concatenate([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])
    return torch.from_numpy(table[codes])


@pytest.fixture(scope="module")
def contig():
    codes = np.random.default_rng(3).integers(0, 4, CONTIG).astype(np.uint8)
    codes[4100:4105] = 4
    return codes


def windows_of(codes):
    made = GeneWindows(None)
    made._genomes["s"] = LongWindows({"chr1": decode(codes)})
    return made


@pytest.fixture(scope="module")
def windows(contig):
    return windows_of(contig)


PLUS = Gene("s", "plus", "chr1", 4000, 1)
MINUS = Gene("s", "minus", "chr1", 5000, -1)
EDGE = Gene("s", "edge", "chr1", 700, -1)


def cut(codes, gene, length):
    """The window by plain slicing of a padded contig."""
    padded = np.concatenate([np.full(length, 4, np.uint8), codes, np.full(length, 4, np.uint8)])
    at = gene.tss + length - length // 2
    own = padded[at : at + length]
    return own if gene.strand > 0 else reverse_complement(own)


@pytest.fixture(scope="module")
def tiny():
    """Random weights, none of them neutral."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = Enformer(EnformerConfig.preset(
            "tiny", input_bp=2048, target_length=8, output_heads={"s": 2, "other": 1},
            track_names={"s": ["cage", "accessibility"]},
        ))  # fmt: skip
        with torch.no_grad():
            for name, tensor in model.state_dict().items():
                if "to_out" in name:
                    tensor.normal_(std=0.1)
                elif name.startswith(("_heads", "final")) and tensor.ndim > 1:
                    tensor.mul_(5)
    return TrackModel(model.eval(), "tiny")


def session_of(model, windows, genes):
    return Session(Opened(model), windows, list(genes))


# -- contributions ---------------------------------------------------------------------------


@pytest.mark.parametrize("gene", [PLUS, MINUS, EDGE])
def test_of_a_linear_model_contributions_are_its_weights_on_either_strand(
    contig, windows, gene, tmp_path
):
    bigwig = pytest.importorskip("pyBigWig")
    weight = torch.randn(1024, 4, generator=torch.Generator().manual_seed(0))
    model = Stand(lambda x: (x * weight).sum((1, 2)))
    (one,) = contributions(model, windows, [gene], Asked())
    codes = cut(contig, gene, 1024)
    expected = np.where(codes < 4, weight.numpy()[np.arange(1024), np.minimum(codes, 3)], 0)
    np.testing.assert_allclose(one.bases, expected, rtol=1e-6)
    assert one.output == pytest.approx(expected.sum(), rel=1e-5)
    np.testing.assert_allclose(one.bins, np.abs(expected).reshape(8, 128).mean(1), rtol=1e-5)
    write_bigwig(tmp_path / "x.bw", {"chr1": CONTIG}, one, 128)
    with bigwig.open(str(tmp_path / "x.bw")) as file:
        held = np.array(file.values("chr1", 0, CONTIG))
    for position in range(CONTIG):
        place = position - gene.tss + 512 if gene.strand > 0 else gene.tss - 1 - position + 512
        if 0 <= place < 1024:
            assert held[position] == pytest.approx(expected[place], abs=1e-6)
        else:
            assert math.isnan(held[position])


@pytest.mark.parametrize("strand", [1, -1])
def test_a_planted_motif_has_the_largest_contributions_where_it_stands(contig, strand, tmp_path):
    bigwig = pytest.importorskip("pyBigWig")
    gene = Gene("s", "g", "chr1", 6000, strand)
    codes = contig.copy()
    start = 5700
    word = encode(MOTIF) if strand > 0 else reverse_complement(encode(MOTIF))
    codes[start : start + 12] = word
    # The other strand's copy is nothing to a model that reads one direction.
    decoy = 6100
    codes[decoy : decoy + 12] = reverse_complement(word)
    filters = one_hot(encode(MOTIF)).T[None]

    def scan(x):
        hits = torch.nn.functional.conv1d(x.transpose(1, 2), filters)[:, 0]
        return torch.relu(hits - 10.5).sum(1)

    (one,) = contributions(Stand(scan), windows_of(codes), [gene], Asked())
    assert one.output == pytest.approx(1.5)
    write_bigwig(tmp_path / "x.bw", {"chr1": CONTIG}, one, 128)
    with bigwig.open(str(tmp_path / "x.bw")) as file:
        held = np.nan_to_num(np.array(file.values("chr1", 0, CONTIG)))
    assert set(np.flatnonzero(held)) == set(range(start, start + 12))


def test_integrated_gradients_add_up_to_the_difference_of_the_outputs(contig, windows, tiny):
    pytest.importorskip("captum")
    model = tiny.chosen(["cage"], ["s"])
    codes = windows.window(MINUS, 2048)
    found = integrated_gradients(model, codes, steps=40)
    bins = model.predict(np.stack([codes, np.full(2048, 4, np.uint8)]))[:, 3:6, 0].mean(1)
    assert tss_bins(model) == slice(3, 6)
    assert found.difference == pytest.approx(bins[0] - bins[1], rel=1e-3)
    assert found.bases.sum() == pytest.approx(bins[0] - bins[1], rel=0.02)
    # Gradient × input has no such promise, or the test would show nothing.
    plain = gradient_x_input(model, codes)
    assert abs(plain.bases.sum() - (bins[0] - bins[1])) > 0.1 * abs(bins[0] - bins[1])
    assert plain.output == pytest.approx(bins[0], rel=1e-4)
    assert all(p.requires_grad for p in model.module.parameters())


def test_gradients_are_the_same_computed_block_by_block(windows, tiny):
    codes = windows.window(PLUS, 2048)
    plain = gradient_x_input(tiny, codes).bases
    tiny.module.checkpointing = True
    again = gradient_x_input(tiny, codes).bases
    tiny.module.checkpointing = False
    np.testing.assert_allclose(again, plain, rtol=1e-4, atol=1e-7)
    tiny.module.dtype = "bf16"
    narrow = gradient_x_input(tiny, codes).bases
    tiny.module.dtype = "fp32"
    assert np.corrcoef(narrow, plain)[0, 1] > 0.95


def test_attention_is_that_of_the_layers_and_ends_at_its_reach(windows, tiny):
    codes = windows.window(PLUS, 2048)
    found = attention(tiny, codes)
    assert found.shape == (16,)
    assert found.sum() == pytest.approx(1)
    seen = []
    hooks = [
        block.attention.register_forward_hook(lambda m, i, o: seen.append(m.weights(i[0])))
        for block in tiny.module.transformer
    ]
    tiny.of(tiny.module.one_hot(codes[None]))
    for hook in hooks:
        hook.remove()
    expected = torch.stack(seen)[:, 0, :, 7:10].mean((0, 1, 2)).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    short = TrackModel(Enformer(EnformerConfig.preset("tiny", input_bp=2048, target_length=8, attention_reach=1)))  # fmt: skip
    near = attention(short, codes)
    assert set(np.flatnonzero(near)) == {6, 7, 8, 9, 10}


@pytest.mark.parametrize("gene", [PLUS, MINUS, EDGE])
def test_taking_an_element_out_is_the_difference_of_two_predictions(contig, windows, tiny, gene):
    elements = [
        Element("chr1", gene.tss - 600, gene.tss - 450, "a"),
        Element("chr1", gene.tss + 100, gene.tss + 160, "b"),
    ]
    model = tiny.chosen(["cage"], ["s"])
    (one,) = contributions(model, windows, [gene], Asked("ablation", ("cage",), ("s",)), elements)
    for element, score in one.elements:
        without = contig.copy()
        without[element.start : element.end] = 4
        both = np.stack([cut(contig, gene, 2048), cut(without, gene, 2048)])
        value = model.predict(both)[:, 3:6, 0].astype(np.float64).mean(1)
        assert abs(value[0] - value[1]) > 1e-5
        assert score == pytest.approx(value[0] - value[1], rel=2e-2, abs=1e-6)


def test_shuffles_keep_dinucleotides_and_are_drawn_anew(contig):
    pytest.importorskip("tangermeme")
    codes = contig[3900:4200]  # with a stretch of N
    made = shuffled(codes, 4, 7)

    def pairs(row):
        return np.bincount(row[:-1].astype(int) * 5 + row[1:], minlength=25)

    for row in made:
        np.testing.assert_array_equal(pairs(row), pairs(codes))
    assert len({row.tobytes() for row in made} | {codes.tobytes()}) == 5
    np.testing.assert_array_equal(made, shuffled(codes, 4, 7))


def test_a_shuffled_element_is_scored_by_the_mean_of_its_shuffles(contig, windows, tiny):
    pytest.importorskip("tangermeme")
    element, asked = (
        Element("chr1", 3700, 3900, "a"),
        Asked("shuffle", ("cage",), ("s",), shuffles=3),
    )
    (one,) = contributions(tiny, windows, [PLUS], asked, [element])
    model, values = tiny.chosen(["cage"], ["s"]), []
    for edit in parts.shuffles_of(PLUS, windows, element, asked):
        other = contig.copy()
        other[3700:3900] = np.frombuffer(edit.codes, np.uint8)
        assert (np.bincount(other, minlength=5) == np.bincount(contig, minlength=5)).all()
        values.append(model.predict(cut(other, PLUS, 2048)[None])[0, 3:6, 0].mean())
    reference = model.predict(cut(contig, PLUS, 2048)[None])[0, 3:6, 0].mean()
    assert one.elements[0][1] == pytest.approx(reference - np.mean(values), rel=2e-2, abs=1e-6)


def test_sums_over_elements_take_the_bases_of_the_element():
    bases = np.arange(100, dtype=np.float32)
    bins = np.arange(10.0)
    up = Element("chr1", 970, 985, "e")
    gene = Gene("s", "g", "chr1", 1000, 1)
    assert parts.sum_over(bases, gene, up) == sum(range(20, 35))
    assert parts.mean_over(bins, gene, up, 10) == pytest.approx((2 * 10 + 3 * 5) / 15)
    assert parts.mean_over(bins, gene, up, 10, around=5) == pytest.approx((2 * 8 + 3 * 2) / 10)
    back = gene._replace(strand=-1)
    assert parts.sum_over(bases, back, up) == sum(range(65, 80))
    assert parts.mean_abs_over(-bases, back, up) == np.mean(range(65, 80))


# -- models ----------------------------------------------------------------------------------


def test_a_model_of_expression_gives_targets_in_their_unit(windows):
    from learners.enformer.networks import ExpressionNetwork

    with torch.random.fork_rng():
        torch.manual_seed(0)
        trunk = Enformer(EnformerConfig.preset("tiny", input_bp=2048, target_length=8, output_heads={}))  # fmt: skip
        network = ExpressionNetwork(trunk, "genome", 3, dropout=0.1, shift=3, trained="all")
        torch.nn.init.normal_(network.head[1].weight)
    mean, deviation = np.array([1.0, 2.0, 3.0]), np.array([0.5, 2.0, 4.0])
    model = ExpressionModel(network, ["root", "leaf", "seed"], mean, deviation)
    codes = np.stack([windows.window(g, 2048) for g in (PLUS, MINUS)])
    with torch.no_grad():
        plain = network({"genome": torch.from_numpy(codes)}).numpy() * deviation + mean
    assert (model.bins, model.input_bp) == (1, 2048)
    np.testing.assert_allclose(model.predict(codes)[:, 0], plain, rtol=1e-4)
    leaf = model.chosen(["leaf"])
    np.testing.assert_allclose(leaf.predict(codes)[:, 0, 0], plain[:, 1], rtol=1e-4)
    # By shared convolutions.
    responses = Responses(leaf, windows, PLUS)
    assert responses.reference[0] == pytest.approx(plain[0, 1], rel=1e-4)
    edited = codes[:1].copy()
    edited[0, 900:950] = 4
    start = PLUS.tss - 1024 + 900
    found = responses.replaced([gone(start, start + 50)])
    assert found[0, 0] == pytest.approx(leaf.predict(edited)[0, 0, 0], rel=1e-4)
    with pytest.raises(InputError, match="leave out --rc"):
        Responses(leaf, windows, PLUS, [Reading(0, True)])


# -- mutagenesis -----------------------------------------------------------------------------


@pytest.mark.parametrize("gene", [PLUS, MINUS])
def test_all_changes_of_an_element_are_those_of_whole_windows(
    contig, windows, tiny, gene, tmp_path
):
    zarr = pytest.importorskip("zarr")
    element = Element("chr1", gene.tss - 210, gene.tss - 198, "e")
    readings = (Reading(-2), Reading(-2, True), Reading(3), Reading(3, True))
    asked = SaturationAsked(("cage",), ("s",), readings)
    session = session_of(tiny, windows, [gene])
    session.windows.store = type("Store", (), {"digest": "d"})()
    (one,) = saturate(session, [element], asked, tmp_path / "out")
    model = tiny.chosen(["cage"], ["s"])

    def plain(codes):
        total = 0.0
        for shift, turned in ((-2, 0), (-2, 1), (3, 0), (3, 1)):
            own = cut(codes, gene._replace(tss=gene.tss + gene.strand * shift), 2048)
            if turned:
                own = reverse_complement(own)
            bins = model.predict(own[None])[0, :, 0]
            # The mirror of bins 3 to 5 of 8.
            total += bins[2:5].mean() if turned else bins[3:6].mean()
        return total / 4

    before = plain(contig)
    root = zarr.open_group(tmp_path / "out" / "mutagenesis.zarr")
    held = root["delta"][0]
    for offset in (0, 5, 11):
        for base in range(4):
            other = contig.copy()
            other[element.start + offset] = base
            place, letter = (offset, base) if gene.strand > 0 else (11 - offset, 3 - base)
            assert one.delta[place, letter] == pytest.approx(plain(other) - before, rel=0.05, abs=3e-6)  # fmt: skip
            assert held[place, letter] == pytest.approx(one.delta[place, letter], rel=1e-5)
    assert decode(one.codes) == decode(cut(contig, gene, 2048)[1024 + (-210 if gene.strand > 0 else 198):][:12])  # fmt: skip


def test_a_stopped_mutagenesis_goes_on_and_ends_the_same(windows, tiny, tmp_path, monkeypatch):
    import pandas as pd

    from benchmarks.long_range import saturation

    elements = [Element("chr1", 3700, 3710, "a"), Element("chr1", 4150, 4160, "b")]
    asked = SaturationAsked(("cage",), ("s",))
    session = session_of(tiny, windows, [PLUS, MINUS])
    session.windows.store = type("Store", (), {"digest": "d"})()
    monkeypatch.setattr(saturation, "AT_ONCE", 12)
    saturate(session, elements, asked, tmp_path / "whole")
    computed = []
    plain = saturation._effects

    def counting(responses, edits):
        if len(computed) == 2:
            raise KeyboardInterrupt
        computed.append(len(edits))
        return plain(responses, edits)

    monkeypatch.setattr(saturation, "_effects", counting)
    with pytest.raises(KeyboardInterrupt):
        saturate(session, elements, asked, tmp_path / "stopped")
    later = []
    monkeypatch.setattr(
        saturation, "_effects", lambda r, edits: later.append(len(edits)) or plain(r, edits)
    )
    saturate(session, elements, asked, tmp_path / "stopped")
    tables = [pd.read_parquet(tmp_path / n / "mutagenesis.parquet") for n in ("whole", "stopped")]
    pd.testing.assert_frame_equal(*tables)
    assert sum(computed) + sum(later) == len(tables[0]) == 3 * 30  # "a" lies beyond one window
    assert sum(later) == 90 - 24
    assert not (tmp_path / "stopped" / ".mutagenesis.journal").exists()


def test_an_element_of_an_assay_keeps_its_place_before_the_tss():
    window = encode("A" * 20 + "C" * 20)
    assert decode(placed(window, encode("GTG"), 3, -2)) == "A" * 15 + "GTG" + "AA" + "C" * 20
    assert decode(placed(window, encode("GTGTG"), 3, -2)) == "A" * 13 + "GTGTG" + "AA" + "C" * 20
    assert decode(placed(window, encode("G"), 3, -2)) == "NN" + "A" * 15 + "G" + "AA" + "C" * 20
    assert decode(placed(window, encode("G"), 3, 5)) == "A" * 20 + "CC" + "G" + "C" * 15 + "NN"
    for length, end in ((30, -2), (4, 2), (3, 30)):
        with pytest.raises(InputError, match="--at"):
            placed(window, encode("GTG"), length, end)


def test_windows_that_differ_share_their_convolutions(windows, tiny):
    codes = np.stack([windows.window(PLUS, 2048)] * 3)
    codes[1, 500:700], codes[2, 3] = 4, 0
    whole = tiny.predict(codes)[:, 3:6].mean(1)
    np.testing.assert_allclose(of_windows(tiny, codes), whole, rtol=1e-5)
