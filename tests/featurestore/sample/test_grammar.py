"""The grammar as an oracle: positions, strands, ambiguity codes, against a plain re-evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import InputError
from featurestore.sample.grammar import Grammar
from featurestore.sequence.iupac import encode
from tests.oracles import sample as oracle

GRAMMAR = Grammar()


def empty(count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Windows without any motif: a run of one base far from every consensus."""
    return tuple(np.zeros((count, 1500), np.uint8) for _ in range(2))


def feature(name: str, site: str, middle: int, region: int = 0) -> float:
    codes = empty()
    start = (1000, 500)[region] + middle - len(site) // 2
    codes[region][0, start : start + len(site)] = encode(site)
    return float(GRAMMAR.features(*codes)[0, GRAMMAR.feature.index(name)])


def test_windows_of_the_written_sample_score_as_written(sample, windows):
    truth = oracle.read_table(sample / "truth" / "expression.tsv")
    promoter, terminator = (
        np.stack([encode(windows[row["gene"]][side]) for row in truth]) for side in (0, 1)
    )
    expected = np.array([[float(row[f"grammar_{t}"]) for t in GRAMMAR.tissue] for row in truth])
    assert np.abs(GRAMMAR.score(promoter, terminator) - expected).max() < 1e-6


def test_plain_python_from_json_agrees(sample, windows, grammar_json):
    truth = oracle.read_table(sample / "truth" / "expression.tsv")
    for row in truth[::60]:
        slow = oracle.grammar_score(grammar_json, *windows[row["gene"]])
        written = [float(row[f"grammar_{t}"]) for t in grammar_json["tissues"]]
        # The scan leaves out position weights below exp(-6), the plain one below 1e-4.
        assert slow == pytest.approx(written, abs=2e-3)


def test_contributions_add_up(sample):
    truth = {r["gene"]: r for r in oracle.read_table(sample / "truth" / "expression.tsv")}
    for row in oracle.read_table(sample / "truth" / "contributions.tsv"):
        total = sum(float(v) for k, v in row.items() if k not in {"species", "gene", "tissue"})
        assert total == pytest.approx(
            float(truth[row["gene"]][f"grammar_{row['tissue']}"]), abs=2e-5
        )


def test_position_profiles():
    assert feature("sim_m02", "TTGACCGC", -120) == pytest.approx(1 - np.exp(-2), abs=0.01)
    assert feature("sim_m02", "TTGACCGC", -165) == pytest.approx(
        1 - np.exp(-2 * np.exp(-0.5)), abs=0.01
    )
    assert feature("sim_m02", "TTGACCGC", -600) < 0.01
    assert feature("sim_m06", "CTAGGTCA", -250) == pytest.approx(
        1 - np.exp(-2 * np.exp(-1)), abs=0.01
    )
    assert feature("sim_m06", "CTAGGTCA", 60) < 0.01
    assert feature("sim_m12", "TGTAACGC", -90, region=1) > 0.85
    assert feature("sim_m12", "TGTAACGC", -90, region=0) < 0.01


def test_orientation():
    forward, backward = "GCCGACAT", oracle.reverse_complement("GCCGACAT")
    near = -20
    ratio = np.log(1 - feature("sim_m01", backward, near)) / np.log(
        1 - feature("sim_m01", forward, near)
    )
    assert ratio == pytest.approx(0.3, abs=0.01)
    assert feature("sim_m05", oracle.reverse_complement("TCTTCTTCTTCT"), -80) < 0.01


def test_ambiguity_code_is_the_mean_of_its_bases():
    def occupancy(site: str) -> float:
        return -np.log(1 - feature("sim_m02", site, -120)) / 2

    whole, broken, both = (occupancy(s) for s in ("TTGACCGC", "TTGATCGC", "TTGAYCGC"))
    assert both == pytest.approx((whole + broken) / 2, rel=1e-6)
    assert broken < 0.1 * whole


def test_sites_name_where_they_stand():
    promoter, terminator = empty()
    promoter[0, 1000 - 124 : 1000 - 116] = encode("TTGACCGC")
    found = [s for s in GRAMMAR.sites(promoter, terminator) if s[1] == "sim_m02"]
    assert found == [(0, "sim_m02", -124, 1, 1.0)]


def test_batches_do_not_matter():
    rng = np.random.default_rng(3)
    promoter, terminator = (rng.integers(0, 5, (300, 1500)).astype(np.uint8) for _ in range(2))
    whole = GRAMMAR.features(promoter, terminator)
    single = GRAMMAR.features(promoter[200:201], terminator[200:201])
    assert np.array_equal(whole[200:201], single)
    assert GRAMMAR.score(promoter[:0], terminator[:0]).shape == (0, 4)


def test_wrong_window_length_is_refused():
    with pytest.raises(InputError, match=r"expected \(n, 1500\)"):
        GRAMMAR.features(np.zeros((2, 5000), np.uint8), np.zeros((2, 1500), np.uint8))


def test_page_of_the_simulator_tells_these_numbers():
    page = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text().replace("−", "-")
    for motif in GRAMMAR.motifs:
        weights = ", ".join(f"{weight:g}" for weight in motif.weight)
        row = next(line for line in page.splitlines() if line.startswith(f"| `{motif.name}`"))
        assert f"| {motif.consensus} |" in row
        assert row.endswith(f"| {motif.forward:g}, {motif.reverse:g} | {weights} |")
    for term in (*GRAMMAR.pairs, *GRAMMAR.gc_terms):
        assert f"({term.weight[0]:g} in" in page
