"""Neighbours found by sorted search are those that looking at all pairs gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.imputation.neighbourhood import EVERY, ORIENTATIONS, Neighbourhood, Places


def _by_all_pairs(ref: Places, gene: Places, row: int, own: int) -> list[int]:
    """References in the order of nearness, by comparing the gene with each of them."""
    here = [
        j
        for j in range(len(ref))
        if j != own and gene.contig[row] >= 0 and ref.contig[j] == gene.contig[row]
    ]
    here.sort(key=lambda j: (ref.tss[j], j))
    before = sum(ref.tss[j] < gene.tss[row] for j in here)
    between = {
        j: rank - before if rank >= before else before - 1 - rank for rank, j in enumerate(here)
    }
    left = {j: rank < before for rank, j in enumerate(here)}
    return sorted(here, key=lambda j: (abs(ref.tss[j] - gene.tss[row]), between[j], left[j]))


def _random(rng: np.random.Generator, genes: int, span: int, contigs: int) -> Places:
    contig = rng.integers(-1, contigs, genes)
    tss = rng.integers(0, span, genes).astype(float)
    tts = np.maximum(tss + rng.integers(-20, 20, genes), 0.0)
    return Places(contig, tss, tts, rng.integers(-1, 2, genes).astype(np.int8))


@given(
    seed=st.integers(0, 10_000), genes=st.integers(1, 40), span=st.sampled_from([2, 15, 400]),
    k=st.integers(1, 12),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_nearest_are_those_of_all_pairs(seed: int, genes: int, span: int, k: int) -> None:
    # A short span makes ties and duplicates of position; one contig is −1, no position known.
    rng = np.random.default_rng(seed)
    ref = _random(rng, genes, span, 3)
    asked, itself = ref, np.arange(genes)
    if seed % 2:
        asked, itself = _random(rng, 7, span, 4), np.full(7, -1)
    found = Neighbourhood(ref).nearest(asked, k, itself=itself)
    for row in range(len(asked)):
        want = _by_all_pairs(ref, asked, row, int(itself[row]))[:k]
        assert found.index[row].tolist() == want + [-1] * (k - len(want))
        assert np.isnan(found.distance[row, len(want) :]).all()
        assert found.first(1).index[row, 0] == (want[0] if want else -1)


def test_distance_side_gap_and_orientation_in_transcript_direction() -> None:
    # Written out by hand: (tss, tts, strand) of the gene, of its neighbour, and what is to be.
    cases = [
        ((100, 200, 1), (300, 400, 1), 200, 100, "same strand"),
        ((100, 200, 1), (400, 300, -1), 300, 100, "convergent"),
        ((200, 100, -1), (300, 400, 1), -100, 100, "divergent"),
        ((200, 100, -1), (60, 10, -1), 140, 40, "same strand"),
        ((200, 100, -1), (10, 60, 1), 190, 40, "convergent"),
        ((100, 200, 1), (60, 10, -1), -40, 40, "divergent"),
        ((100, 200, 1), (180, 120, -1), 80, -60, "convergent"),  # nested
        ((100, 200, 1), (150, 300, 1), 50, -50, "same strand"),  # overlapping
        ((100, 200, 1), (100, 50, -1), 0, 0, "divergent"),  # one start, back to back
        ((100, 200, 1), (300, 300, 0), 200, 100, "unknown"),
        ((100, 200, 0), (300, 400, 1), 200, 100, "unknown"),
    ]
    for gene, other, distance, gap, orientation in cases:
        one, two = (
            Places(
                np.zeros(1, np.int64), np.array([float(x[0])]), np.array([float(x[1])]),
                np.array([x[2]], np.int8),
            )
            for x in (gene, other)
        )  # fmt: skip
        found = Neighbourhood(two).nearest(one, 1)
        assert found.distance[0, 0] == distance
        assert found.gap[0, 0] == gap
        assert ORIENTATIONS[found.orientation[0, 0]] == orientation
        assert found.side[0, 0] == np.sign(distance)


def test_no_reference_at_all() -> None:
    nobody = Places(np.zeros(0, np.int64), np.zeros(0), np.zeros(0), np.zeros(0, np.int8))
    rng = np.random.default_rng(0)
    found = Neighbourhood(nobody).nearest(_random(rng, 5, 10, 2), 3)
    assert found.index.tolist() == [[-1] * 3] * 5
    assert not found.there.any()
    assert np.isinf(found.far).all()


def test_a_block_place_without_position_has_no_neighbours() -> None:
    table = np.array([[0, 5, 5, 1, 1], [0, 6, 6, 1, 0], [0, 9, 9, -1, 1]], float)
    places = Places.of(table)
    assert places.contig.tolist() == [0, -1, 0]
    found = Neighbourhood(places).nearest(places, 2, itself=np.arange(3))
    assert found.index.tolist() == [[2, -1], [-1, -1], [0, -1]]


@pytest.mark.parametrize("span", [30, 5000])
def test_references_that_are_passed_over_are_not_found(span: int) -> None:
    rng = np.random.default_rng(4)
    ref = _random(rng, 150, span, 2)
    passed = rng.integers(0, 6, (150, 2))
    passed[::7], passed[3::11] = 0, EVERY
    found = Neighbourhood(ref).nearest(ref, 4, itself=np.arange(150), passed=passed)
    for row in range(150):
        near = _by_all_pairs(ref, ref, row, row)
        along = sorted(near, key=lambda j: (ref.tss[j], j))
        before = sum(ref.tss[j] < ref.tss[row] for j in near)
        low, high = before - passed[row, 0], before + passed[row, 1]
        want = [j for j in near if not low <= along.index(j) < high]
        assert found.index[row].tolist() == (want + [-1] * 4)[:4]


def test_missing_are_counted_up_to_the_next_that_is_there() -> None:
    rng = np.random.default_rng(5)
    ref = _random(rng, 200, 60, 4)
    there = (rng.random(200) < 0.3) & (ref.contig != 2)
    rows = np.flatnonzero(~there)
    found = Neighbourhood(ref).missing(ref.take(rows), there, itself=rows)
    for row, (below, above) in zip(rows.tolist(), found.tolist(), strict=True):
        others = [j for j in range(200) if j != row and ref.contig[j] == ref.contig[row] >= 0]
        others.sort(key=lambda j: (ref.tss[j], j))
        if not there[others].any():
            assert below == above == EVERY
            continue
        start = sum(ref.tss[j] < ref.tss[row] for j in others)
        left, right = there[others[:start]][::-1], there[others[start:]]
        assert below == (left.argmax() if left.any() else len(left))
        assert above == (right.argmax() if right.any() else len(right))
    assert EVERY in found


@pytest.mark.parametrize("k", [1, 5])
def test_order_of_the_genes_asked_for_is_of_no_matter(k: int) -> None:
    rng = np.random.default_rng(3)
    ref, asked = _random(rng, 300, 5000, 2), _random(rng, 50, 5000, 2)
    order = rng.permutation(50)
    around = Neighbourhood(ref)
    assert (around.nearest(asked, k).index[order] == around.nearest(asked.take(order), k).index).all()  # fmt: skip
