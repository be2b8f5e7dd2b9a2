"""The tables of ``truth/``: everything the simulator knows and an observer does not."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from featurestore.sample.assembly import Species, cut_windows
from featurestore.sample.ceiling import (
    SELECTIONS,
    ceilings,
    chosen,
    expected_target,
    mutant_differences,
    target,
)
from featurestore.sample.evolution import Family
from featurestore.sample.expression import SpeciesExpression
from featurestore.sample.files import SIMULATED, write_table, write_text
from featurestore.sample.grammar import Grammar
from featurestore.sample.settings import SPECIES, TISSUES, SampleSettings
from featurestore.sample.texts import truth_readme
from featurestore.sample.variants import BOTH, Variant, line_names

Results = Sequence[tuple[Species, SpeciesExpression]]


def write_truth(
    folder: Path,
    settings: SampleSettings,
    grammar: Grammar,
    families: list[Family],
    results: Results,
) -> dict[str, Any]:
    """Write all truth files and return the ceilings."""
    folder.mkdir(exist_ok=True)
    write_text(folder / "README.md", [truth_readme(settings).rstrip("\n")])
    _write_json(folder / "grammar.json", {"simulated": SIMULATED, **grammar.describe()})
    described = dataclasses.asdict(settings)
    described["species"] = [dataclasses.asdict(species) for species in SPECIES]
    _write_json(folder / "settings.json", {"simulated": SIMULATED, **described})
    trees = ((family.name, family.newick) for family in families)
    write_table(folder / "families.nwk.tsv", ["family", "tree"], trees)
    _write_genes(folder, results)
    _write_terms(folder, grammar, results)
    _write_expression(folder, results)
    _write_sites(folder, grammar, results)
    _write_mutants(folder, settings, results)
    known = ceilings({species.settings.name: result for species, result in results})
    _write_json(folder / "ceiling.json", known)
    return known


def _write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, [json.dumps(content, indent=2)])


def _write_genes(folder: Path, results: Results) -> None:
    header = ["species", "gene", "family", "leaf", "contig", "strand", "tss", "tts", "domain"]
    header += ["family_effect", "gene_effect", *(f"domain_effect_{t}" for t in TISSUES)]

    def rows() -> Iterator[list[object]]:
        for species, result in results:
            hidden = result.hidden
            for i, gene in enumerate(species.genes):
                place = [species.contigs[gene.contig].name, gene.strand, gene.tss, gene.tts]
                effects = [float(hidden.family[i]), float(hidden.gene[i])]
                yield [
                    *(species.settings.name, gene.gene, gene.family, gene.leaf, *place),
                    *(gene.domain, *effects, *hidden.domain[i].tolist()),
                ]

    write_table(folder / "genes.tsv", header, rows())


def _write_terms(folder: Path, grammar: Grammar, results: Results) -> None:
    """Values of the features, and what each adds to log10 expression in each tissue."""
    features: list[list[object]] = []
    contributions: list[list[object]] = []
    for species, result in results:
        for gene, row in zip(species.genes, result.features, strict=True):
            features.append([species.settings.name, gene.gene, *row.tolist()])
            for t, tissue in enumerate(TISSUES):
                terms = (row * grammar.weight[:, t]).tolist()
                label = [species.settings.name, gene.gene, tissue]
                contributions.append([*label, float(grammar.intercept[t]), *terms])
    write_table(folder / "features.tsv", ["species", "gene", *grammar.feature], features)
    header = ["species", "gene", "tissue", "intercept", *grammar.feature]
    write_table(folder / "contributions.tsv", header, contributions)


def _write_expression(folder: Path, results: Results) -> None:
    header = ["species", "gene", *(f"grammar_{t}" for t in TISSUES)]
    header += [*(f"true_{t}" for t in TISSUES)]
    header += [f"{kind}_{which}" for which in SELECTIONS for kind in _TARGETS]
    rows: list[list[object]] = []
    scales: list[list[object]] = []
    for species, result in results:
        true = result.grammar + result.hidden.total()
        columns = [*result.grammar.T, *true.T]
        for which in SELECTIONS:
            mask = chosen(result.samples, which)
            columns += [
                target(result.tpm[:, mask]),
                expected_target(result.grammar, result, mask),
                expected_target(true, result, mask),
            ]
        lists = [column.tolist() for column in columns]
        for gene, values in zip(species.genes, zip(*lists, strict=True), strict=True):
            rows.append([species.settings.name, gene.gene, *values])
        for sample, scale in zip(result.samples, result.scale.tolist(), strict=True):
            scales.append([species.settings.name, sample.name, scale])
    write_table(folder / "expression.tsv", header, rows)
    write_table(folder / "samples.tsv", ["species", "sample", "log10_factor"], scales)


_TARGETS = ("target_observed", "target_sequence", "target_true")


def _write_sites(folder: Path, grammar: Grammar, results: Results) -> None:
    region = {motif.name: motif.region for motif in grammar.motifs}
    rows: list[list[object]] = []
    for species, _ in results:
        promoter = cut_windows(species, species.genes, "tss", *grammar.promoter)
        terminator = cut_windows(species, species.genes, "tts", *grammar.terminator)
        for index, name, start, strand, occupancy in sorted(grammar.sites(promoter, terminator)):
            gene = species.genes[index].gene
            rows.append([species.settings.name, gene, region[name], name, start, strand, occupancy])
    header = ["species", "gene", "region", "motif", "start", "strand", "occupancy"]
    write_table(folder / "sites.tsv", header, rows)


def _write_mutants(folder: Path, settings: SampleSettings, results: Results) -> None:
    species, result = results[0]
    if not result.variants:
        return
    carried: dict[tuple[int, int], dict[int, set[int]]] = {}
    for haplotype in result.mutants.haplotypes:
        sides = (0, 1) if haplotype.side == BOTH else (haplotype.side,)
        pair = carried.setdefault((haplotype.line, haplotype.gene), {})
        for variant in haplotype.variants:
            pair.setdefault(variant, set()).update(sides)
    names = line_names(settings.lines)
    target_delta = mutant_differences(result)[0].tolist()
    rows: list[list[object]] = []
    for i, (line, gene) in enumerate(carried):
        pair = carried[line, gene]
        private = all(len(result.variants[v].genotype) == 1 for v in pair)
        zygosity = {len(sides) for sides in pair.values()}
        label = {frozenset({1}): "heterozygous", frozenset({2}): "homozygous"}
        described = ",".join(_label(species, result.variants[v]) for v in sorted(pair))
        rows.append(
            [
                *(names[line], species.genes[gene].gene, described),
                *(label.get(frozenset(zygosity), "mixed"), int(private)),
                *(*result.mutants.delta[i].tolist(), target_delta[i]),
            ]
        )
    header = ["line", "gene", "variants", "zygosity", "private"]
    header += [*(f"delta_{t}" for t in TISSUES), "delta_target"]
    write_table(folder / "mutants.tsv", header, rows)


def _label(species: Species, variant: Variant) -> str:
    contig = species.contigs[variant.contig].name
    return f"{contig}:{variant.position + 1}:{variant.ref}>{variant.alt}"
