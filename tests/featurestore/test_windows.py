from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.build.windows.window_source import WindowSource, lay_down
from featurestore.inputs.model import Genome, Region, SpeciesData
from featurestore.sequence.iupac import LETTERS, decode, encode, reverse_complement
from featurestore.sequence.windows import bin_starts, cut_window, window_span
from tests.oracles import windows as oracle

EMPRES = (Region("promoter", "tss", 4000, 1000), Region("terminator", "tts", 1000, 4000))
MARKER = "ACGTTGCAAGCTTACGGATC"


@given(
    contig=st.text(alphabet=LETTERS, min_size=1, max_size=80),
    ends=st.tuples(st.integers(0, 79), st.integers(0, 79)),
    strand=st.sampled_from([1, -1]),
    anchor=st.sampled_from(["tss", "tts"]),
    up=st.integers(0, 60),
    down=st.integers(0, 60),
)
def test_windows_equal_those_looked_up_base_by_base(contig, ends, strand, anchor, up, down):
    first, last = sorted(min(e, len(contig) - 1) for e in ends)
    start, end = first, last + 1
    tss, tts = (start, end) if strand > 0 else (end, start)
    low, high = window_span(tss if anchor == "tss" else tts, strand, up, down)
    codes, padded = cut_window(encode(contig), low, high, strand)
    assert decode(codes) == oracle.window(contig, first, last, strand, anchor, up, down)
    assert padded == sum(not 0 <= p < len(contig) for p in range(low, high))


def _one_gene(code: np.ndarray, start: int, end: int, strand: int, regions=EMPRES) -> SpeciesData:
    tss, tts = (start, end) if strand > 0 else (end, start)
    return SpeciesData(
        name="x", kind="genome", gene=["g"], locus=["g"], contig=["c"],
        strand=np.array([strand], np.int8), tss=np.array([tss]), tts=np.array([tts]), family=[""],
        regions=regions,
        genome=Genome(["c"], np.array([0]), np.array([len(code)]), code),
    )  # fmt: skip


@pytest.mark.parametrize("strand", [1, -1])
@pytest.mark.parametrize(
    ("anchor", "offset", "lands"),
    [
        ("tss", -3500, ("promoter", 2)),
        ("tss", 3500, None),
        ("tts", 3500, ("terminator", 18)),
        ("tts", -3500, None),
    ],
)
def test_markers_land_where_declared_and_mirrored_ones_nowhere(
    tmp_path, strand, anchor, offset, lands
):
    """A published pipeline of this field took −1000 … +4000 around the TSS for −4000 … +1000."""
    start, end = 20_000, 32_000
    code = encode("A" * 60_000).copy()
    tss, tts = (start, end) if strand > 0 else (end, start)
    boundary = tss if anchor == "tss" else tts
    marker = encode(MARKER)
    if strand > 0:
        code[boundary + offset : boundary + offset + len(marker)] = marker
    else:
        code[boundary - offset - len(marker) : boundary - offset] = reverse_complement(marker)
    lay_down(tmp_path, _one_gene(code, start, end, strand), 250)
    bins = WindowSource(tmp_path).bin_inputs(0, 1, None)[0]
    found = [
        (EMPRES[r].name, b)
        for r in range(2)
        for b in range(bins.shape[1])
        if MARKER in decode(bins[r, b])
    ]
    assert found == ([lands] if lands else [])


@pytest.mark.parametrize("strand", [1, -1])
@pytest.mark.parametrize("input_bp", [50, 64, 101])
def test_model_windows_are_centred_on_their_bin(tmp_path, strand, input_bp):
    rng = np.random.default_rng(0)
    code = rng.integers(0, 15, 3000).astype(np.uint8)
    regions = (Region("p", "tss", 230, 70), Region("t", "tts", 120, 100))
    lay_down(tmp_path, _one_gene(code, 200, 900, strand, regions), 50)
    source = WindowSource(tmp_path)
    got = source.bin_inputs(0, 1, input_bp)[0]
    flank = (input_bp - 50) // 2
    for r, region in enumerate(regions):
        for b in range(source.bins):
            up = region.upstream - b * 50 + flank
            want = oracle.window(decode(code), 200, 899, strand, region.anchor, up, input_bp - up)
            assert decode(got[r, b]) == want


def test_windows_off_the_contig_read_n_and_say_so(tmp_path):
    lay_down(tmp_path, _one_gene(encode("ACGT" * 100), 10, 390, 1), 250)
    codes, padded = WindowSource(tmp_path).region_codes(0, 1)
    assert padded.tolist() == [[4000 - 10 + 1000 - 390, 4000 - 10 + 1000 - 390]]
    assert decode(codes[0, 0]).strip("N") == "ACGT" * 100
    assert decode(codes[0, 0]).startswith("N" * 3990 + "ACGT")


def test_bins_count_from_the_most_upstream_base():
    starts = bin_starts(EMPRES, 250)
    assert starts.shape == (2, 20)
    assert starts[0, [0, 2, 19]].tolist() == [-4000, -3500, 750]
    assert starts[1, [0, 18]].tolist() == [-1000, 3500]


def test_the_last_bin_may_be_short_and_is_filled_with_n(tmp_path):
    regions = (Region("p", "tss", 60, 0), Region("t", "tts", 0, 100))
    rng = np.random.default_rng(1)
    lay_down(
        tmp_path, _one_gene(rng.integers(0, 4, 1000).astype(np.uint8), 300, 700, 1, regions), 50
    )
    bins = WindowSource(tmp_path).bin_inputs(0, 1, None)[0]
    assert decode(bins[0, 1])[10:] == "N" * 40
    assert "N" not in decode(bins[0, 1])[:10]
    assert "N" not in decode(bins[1, 1])
