"""One simulated sample of the default size for all tests of its truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from featurestore.sample import write_sample
from tests.oracles import sample as oracle

SPECIES = ("simulated_alpha", "simulated_beta")


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated")
    write_sample(folder)
    return folder


@pytest.fixture(scope="session")
def genomes(sample: Path) -> dict[str, dict[str, str]]:
    return {name: oracle.read_fasta(sample / f"{name}.fa") for name in SPECIES}


@pytest.fixture(scope="session")
def genes(sample: Path) -> dict[str, dict[str, oracle.Gene]]:
    return {name: oracle.read_genes(sample / f"{name}.gff3") for name in SPECIES}


@pytest.fixture(scope="session")
def grammar_json(sample: Path) -> dict:
    return json.loads((sample / "truth" / "grammar.json").read_text())


@pytest.fixture(scope="session")
def windows(genomes, genes) -> dict[str, tuple[str, str]]:
    """Promoter and terminator of every gene, cut base by base."""
    cut = {}
    for name in SPECIES:
        for gene in genes[name].values():
            tss, tts = gene.boundaries()
            sequence = genomes[name][gene.contig]
            cut[gene.name] = (
                oracle.window(sequence, tss, gene.strand, 1000, 500),
                oracle.window(sequence, tts, gene.strand, 500, 1000),
            )
    return cut
