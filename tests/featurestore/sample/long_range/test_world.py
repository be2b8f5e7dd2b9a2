"""The genome of the long-range world: what stands where, and what its expression is made of."""

from __future__ import annotations

import numpy as np
from scipy.stats import ks_2samp, ttest_ind

from featurestore.sample.long_range.expression import measure
from tests.oracles import long_range as oracle


def _by_kind(large, value):
    groups: dict[str, list[float]] = {}
    for element in large.elements:
        groups.setdefault(element.kind, []).append(value(element, large.landscapes[element.contig]))
    return groups


def test_half_of_the_variance_between_genes_is_distal(settings, large):
    scores = [landscape.score() for landscape in large.landscapes]
    expression = measure(settings, large, scores)
    observed = np.log10(np.median(expression.tpm, axis=1))
    # The parts are independent: each one's share is its squared correlation with the whole.
    explained = {
        name: np.corrcoef(observed, np.log10(part))[0, 1] ** 2
        for name, part in {
            "promoter": expression.promoter,
            "distal": 1 + expression.distal,
            "both": expression.value,
        }.items()
    }
    assert 0.30 < explained["promoter"] < 0.52
    assert 0.38 < explained["distal"] < 0.60
    assert 0.84 < explained["both"] < 0.93
    shares = expression.shares()
    assert abs(sum(shares.values()) - 1) < 1e-9
    assert abs(shares["noise"] - (1 - explained["both"])) < 0.03


def test_decoys_match_enhancers_in_number_length_composition_and_place(large):
    def gc(element, landscape):
        return float(np.isin(landscape.code[element.start : element.end], (1, 2)).mean())

    def nearest(element, landscape):
        return float(np.abs(landscape.tss - (element.start + element.end) // 2).min())

    composition, distance = _by_kind(large, gc), _by_kind(large, nearest)
    counts = {kind: len(values) for kind, values in composition.items()}
    decoys = counts["accessible_decoy"] + counts["inert_decoy"]
    assert counts["enhancer"] == decoys > 600
    assert abs(counts["accessible_decoy"] - counts["inert_decoy"]) <= len(large.landscapes)
    assert {element.end - element.start for element in large.elements} == {300}
    for kind in ("accessible_decoy", "inert_decoy"):
        assert ttest_ind(composition["enhancer"], composition[kind]).pvalue > 0.001
        assert ks_2samp(distance["enhancer"], distance[kind]).pvalue > 0.001
    assert min(map(min, distance.values())) > 5_000


def test_only_enhancers_have_strength(large):
    strength, opener = {}, {}
    for contig, landscape in enumerate(large.landscapes):
        state = landscape.score().elements
        for i, element in enumerate(large.elements_of(contig)):
            strength.setdefault(element.kind, []).append(state.strength[i])
            opener.setdefault(element.kind, []).append(state.openers[i])
    assert min(strength["enhancer"]) > 0.2  # two sites with a wrong base each give 0.25
    assert not any(strength["accessible_decoy"])
    assert not any(strength["inert_decoy"])
    assert not any(opener["enhancer"])
    # As many sites, as often weakened: accessibility does not tell them apart.
    enhancer = np.sqrt(strength["enhancer"])
    assert ks_2samp(enhancer, opener["accessible_decoy"]).pvalue > 0.001


def test_contigs_are_long_and_hold_an_enhancer_each_twenty_kb(large):
    sizes = np.array([contig.code.size for contig in large.species.contigs])
    assert sizes.min() > 1_000_000
    enhancers = sum(element.kind == "enhancer" for element in large.elements)
    assert 15_000 < sizes.sum() / enhancers < 22_000
    assert 20_000 < sizes.sum() / len(large.species.genes) < 25_000


def test_relatives_are_alike_at_the_promoter_and_not_around_it(large):
    families: dict[str, list] = {}
    for gene in large.species.genes:
        families.setdefault(gene.family, []).append(gene)
    sizes = [len(family) for family in families.values()]
    assert max(sizes) > 3
    assert sizes.count(1) > 50
    together, near, far = [], [], []
    for family in families.values():
        if len(family) > 1:
            first, second = family[:2]
            together.append(first.contig == second.contig)
            for values, span in ((near, (-80, 0)), (far, (-6_000, -5_000))):
                a, b = (_window(large, gene, span) for gene in (first, second))
                if len(a) == len(b) > 0:
                    values.append(float((a == b).mean()))
    assert np.mean(together) > 0.6
    assert np.mean(near) > 0.6
    assert np.mean(far) < 0.35


def _window(large, gene, span):
    low, high = gene.span(span)
    code = large.landscapes[gene.contig].code[max(low, 0) : max(high, 0)]
    return code if gene.strand == 1 else np.where(code < 4, 3 - code, code)[::-1]


def test_no_site_stands_where_none_was_planted(large):
    landscape = large.landscapes[0]
    code = landscape.code
    allowed = np.zeros(code.size, bool)
    for element in large.elements_of(0):
        allowed[element.start : element.end] = element.kind != "inert_decoy"
    for gene in large.genes_of(0):
        low, high = gene.span((-300, 0))
        allowed[low:high] = True
    stray = planted = 0
    for motif in large.landscapes[0].grammar.describe()["motifs"].values():
        for word in (motif, oracle.reverse_complement(motif)):
            wrong = sum(
                (code[step : code.size - 11 + step] != "ACGT".index(base)).astype(int)
                for step, base in enumerate(word)
            )
            found = np.flatnonzero(wrong <= 2)
            planted += allowed[found].sum()
            stray += (~allowed[found]).sum()
    # Chance alone would leave one per 3.3 kb, hundreds on this contig.
    assert stray <= 1
    assert planted > 500
