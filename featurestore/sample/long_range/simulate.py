"""Runs the long-range world from a seed to a folder of files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from featurestore.sample.files import write_fasta, write_gff3, write_table, write_text
from featurestore.sample.long_range import LongRangeSummary
from featurestore.sample.long_range.expression import Expression, measure
from featurestore.sample.long_range.genes import draw_members
from featurestore.sample.long_range.genome import World, build_world
from featurestore.sample.long_range.grammar import Grammar, Scores
from featurestore.sample.long_range.pairs import Pair, draw_pairs
from featurestore.sample.long_range.settings import SPECIES, LongRangeSettings
from featurestore.sample.long_range.tables import (
    write_elements,
    write_pairs,
    write_track_table,
    write_truth,
    write_variants,
)
from featurestore.sample.long_range.texts import dataset_toml
from featurestore.sample.long_range.tracks import measure_tracks, require_bigwig, write_bigwig
from featurestore.sample.long_range.variants import Variant, draw_variants
from featurestore.sample.simulate import prepare_folder


@dataclass(frozen=True)
class Simulated:
    """One species with all that was computed from it; ``scores`` has one entry per contig."""

    world: World
    scores: list[Scores]
    expression: Expression
    pairs: list[Pair]
    variants: list[Variant]


def simulate(settings: LongRangeSettings) -> list[Simulated]:
    """Draw genomes, expression, pairs and variants of both species, in memory."""
    grammar = Grammar()
    results = []
    for index, (chosen, members) in enumerate(zip(SPECIES, draw_members(settings), strict=True)):
        world = build_world(settings, chosen, members, grammar)
        scores = [landscape.score() for landscape in world.landscapes]
        results.append(
            Simulated(
                world,
                scores,
                measure(settings, world, scores),
                list(draw_pairs(world, scores)),
                draw_variants(settings, world, scores) if index == 0 else [],
            )
        )
    return results


def write(folder: Path, settings: LongRangeSettings, *, overwrite: bool) -> LongRangeSummary:
    """Body of :func:`featurestore.sample.long_range.write_long_range`."""
    require_bigwig()
    prepare_folder(folder, overwrite=overwrite)
    results = simulate(settings)
    for result in results:
        _write_species(folder, settings, result)
    genes = [gene for result in results for gene in result.world.species.genes]
    families = sorted((gene.gene, gene.family) for gene in genes)
    write_table(folder / "families.tsv", ["gene", "family"], families)
    write_track_table(folder / "tracks.tsv")
    write_elements(folder / "elements.bed", results)
    write_pairs(folder / "pairs.tsv", results)
    write_variants(folder / "variants.vcf", results[0])
    write_truth(folder / "truth", settings, results)
    write_text(folder / "dataset.toml", dataset_toml(settings).splitlines())
    elements = [element for result in results for element in result.world.elements]
    enhancers = sum(element.kind == "enhancer" for element in elements)
    worlds = [result.world for result in results]
    return LongRangeSummary(
        folder=folder,
        dataset=folder / "dataset.toml",
        seed=settings.seed,
        species={world.name: len(world.species.genes) for world in worlds},
        bases={w.name: sum(c.code.size for c in w.species.contigs) for w in worlds},
        families=len({gene.family for gene in genes}),
        enhancers=enhancers,
        decoys=len(elements) - enhancers,
        pairs=sum(len(result.pairs) for result in results),
        variants=sum(len(result.variants) for result in results),
        shares=results[0].expression.shares(),
    )


def _write_species(folder: Path, settings: LongRangeSettings, result: Simulated) -> None:
    world, name = result.world, result.world.name
    write_fasta(folder / f"{name}.fa", world.species)
    write_gff3(folder / f"{name}.gff3", world.species)
    samples = [f"sim_rep{number}" for number in range(1, settings.replicates + 1)]
    genes = (gene.gene for gene in world.species.genes)
    write_table(
        folder / f"{name}.tpm.tsv",
        ["gene", *samples],
        (
            [gene, *(f"{value:.3f}" for value in row)]
            for gene, row in zip(genes, result.expression.tpm.tolist(), strict=True)
        ),
    )
    for track, values in measure_tracks(settings, world, result.scores).items():
        write_bigwig(folder / f"{name}.{track}.bw", world, values)
