"""Reads every file of a data set into :class:`SpeciesData`, and tells all mistakes at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.annotation import Annotation, GeneModel, read_annotation
from featurestore.inputs.dataset import DatasetConfig, SpeciesConfig, read_config
from featurestore.inputs.expression import align, read_expression
from featurestore.inputs.families import read_families, singletons_note
from featurestore.inputs.fasta import contig_lengths, read_genome
from featurestore.inputs.files import file_digest
from featurestore.inputs.findings import Findings
from featurestore.inputs.haplotypes import read_haplotypes
from featurestore.inputs.model import Expression, Genome, HaplotypeSet, SpeciesData
from featurestore.inputs.positions import read_positions
from featurestore.inputs.problems import DataSetError, Problems
from featurestore.inputs.samples import join_samples
from featurestore.inputs.sequences import Given, Sequences, read_sequences
from featurestore.inputs.tables import read_table
from featurestore.inputs.variants import MOST_RECORDS, check_variants

_LARGEST: Final = float(np.finfo(np.float32).max)


def load_dataset(source: DatasetConfig | Path | str) -> list[SpeciesData]:
    """Read all species of a data set, in the order of the dataset.toml.

    Parameters
    ----------
    source : DatasetConfig, or path of a dataset.toml (or of the folder that holds one)

    Raises
    ------
    DataSetError
        With every mistake of the dataset.toml and of all files it names.
    """
    return open_dataset(source)[1]


def open_dataset(source: DatasetConfig | Path | str) -> tuple[DatasetConfig, list[SpeciesData]]:
    """Like :func:`load_dataset`, with the configuration."""
    problems = Problems()
    config = source if isinstance(source, DatasetConfig) else read_config(Path(source), problems)
    species = read_all(config, problems) if config is not None else []
    problems.raise_if_any()
    if config is None:
        raise DataSetError(problems.items)
    return config, species


def read_all(config: DatasetConfig, problems: Problems) -> list[SpeciesData]:
    """Read every species as far as it goes; mistakes are added to ``problems``, once each."""
    found = [load_species(config, name, problems) for name in config.species]
    problems.items[:] = dict.fromkeys(problems.items)  # files that several species share
    return [species for species in found if species is not None]


def load_species(config: DatasetConfig, name: str, problems: Problems) -> SpeciesData | None:
    """Read one species.

    Returns
    -------
    SpeciesData, or None where mistakes leave nothing to build; ``problems`` names them.
    """
    species = config.species[name]
    before = len(problems.items)
    if species.kind == "genome":
        data = _from_genome(config, name, species, problems)
    elif species.kind == "sequences":
        data = _from_sequences(config, name, species, problems)
    else:
        data = _from_positions(name, species, problems)
    if data is None:
        _read_tables_alone(species, problems)
        return None
    data = _with_tables(data, species, problems)
    if len(problems.items) > before:
        return None
    haplotypes, told = _haplotypes(species, data.species, problems)
    if len(problems.items) > before:
        return None
    return replace(
        data.species,
        variants={name: given.file for name, given in species.variants.items()},
        haplotypes=haplotypes,
        notes=[*data.species.notes, *told],
        input_digest=_digests(species),
        settings_digest=settings_digest(config, name),
    )


def _haplotypes(
    species: SpeciesConfig, data: SpeciesData, problems: Problems
) -> tuple[dict[str, HaplotypeSet], list[str]]:
    """The haplotypes of every variant set, and what is to be told of them."""
    sets: dict[str, HaplotypeSet] = {}
    notes: list[str] = []
    for name, given in species.variants.items():
        found = read_haplotypes(given.file, given.heterozygous, data, problems)
        if found is not None:
            sets[name] = found[0]
            notes += [f"variants {name}: {note}" for note in found[1]]
    return sets, notes


def dataset_digest(
    config: DatasetConfig, known: Mapping[str, Mapping[str, str]] | None = None
) -> str:
    """Sha256 of what the data set is: its configuration without paths, and its files' bytes.

    Nothing is parsed. The default embedders and their settings are left out: they decide what
    is computed from the data, not the data.

    Parameters
    ----------
    known : mapping of species to digests of its files by role, optional
        Of species whose files are not there.

    Raises
    ------
    FileNotFoundError
        Where an input file is missing; :func:`load_dataset` tells that as a problem.
    """
    species = {
        name: {
            **_settings(s),
            "files": dict((known or {}).get(name) or _digests(s)),
        }
        for name, s in config.species.items()
    }
    identity = {
        "regions": [[r.name, r.anchor, r.upstream, r.downstream] for r in config.regions],
        "regions_declared": config.regions_declared,
        "bin": config.bin,
        "species": list(species.items()),
    }
    return _sha256(identity)


def settings_digest(config: DatasetConfig, name: str) -> str:
    """Sha256 of how the files of a species are read: everything but the files and the regions."""
    species = config.species[name]
    return _sha256({**_settings(species), "roles": sorted(species.files())})


def _sha256(identity: object) -> str:
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _digests(species: SpeciesConfig) -> dict[str, str]:
    return {role: file_digest(path) for role, path in species.files().items()}


def _settings(species: SpeciesConfig) -> dict[str, object]:
    table = species.expression
    return {
        "expression": table.model_dump(mode="json", exclude={"file"}) if table else None,
        "species_code": species.species_code,
        **_how_variants_are_read(species),
    }


def _how_variants_are_read(species: SpeciesConfig) -> dict[str, dict[str, str]]:
    modes: dict[str, str] = {name: v.heterozygous for name, v in species.variants.items()}
    return {"heterozygous": modes} if modes else {}


@dataclass
class _Genes:
    """Genes of a species, and under which ids they may stand in tables."""

    species: SpeciesData
    keys: Mapping[str, Sequence[str]]
    own: list[str] | None = None
    given_tpm: list[str] | None = None
    lines: list[int] = field(default_factory=list)


def _from_genome(
    config: DatasetConfig, name: str, species: SpeciesConfig, problems: Problems
) -> _Genes | None:
    if species.genome is None or species.annotation is None:
        return None
    genome = read_genome(species.genome, problems)
    contigs = contig_lengths(genome) if genome is not None else None
    annotation = read_annotation(species.annotation, problems, contigs)
    notes = _variant_notes(species, genome, problems) if genome is not None else []
    if genome is None or annotation is None:
        return None
    if not annotation.genes:
        what = f"no gene of it can be used; {len(annotation.skipped):,} were skipped"
        mend = "give an annotation with protein-coding genes on the contigs of the genome"
        problems.add(species.annotation, what, mend)
        return None
    genes = _genes_of(name, config, genome, annotation)
    genes.species.notes.extend(notes)
    return genes


def _variant_notes(species: SpeciesConfig, genome: Genome, problems: Problems) -> list[str]:
    notes: list[str] = []
    for name, given in species.variants.items():
        summary = check_variants(given.file, genome, problems)
        if summary is None:
            continue
        first = "the first " if summary.checked == MOST_RECORDS else ""
        notes.append(
            f"variants {name}: {len(summary.lines):,} lines; REF agrees with the genome in "
            f"{first}{summary.checked:,} records ({summary.symbolic:,} of them symbolic, "
            "not compared)."
        )
    return notes


def _genes_of(name: str, config: DatasetConfig, genome: Genome, annotation: Annotation) -> _Genes:
    genes = annotation.genes
    ids = [g.gene for g in genes]
    data = SpeciesData(
        name=name,
        kind="genome",
        gene=ids,
        locus=list(ids),
        contig=[g.contig for g in genes],
        strand=np.array([g.strand for g in genes], np.int8),
        tss=np.array([g.tss for g in genes], np.int64),
        tts=np.array([g.tts for g in genes], np.int64),
        family=[""] * len(genes),
        regions=config.regions,
        genome=genome,
        skipped=list(annotation.skipped),
        notes=list(annotation.notes),
    )
    return _Genes(data, _gene_keys(genes))


def _gene_keys(genes: list[GeneModel]) -> dict[str, list[str]]:
    """What genes may be called in tables: their id, and attributes that name each gene once."""
    keys = {"id": [g.gene for g in genes]}
    for alias in ("Name", "locus_tag", "gene", "gene_name", "GeneID"):
        names = [g.alias.get(alias, "") for g in genes]
        named = [n for n in names if n]
        if named and len(set(named)) == len(named):
            # A gene without this name keeps its id, so that every key stays one gene's.
            keys[alias] = [n or g.gene for n, g in zip(names, genes, strict=True)]
    return keys


def _from_sequences(
    config: DatasetConfig, name: str, species: SpeciesConfig, problems: Problems
) -> _Genes | None:
    sequences = read_sequences(config, name, species, problems)
    return None if sequences is None else _records_of(name, sequences)


def _records_of(name: str, sequences: Sequences) -> _Genes:
    given = sequences.given
    order = _order(given.contig, given.tss, given.tts, given.record)

    def take(values: list[str] | None) -> list[str] | None:
        return None if values is None else [values[i] for i in order]

    data = SpeciesData(
        name=name,
        kind="sequences",
        gene=[given.record[i] for i in order],
        locus=[given.gene[i] for i in order],
        contig=[given.contig[i] for i in order],
        strand=given.strand[order],
        tss=given.tss[order],
        tts=given.tts[order],
        family=take(given.family) or [""] * len(order),
        regions=sequences.regions,
        region_code=sequences.code[order],
        region_length=sequences.length[order],
        fold=take(given.fold),
        notes=list(given.notes),
    )
    return _Genes(data, {"id": data.locus}, data.gene, take(given.median_tpm), _lines(given, order))


def _lines(given: Given, order: NDArray[np.int64]) -> list[int]:
    lines = next(iter(given.line.values()))[1]
    return [lines[i] for i in order]


def _from_positions(name: str, species: SpeciesConfig, problems: Problems) -> _Genes | None:
    if species.positions is None:
        return None
    found = read_positions(species.positions, problems)
    if found is None:
        return None
    order = _order(found.contig, found.tss, found.tts, found.gene)
    ids = [found.gene[i] for i in order]
    data = SpeciesData(
        name=name,
        kind="positions",
        gene=ids,
        locus=list(ids),
        contig=[found.contig[i] for i in order],
        strand=found.strand[order],
        tss=found.tss[order],
        tts=found.tts[order],
        family=[""] * len(ids),
        notes=list(found.notes),
    )
    return _Genes(data, {"id": ids})


def _order(
    contig: list[str], tss: NDArray[np.int64], tts: NDArray[np.int64], gene: list[str]
) -> NDArray[np.int64]:
    """Contig by first appearance, then start, then id."""
    place = {name: i for i, name in enumerate(dict.fromkeys(contig))}
    start = np.where(tts < 0, tss, np.minimum(tss, tts)).tolist()
    rows = sorted(range(len(gene)), key=lambda i: (place[contig[i]], start[i], gene[i]))
    return np.array(rows, np.int64)


def _with_tables(genes: _Genes, species: SpeciesConfig, problems: Problems) -> _Genes:
    """Join expression, samples and families to the genes."""
    data = genes.species
    notes = list(data.notes)
    expression, family = None, data.family
    if species.expression is not None:
        table = read_expression(species.expression, problems)
        if table is not None:
            joined = align(table, species.expression, genes.keys, problems, genes.own)
            if joined is not None:
                expression = joined[0]
                notes += joined[1]
    elif genes.given_tpm is not None and isinstance(species.sequences, Path):
        expression = _median_tpm(genes, species.sequences, problems)
    if species.samples is not None and expression is not None:
        expression, told = join_samples(expression, species.samples, problems)
        notes += told
    if species.families is not None:
        found = read_families(species.families, genes.keys, problems, genes.own)
        if found is not None:
            family, told = found
            notes += told
    if species.families is not None or any(family):
        notes += singletons_note(data.gene, family)
    else:
        notes.append("families: none given; `fs families` makes them.")
    genes.species = replace(data, expression=expression, family=family, notes=notes)
    return genes


def _read_tables_alone(species: SpeciesConfig, problems: Problems) -> None:
    """Find the mistakes of the tables too where the genes themselves could not be read."""
    if species.expression is not None:
        read_expression(species.expression, problems)
    for path in (species.samples, species.families):
        if path is not None:
            read_table(path, problems)


def _median_tpm(genes: _Genes, path: Path, problems: Problems) -> Expression:
    """PhytoExpr's column median_TPM as the expression of a species that has no other."""
    value = np.full((len(genes.species.gene), 1), np.nan, np.float32)
    findings = Findings(path, problems)
    for i, (text, line) in enumerate(zip(genes.given_tpm or [], genes.lines, strict=True)):
        if not text:
            continue
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if 0 <= number <= _LARGEST:
            value[i, 0] = number
        else:
            mend = "write a TPM of 0 or more, or leave the cell empty"
            what = f"{text!r} in column 'median_TPM'"
            findings.add("a cell that is no TPM", mend, line, what)
    findings.report()
    return Expression(value, "TPM", ["median_TPM"], ~np.isnan(value[:, 0]))
