"""What is fuzzed: for each parser valid files, and how a changed one is read.

A target's ``read`` gives a valid result or raises a :class:`MeristemError`; whatever else it raises
has been found.
"""

# ruff: noqa: PT017 - an error is one of two right outcomes here

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from featurestore.errors import MeristemError
from featurestore.inputs.dataset import ExpressionConfig, read_config
from featurestore.inputs.model import Genome
from featurestore.inputs.problems import Problems
from featurestore.sequence import iupac
from tests.builders.hostile import ANNOTATION, FILES, GENOME


@dataclass(frozen=True)
class Target:
    """One parser.

    Parameters
    ----------
    seeds : tuple of bytes
        Valid files.
    read : called with a folder to write in and the bytes
    pieces : further pieces to put in
    names_file : str
        What every error must name; empty where there is no file.
    """

    seeds: Callable[[], tuple[bytes, ...]]
    read: Callable[[Path, bytes], None]
    pieces: tuple[bytes, ...] = ()
    names_file: str = ""


TARGETS: dict[str, Target] = {}


def all_targets() -> dict[str, Target]:
    """Every target, those of binary files too."""
    importlib.import_module("tests.fuzz.targets_binary")
    return TARGETS


def check(name: str, folder: Path, data: bytes) -> bool:
    """Read the bytes as one target: True if they were valid, False if an error told that they are not.

    Raises
    ------
    Exception
        Any that is no error of the project; AssertionError where its message is not fit to be shown.
    """
    target = TARGETS[name]
    try:
        target.read(folder, data)
    except MeristemError as error:
        told = str(error)
        assert told, "an error without a message"
        assert target.names_file in told, f"does not name {target.names_file}: {told[:300]}"
        assert len(told) < 20_000, f"a message of {len(told):,} characters"
        return False
    return True


def target(
    name: str, *seeds: bytes | str, pieces: tuple[bytes, ...] = (), file: str = ""
) -> Callable[[Callable[[Path, bytes], None]], Callable[[Path, bytes], None]]:
    """Register a parser."""
    raw = tuple(s.encode() if isinstance(s, str) else s for s in seeds)

    def register(read: Callable[[Path, bytes], None]) -> Callable[[Path, bytes], None]:
        TARGETS[name] = Target(lambda: raw, read, pieces, file)
        return read

    return register


def written(folder: Path, name: str, data: bytes) -> Path:
    """The file that holds the bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


def told(problems: Problems) -> None:
    """Raise what a reader found; a terminal shows it as it is."""
    for problem in problems.items:
        assert str(problem).replace("\n", "").isprintable()
    problems.raise_if_any()


@cache
def genome() -> Genome:
    """Two contigs."""
    codes = [iupac.encode("ACGT" * 500), iupac.encode("GGCA" * 300)]
    return Genome(
        ["Chr1", "Chr2"], np.array([0, 2000]), np.array([2000, 1200]), np.concatenate(codes)
    )


GTF = "".join(
    f'Chr1\tx\t{kind}\t{at}\t{at + 9}\t.\t+\t.\tgene_id "g{at}"; transcript_id "t{at}"; tag "basic"; tag "x";\n'
    for at in (1, 101)
    for kind in ("gene", "transcript", "exon", "CDS")
)
VCF = (
    "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ta\tb\n"
    "Chr1\t601\trs1\tA\tC\t.\t.\t.\tGT\t0/1\t1|1\nChr1\t610\t.\tCG\tC,CGGT\t.\t.\tX=1\tGT:DP\t1/2:3\t.:1\n"
    "Chr2\t501\t.\tG\t<DEL>\t.\t.\t.\tGT\t0\t1\n"
)


@target("fasta", GENOME, ">a b gene=x\nACGTN\n>b\r\nacgu RYK\n\n>c\n", file="x.fa")
def _fasta(folder: Path, data: bytes) -> None:
    from featurestore.inputs.fasta import read_fasta

    problems = Problems()
    found = read_fasta(written(folder, "x.fa", data), problems)
    told(problems)
    assert found is not None
    assert int(found.length.sum()) == len(found.code)
    assert all(n and n.isprintable() for n in found.name)


@target("annotation", ANNOTATION, GTF, file="x.gff",
        pieces=(b"transcript_id ", b"tag \"a\"; " * 50, b"##FASTA\n", b"\tgene\t", b"\tmRNA\t", b"biotype=", b"part="))  # fmt: skip
def _annotation(folder: Path, data: bytes) -> None:
    from featurestore.inputs.annotation import read_annotation

    problems = Problems()
    path = written(folder, "x.gff", data)
    found = read_annotation(path, problems, {"Chr1": 2000, "Chr2": 1200}, with_cds=True)
    told(problems)
    assert found is not None
    assert all(g.gene.isprintable() and 0 <= g.start < g.end <= 2000 for g in found.genes)


@target("expression", FILES["e.tsv"], "gene,sample,TPM\ng1,s1,2.5\ng2,s1,NA\n", '"gene"\t"s1"\n"g1"\t"1"\ng2\t3\n',
        file="e.tsv")  # fmt: skip
def _expression(folder: Path, data: bytes) -> None:
    from featurestore.inputs.expression import align, read_expression

    path = written(folder, "e.tsv", data)
    for duplicates in ("error", "mean"):
        problems = Problems()
        config = ExpressionConfig(file=path, duplicates=duplicates)  # type: ignore[arg-type]
        table = read_expression(config, problems)
        found = table and align(table, config, {"id": ["g1", "g2"]}, problems)
        told(problems)
        assert found
        assert not np.isinf(found[0].value).any()


@target("tables", FILES["f.tsv"], "Orthogroup\tplant\nOG1\tg1, g2\n", "#gf_id\tspecies\tgene_id\nF\tx\tg1\n", file="f.tsv")  # fmt: skip
def _families(folder: Path, data: bytes) -> None:
    from featurestore.inputs.families import read_families

    problems = Problems()
    found = read_families(written(folder, "f.tsv", data), {"id": ["g1", "g2"]}, problems)
    told(problems)
    assert found is not None
    assert len(found[0]) == 2


@target("samples", FILES["s.tsv"], "sample,tissue,control,line\ns1,leaf,1,a\ns2,root,no,b\n", file="s.tsv")  # fmt: skip
def _samples(folder: Path, data: bytes) -> None:
    from featurestore.inputs.model import Expression
    from featurestore.inputs.samples import join_samples

    problems = Problems()
    have = Expression(np.zeros((2, 2), np.float32), "TPM", ["s1", "s2"], np.ones(2, bool))
    found, _ = join_samples(have, written(folder, "s.tsv", data), problems)
    told(problems)
    assert found.tissue is None or len(found.tissue) == 2


@target("positions", "gene\tchrom\ttss1\tstrand\ttts1\ng1\t1\t5\t+\t9\ng2\t1\t9\t-\t3\n", file="p.tsv")  # fmt: skip
def _positions(folder: Path, data: bytes) -> None:
    from featurestore.inputs.positions import read_positions

    problems = Problems()
    found = read_positions(written(folder, "p.tsv", data), problems)
    told(problems)
    assert found is not None
    assert len(found.gene) == len(found.tss)


SEQUENCES = (
    "gene,species,promoter,median_TPM,chrom,tss,fold\ng1,plant,ACGT,1,1,5,1\ng2,plant,ACN,2,1,7,2\n"
)
REGION = ">g1 gene=g1 chrom=1 strand=+\nACGT\n>g2 gene=g2\nAC\n"


@target("sequences", SEQUENCES, REGION, "gene\tsequence\ng1\tACGT\n")
def _sequences(folder: Path, data: bytes) -> None:
    from featurestore.inputs.load import load_dataset

    written(folder, "q.csv", data)
    for line in ('sequences = "q.csv"', 'sequences = { promoter = "q.csv" }'):
        (folder / "dataset.toml").write_text(f"[species.plant]\n{line}\n")
        try:
            (data_set,) = load_dataset(folder)
        except MeristemError as error:
            assert "q.csv" in str(error) or "dataset.toml" in str(error)
        else:
            assert len(data_set.gene) == len(set(data_set.gene)) > 0


TOML = FILES["dataset.toml"] + (
    'variants.a = "v.vcf"\n[embedders.pc]\ntype = "kmer"\nrecipe = { window = 512, span = 250 }\n'
    '[species.rice]\npositions = "p.tsv"\nexpression = { file = "e.tsv", unit = "log2", missing = ["x", 1] }\n'
)


@target("dataset.toml", TOML, 'embedders = ["onehot"]\n[species.a]\nsequences = { promoter = "x.fa" }\n', file="dataset.toml",
        pieces=(b"[species.plant]", b"[regions]", b"a." * 40, b"[species.\"../x\"]", b"= [", b"= {", b"'''"))  # fmt: skip
def _toml(folder: Path, data: bytes) -> None:
    problems = Problems()
    config = read_config(written(folder, "dataset.toml", data), problems)
    told(problems)
    assert config is not None
    assert all(n and "/" not in n and n not in (".", "..") for n in config.species)


@target(
    "vcf",
    VCF,
    file="v.vcf",
    pieces=(b"0/1", b"1|1|1", b"./.", b"GT:", b"<DEL>", b"]Chr1:5]A", b"*"),
)
def _vcf(folder: Path, data: bytes) -> None:
    from featurestore.inputs.haplotypes import read_haplotypes
    from featurestore.inputs.model import Region, SpeciesData
    from featurestore.inputs.variants import check_variants

    problems = Problems()
    path = written(folder, "v.vcf", data)
    check_variants(path, genome(), problems)
    species = SpeciesData(
        "plant", "genome", ["g1"], ["g1"], ["Chr1"], np.array([1], np.int8), np.array([600]),
        np.array([800]), [""], (Region("promoter", "tss", 60, 20),), genome(),
    )  # fmt: skip
    found = read_haplotypes(path, "iupac", species, problems)
    told(problems)
    assert found is not None


@target("vcf-score", VCF, file="v.vcf")
def _vcf_score(folder: Path, data: bytes) -> None:
    from featurestore.score.check import check_vcf
    from featurestore.score.genome import GenomeBases

    have = genome()
    bases = GenomeBases(have.contig_id, [0, 2000], [2000, 1200], lambda a, b: have.code[a:b])
    seen = check_vcf(written(folder, "v.vcf", data), bases)
    assert seen.scored + sum(f["count"] for f in seen.tally.facts()) == seen.alleles


@target(
    "words",
    "Chr1:10-20\nkmer+pc.embedding:pooled\nfamilies-5fold\nempres\nridge.penalty=0.5\nridge@kmer",
)
def _words(folder: Path, data: bytes) -> None:
    from benchmarks.inputs.features import parse as features
    from benchmarks.runs.plans import split_learner
    from benchmarks.splits.recipes import parse as recipe
    from featurestore.embedders.recipe import make_recipe
    from featurestore.store.query import parse_region

    for text in data.decode("utf-8", "replace").split("\n")[:50]:
        for parse in (parse_region, features, recipe, lambda t: make_recipe(t, "x"), split_learner):
            try:
                parse(text)
            except MeristemError as error:
                assert str(error)


@target(
    "embedder-recipe",
    json.dumps({"base": "empres", "window": 512, "span": 250, "pool": "mean", "token": None}),
)
def _recipe(folder: Path, data: bytes) -> None:
    from featurestore.embedders.recipe import make_recipe

    try:
        given = json.loads(data)
    except (ValueError, RecursionError):
        return
    made = make_recipe(given, "[embedders.pc] recipe")
    assert 0 <= made.bounds[0] < made.bounds[1] <= made.window


SPLIT = (
    "gene,species,fold,role\ng1,plant,1,test\ng2,plant,2,test\ng1,plant,2,train\ng2,plant,1,valid\n"
)


@target("split", SPLIT, "gene,fold,repeat\ng1,a,0\ng2,b,0\n", file="split.csv")
def _split(folder: Path, data: bytes) -> None:
    import pandas as pd

    from benchmarks.splits.files import split_from_file

    genes = pd.DataFrame(
        {
            "gene": ["g1", "g2"],
            "species": "plant",
            "family": ["F1", "F2"],
            "fold": "",
            "has_family": True,
        }
    )
    made = split_from_file(written(folder, "split.csv", data), genes)
    assert made.table["fold"].dtype == np.int64
