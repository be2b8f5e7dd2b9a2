"""Runs the simulator from a seed to a folder of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from featurestore.errors import InputError
from featurestore.sample import SampleSummary
from featurestore.sample.assembly import Species, assemble
from featurestore.sample.evolution import Family, all_members, draw_families
from featurestore.sample.expression import SpeciesExpression, express
from featurestore.sample.files import write_fasta, write_gff3, write_table, write_text, write_vcf
from featurestore.sample.grammar import Grammar
from featurestore.sample.settings import SPECIES, TISSUES, SampleSettings, stream
from featurestore.sample.texts import dataset_toml
from featurestore.sample.truth import write_truth
from featurestore.sample.variants import draw_variants, line_names


def simulate(
    settings: SampleSettings,
) -> tuple[Grammar, list[Family], list[tuple[Species, SpeciesExpression]]]:
    """Draw genomes, variants and expression of all species, in memory."""
    grammar = Grammar()
    families = draw_families(settings)
    results = []
    for index, chosen in enumerate(SPECIES):
        rng = stream(settings.seed, "assembly", chosen.name)
        species = assemble(rng, chosen, list(all_members(families, index)))
        variants = draw_variants(settings, species, grammar) if index == 0 else []
        results.append((species, express(settings, species, grammar, variants)))
    return grammar, families, results


def write(folder: Path, settings: SampleSettings, *, overwrite: bool) -> SampleSummary:
    """Body of :func:`featurestore.sample.write_sample`."""
    prepare_folder(folder, overwrite=overwrite)
    grammar, families, results = simulate(settings)
    for species, result in results:
        _write_species(folder, settings, species, result)
    pairs = sorted((gene.gene, gene.family) for species, _ in results for gene in species.genes)
    write_table(folder / "families.tsv", ["gene", "family"], pairs)
    known = write_truth(folder / "truth", settings, grammar, families, results)
    write_text(folder / "dataset.toml", dataset_toml(settings).splitlines())
    between = known["between_genes"]["controls"]["sequence"]
    return SampleSummary(
        folder=folder,
        dataset=folder / "dataset.toml",
        seed=settings.seed,
        species={species.settings.name: len(species.genes) for species, _ in results},
        bases={s.settings.name: sum(c.code.size for c in s.contigs) for s, _ in results},
        families=len(families),
        lines=settings.lines,
        variants=sum(len(result.variants) for _, result in results),
        ceiling_r2=between["pooled"]["r2"],
        ceiling_pearson=between["pooled"]["pearson"],
    )


def prepare_folder(folder: Path, *, overwrite: bool) -> None:
    """Make the folder of a sample; one that is not empty is refused unless ``overwrite``."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file: give a folder for the simulated sample")
    if folder.is_dir() and not overwrite:
        found = sorted(path.name for path in folder.iterdir())
        if found:
            shown = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
            raise InputError(
                f"{folder} is not empty ({shown}): give a new folder, or overwrite "
                "(files of the same names are replaced, others stay)"
            )
    folder.mkdir(parents=True, exist_ok=True)


def _write_species(
    folder: Path, settings: SampleSettings, species: Species, result: SpeciesExpression
) -> None:
    name = species.settings.name
    write_fasta(folder / f"{name}.fa", species)
    write_gff3(folder / f"{name}.gff3", species)
    genes = (gene.gene for gene in species.genes)
    cells = ([f"{value:.3f}" for value in row] for row in result.tpm.tolist())
    write_table(
        folder / f"{name}.tpm.tsv",
        ["gene", *(sample.name for sample in result.samples)],
        ([gene, *row] for gene, row in zip(genes, cells, strict=True)),
    )
    write_table(
        folder / f"{name}.samples.tsv",
        ["sample", "tissue", "genotype", "line", "control"],
        _sample_rows(result),
    )
    if result.variants:
        lines = line_names(settings.lines)
        write_vcf(folder / f"{name}.mutants.vcf", species, result.variants, lines)


def _sample_rows(result: SpeciesExpression) -> Iterator[list[str]]:
    for sample in result.samples:
        genotype = "wild_type" if sample.control else sample.line
        flag = "1" if sample.control else "0"
        yield [sample.name, TISSUES[sample.tissue], genotype, sample.line, flag]
