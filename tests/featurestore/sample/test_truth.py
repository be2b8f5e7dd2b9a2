"""The truth against what was written: effects, mutants, ceilings, and what learners reach."""

from __future__ import annotations

import json

import numpy as np
import pytest

from featurestore.sample.grammar import Grammar
from featurestore.sequence.iupac import encode
from tests.oracles import sample as oracle

SPECIES = ("simulated_alpha", "simulated_beta")
TISSUES = ("leaf", "root", "flower", "seed")


@pytest.fixture(scope="module")
def expression(sample):
    """Per species: genes × samples, and the rows of the sample table."""
    tables = {}
    for name in SPECIES:
        rows = oracle.read_table(sample / f"{name}.tpm.tsv")
        samples = oracle.read_table(sample / f"{name}.samples.tsv")
        values = np.array([[float(row[s["sample"]]) for s in samples] for row in rows])
        tables[name] = ([row["gene"] for row in rows], samples, values)
    return tables


@pytest.fixture(scope="module")
def truth(sample):
    return {row["gene"]: row for row in oracle.read_table(sample / "truth" / "expression.tsv")}


@pytest.fixture(scope="module")
def observed(expression):
    """log10(1 + median TPM of the controls) of every gene."""
    out = {}
    for genes, samples, values in expression.values():
        control = np.array([s["control"] == "1" for s in samples])
        medians = np.median(values[:, control], axis=1)
        out |= dict(zip(genes, np.log10(1 + medians).tolist(), strict=True))
    return out


def test_planted_effects_are_recovered_by_regression(sample, expression, grammar_json):
    """Observed log10 TPM per tissue on the true features gives back the planted weights."""
    rows = oracle.read_table(sample / "truth" / "features.tsv")
    names = list(rows[0])[2:]
    design = np.array([[1.0, *(float(row[n]) for n in names)] for row in rows])
    design = np.c_[design, [row["species"] == SPECIES[1] for row in rows]]
    terms = [*grammar_json["motifs"], *grammar_json["pairs"], *grammar_json["gc_terms"]]
    planted = np.array([term["weight"] for term in terms])
    inverse = np.linalg.inv(design.T @ design)
    for t, tissue in enumerate(TISSUES):
        observed = np.concatenate(
            [
                np.log10(values[:, _chosen(samples, tissue)] + 1e-3).mean(axis=1)
                for _, samples, values in expression.values()
            ]
        )
        estimate = inverse @ design.T @ observed
        residual = observed - design @ estimate
        error = np.sqrt(np.diag(inverse) * residual.var())
        # Families share hidden effects, which widens the true error beyond the naive one.
        away = np.abs(estimate[1:-1] - planted[:, t]) / error[1:-1]
        assert away.max() < 5
        assert np.median(away) < 1.5
        assert np.corrcoef(estimate[1:-1], planted[:, t])[0, 1] > 0.95


def _chosen(samples, tissue):
    return np.array([s["tissue"] == tissue and s["control"] == "1" for s in samples])


def test_variants_fit_the_genome_and_the_recipe(sample, genomes):
    lines, records = oracle.read_vcf(sample / "simulated_alpha.mutants.vcf")
    table = oracle.read_table(sample / "simulated_alpha.samples.tsv")
    assert set(lines) == {row["line"] for row in table if row["control"] == "0"}
    genome = genomes[SPECIES[0]]
    for contig, position, ref, alt, _ in records:
        assert genome[contig][position : position + len(ref)].upper() == ref
        assert ref != alt
        assert set(ref + alt) <= set("ACGT")
    order = [(list(genome).index(contig), position) for contig, position, *_ in records]
    assert order == sorted(order)
    single = [(ref, alt) for _, _, ref, alt, _ in records if len(ref) == len(alt) == 1]
    transitions = sum(change in {("G", "A"), ("C", "T")} for change in single)
    assert transitions / len(single) > 0.5
    assert 30 < len(records) - len(single) < 0.1 * len(records)
    carriers = [sum("1" in call for call in calls) for *_, calls in records]
    assert min(carriers) == 1
    assert 0.9 < carriers.count(1) / len(records) < 1
    calls = [call for *_, row in records for call in row if "1" in call]
    assert 0.3 < sum(call != "1|1" for call in calls) / len(calls) < 0.4


def test_mutant_effects_equal_the_grammar_on_the_mutated_contigs(sample, genomes, genes, windows):
    """Whole contigs are rewritten; every gene is re-evaluated, not only those listed."""
    lines, records = oracle.read_vcf(sample / "simulated_alpha.mutants.vcf")
    listed = {
        (row["line"], row["gene"]): [float(row[f"delta_{t}"]) for t in TISSUES]
        for row in oracle.read_table(sample / "truth" / "mutants.tsv")
    }
    grammar, everything = Grammar(), genes[SPECIES[0]]
    wild = _score(grammar, [windows[name] for name in everything])
    seen = 0
    for column, line in list(enumerate(lines))[:5]:
        alleles = []
        for side in (0, 2):
            changed = [(c, p, r, a) for c, p, r, a, calls in records if calls[column][side] == "1"]
            alleles.append(_score(grammar, _mutated(genomes[SPECIES[0]], everything, changed)))
        delta = np.log10((10 ** alleles[0] + 10 ** alleles[1]) / 2) - wild
        expected = np.array([listed.get((line, name), [0.0] * 4) for name in everything])
        assert np.abs(delta - expected).max() < 2e-6
        seen += (np.abs(delta).max(axis=1) > 0.05).sum()
    assert seen > 50


def _mutated(genome, everything, changed):
    cut = {}
    for contig, sequence in genome.items():
        own = [gene for gene in everything.values() if gene.contig == contig]
        boundaries = [b for gene in own for b in gene.boundaries()]
        changes = [(p, r, a) for c, p, r, a in changed if c == contig]
        mutant, moved = oracle.apply_variants(sequence, changes, boundaries)
        for i, gene in enumerate(own):
            cut[gene.name] = (
                oracle.window(mutant, moved[2 * i], gene.strand, 1000, 500),
                oracle.window(mutant, moved[2 * i + 1], gene.strand, 500, 1000),
            )
    return [cut[name] for name in everything]


def _score(grammar, pairs):
    return grammar.score(*(np.stack([encode(pair[side]) for pair in pairs]) for side in (0, 1)))


def test_lines_show_their_true_effects(sample, expression):
    """Observed differences on true ones: slope one; untouched pairs differ by noise alone."""
    names, samples, values = expression[SPECIES[0]]
    log = np.log10(1 + values)
    lines = np.array([s["line"] for s in samples])
    control = log[:, [s["control"] == "1" for s in samples]].mean(axis=1)
    rows = oracle.read_table(sample / "truth" / "mutants.tsv")
    place = {name: i for i, name in enumerate(names)}
    true = np.array([float(row["delta_target"]) for row in rows])
    seen = np.array(
        [
            log[place[row["gene"]], lines == row["line"]].mean() - control[place[row["gene"]]]
            for row in rows
        ]
    )
    slope, _ = np.polyfit(true, seen, 1)
    error = (seen - slope * true).std() / (true.std() * np.sqrt(len(true)))
    assert abs(slope - 1) < 4 * error
    assert error < 0.05
    touched = {(row["line"], row["gene"]) for row in rows}
    rest = [
        log[i, lines == line].mean() - control[i]
        for line in sorted(set(lines[8:]))
        for i, name in enumerate(names)
        if (line, name) not in touched
    ]
    assert abs(np.mean(rest)) < 0.01
    assert {row["private"] for row in rows} == {"0", "1"}


def test_ceilings_are_those_of_the_written_files(sample, truth, observed):
    ceiling = json.loads((sample / "truth" / "ceiling.json").read_text())
    known = ceiling["between_genes"]["controls"]
    for kind, column in (("sequence", "sequence"), ("all_true_effects", "true")):
        for scope in ("pooled", *SPECIES):
            rows = [r for r in truth.values() if scope in ("pooled", r["species"])]
            y = np.array([observed[row["gene"]] for row in rows])
            best = np.array([float(row[f"target_{column}_controls"]) for row in rows])
            given = known[kind]["pooled"] if scope == "pooled" else known[kind]["species"][scope]
            assert given["n"] == len(rows)
            assert given["pearson"] == pytest.approx(np.corrcoef(y, best)[0, 1], abs=2e-4)
            r2 = 1 - ((y - best) ** 2).mean() / y.var()
            assert given["r2"] == pytest.approx(r2, abs=2e-4)
    assert 0.7 < known["sequence"]["pooled"]["r2"] < 0.88
    assert known["all_true_effects"]["pooled"]["r2"] > 0.95


def test_hidden_effects_are_shared_as_said(sample):
    rows = oracle.read_table(sample / "truth" / "genes.tsv")
    per_family: dict[str, set[str]] = {}
    per_domain: dict[str, set[str]] = {}
    for row in rows:
        per_family.setdefault(row["family"], set()).add(row["family_effect"])
        per_domain.setdefault(row["domain"], set()).add(row["domain_effect_leaf"])
    assert {len(v) for v in per_family.values()} == {len(v) for v in per_domain.values()} == {1}
    effects = np.array([float(next(iter(v))) for v in per_family.values()])
    assert effects.std() == pytest.approx(0.20, rel=0.15)
    assert np.std([float(row["gene_effect"]) for row in rows]) == pytest.approx(0.22, rel=0.1)


def test_simple_learner_stays_between_chance_and_the_ceiling(sample, truth, observed, windows):
    """A ridge on 1–3-mers per 250-bp bin, folds by family; and on permuted labels."""
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    names = list(truth)
    features = _kmers_per_bin([windows[name] for name in names])
    family = {row["gene"]: row["family"] for row in oracle.read_table(sample / "families.tsv")}
    groups = np.unique([family[name] for name in names], return_inverse=True)[1]
    y = np.array([observed[name] for name in names])

    def r2(labels):
        predicted = np.empty_like(labels)
        for train, test in GroupKFold(5).split(features, labels, groups):
            model = make_pipeline(StandardScaler(), Ridge(alpha=3000))
            predicted[test] = model.fit(features[train], labels[train]).predict(features[test])
        return 1 - ((labels - predicted) ** 2).mean() / labels.var()

    best = np.array([float(truth[name]["target_sequence_controls"]) for name in names])
    ceiling = 1 - ((y - best) ** 2).mean() / y.var()
    assert 0.12 < r2(y) < ceiling - 0.25
    assert r2(np.random.default_rng(0).permutation(y)) < 0.03


def _kmers_per_bin(pairs):
    """Frequencies of 1- to 3-mers in each 250-bp bin, shape (gene, 12 × 84)."""
    base = np.stack([np.frombuffer("".join(pair).encode(), np.uint8) for pair in pairs])
    codes = np.full(256, 4)
    codes[[65, 67, 71, 84]] = range(4)
    bins = codes[base].reshape(len(pairs), 12, 250)
    blocks = []
    for k in (1, 2, 3):
        word = sum(bins[:, :, i : 251 - k + i] * 5 ** (k - 1 - i) for i in range(k))
        usable = [w for w in range(5**k) if all(w // 5**i % 5 < 4 for i in range(k))]
        blocks += [(word == w).mean(axis=2) for w in usable]
    return np.concatenate(blocks, axis=1)
