"""The grammar of the long-range world: planted elements, distances, orientations, edits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from featurestore.sample.long_range.grammar import Grammar, Landscape
from featurestore.sample.long_range.motifs import MOTIFS, site_table, words
from featurestore.sequence.iupac import encode
from tests.oracles import long_range as oracle
from tests.oracles.sample import reverse_complement

CORE, ACTIVATOR, DIRECTION = (MOTIFS[name] for name in ("core", "activator", "direction"))
TSS = 100_000


def landscape(
    element: str, start: int, *, strand: int = 1, promoter: tuple[str, ...] = ()
) -> Landscape:
    """A contig of A with a gene at 100 kb whose core is whole, and one element."""
    text = np.full(200_000, ord("A"), np.uint8)

    def put(at: int, site: str) -> None:
        text[at : at + len(site)] = np.frombuffer(site.encode(), np.uint8)

    for number, site in enumerate((CORE, *promoter)):
        offset = -30 if number == 0 else -60 - 20 * number
        if strand == 1:
            put(TSS + offset, site)
        else:
            put(TSS - offset - 12, reverse_complement(site))
    put(start, element.ljust(300, "A"))
    places = (np.array([value], np.int64) for value in (TSS, strand, start))
    return Landscape(Grammar(), encode(text.tobytes().decode()), *places)


def distal(element: str, start: int, **options) -> float:
    scores = landscape(element, start, **options).score()
    assert scores.promoter.strength[0] == pytest.approx(1.0)  # base −3, whole core +3
    assert scores.expression[0] == pytest.approx(1 + scores.contribution.sum())
    return float(scores.contribution[0, 0])


@pytest.mark.parametrize("strand", [1, -1])
@pytest.mark.parametrize("distance", [5_000, 20_000, 80_000])
def test_contribution_falls_with_distance_and_depends_on_orientation(distance, strand):
    left, right = TSS - distance - 150, TSS + distance - 150
    sites = f"AAA{ACTIVATOR}AAA{reverse_complement(ACTIVATOR)}AAA"  # either strand counts: (1 + 1)²
    full = 4 * math.exp(-distance / 25_000)
    rightwards, leftwards = sites + DIRECTION, sites + reverse_complement(DIRECTION)
    assert distal(rightwards, left, strand=strand) == pytest.approx(full)
    assert distal(leftwards, right, strand=strand) == pytest.approx(full)
    assert distal(leftwards, left, strand=strand) == pytest.approx(full / 4)
    assert distal(rightwards, right, strand=strand) == pytest.approx(full / 4)
    assert distal(sites, left, strand=strand) == pytest.approx(0.625 * full)


@pytest.mark.parametrize("distance", [1_000, 4_999, 80_001])
def test_nothing_acts_from_too_near_or_too_far(distance):
    assert distal(ACTIVATOR + DIRECTION, TSS - distance - 150) == 0


def test_wrong_bases_weaken_a_site_and_three_end_it():
    start = TSS - 10_150
    whole = distal(ACTIVATOR, start)
    for errors, occupancy in ((1, 0.25), (2, 0.0625), (3, 0.0)):
        site = reverse_complement(reverse_complement(ACTIVATOR)[:-errors]).rjust(12, "A")
        assert oracle.wrong(site, ACTIVATOR) == errors  # the word begins TGC
        assert distal(site, start) == pytest.approx(whole * occupancy**2)


def test_promoter_sites_multiply_expression_on_both_strands():
    for strand in (1, -1):
        made = landscape("", TSS + 9_850, strand=strand, promoter=(ACTIVATOR, ACTIVATOR)).score()
        assert made.promoter.strength[0] == pytest.approx(2 ** (2 * 0.8))
        assert made.promoter.sites[0] == pytest.approx(2)


def test_openers_and_motifs_outside_elements_do_nothing():
    assert distal(MOTIFS["opener"] * 3 + DIRECTION, TSS - 10_150) == 0
    contig = landscape("", TSS - 10_150)
    code = contig.code.copy()
    code[TSS - 12_000 : TSS - 11_988] = encode(ACTIVATOR)
    assert contig.score(code).expression[0] == contig.score().expression[0]


def test_no_motif_is_mistaken_for_another():
    names = list(MOTIFS)
    for name in names:
        for other in names:
            for word in (MOTIFS[other], reverse_complement(MOTIFS[other])):
                if word != MOTIFS[name]:
                    assert oracle.wrong(word, MOTIFS[name]) >= 5


def test_the_table_of_sites_counts_wrong_bases():
    rng = np.random.default_rng(0)
    table, letters = site_table(), "ACGT"
    for _ in range(300):
        motif = list(MOTIFS.values())[rng.integers(len(MOTIFS))]
        word = list(motif if rng.random() < 0.5 else reverse_complement(motif))
        for at in rng.permutation(12)[: rng.integers(0, 5)]:
            word[at] = letters[rng.integers(4)]
        near = min(
            oracle.wrong("".join(word), w)
            for m in MOTIFS.values()
            for w in (m, reverse_complement(m))
        )
        assert table[words(encode("".join(word)))[0]] == (near <= 2)


def test_an_edit_scores_as_the_edited_contig(large):
    contig = large.landscapes[0]
    reference = contig.score()
    rng = np.random.default_rng(1)
    near_sites = np.concatenate([contig.start[:40] + 20, contig.tss[:20] - 100, contig.tss[:20]])
    changed = 0
    for position in near_sites.tolist():
        bases = rng.integers(0, 5, 120).astype(np.uint8)
        code = contig.code.copy()
        code[position : position + 120] = bases
        expected = contig.score(code).expression
        np.testing.assert_allclose(
            contig.edited(reference, position, bases).expression, expected, rtol=1e-12
        )
        changed += not np.allclose(expected, reference.expression)
    assert changed > 20
