"""A small data set, and the commands run on it with some of its files replaced."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from click.testing import CliRunner

from featurestore.cli import cli
from tests.builders.inputs_files import fasta

GENOME = fasta({"Chr1": "ACGT" * 500, "Chr2": "GGCA" * 300})
ANNOTATION = "".join(
    f"{contig}\tx\t{kind}\t{first}\t{last}\t.\t{strand}\t.\t{text}\n"
    for contig, kind, first, last, strand, text in [
        ("Chr1", "gene", 601, 800, "+", "ID=gene:g1;biotype=protein_coding"),
        ("Chr1", "mRNA", 601, 800, "+", "ID=transcript:g1.1;Parent=gene:g1"),
        ("Chr2", "gene", 501, 600, "-", "ID=gene:g2"),
        ("Chr2", "mRNA", 501, 600, "-", "ID=transcript:g2.1;Parent=gene:g2"),
    ]
)
FILES = {
    "g.fa": GENOME,
    "a.gff3": ANNOTATION,
    "e.tsv": "gene\ts1\ts2\ng1\t1\t2\ng2\t3\t4\n",
    "f.tsv": "gene\tfamily\ng1\tF1\ng2\tF2\n",
    "s.tsv": "sample\ttissue\ns1\tleaf\ns2\troot\n",
    "dataset.toml": (
        '[regions]\npromoter = { anchor = "tss", upstream = 60, downstream = 20 }\nbin = 40\n'
        '[species.plant]\ngenome = "g.fa"\nannotation = "a.gff3"\nexpression = "e.tsv"\n'
        'samples = "s.tsv"\nfamilies = "f.tsv"\n'
    ),
}


@dataclass(frozen=True)
class Outcome:
    """What a command did: exit code, what it printed, and an exception that it let through."""

    code: int
    text: str
    escaped: BaseException | None


def write(folder: Path, changes: dict[str, str | bytes]) -> Path:
    """The data set with some files replaced; returns its dataset.toml."""
    for name, content in (FILES | changes).items():
        raw = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        (folder / name).write_bytes(raw)
    return folder / "dataset.toml"


def fs(*arguments: str) -> Outcome:
    """Run a command in this process."""
    result = CliRunner().invoke(cli, list(arguments))
    error = result.exception
    return Outcome(
        result.exit_code, result.output, None if isinstance(error, SystemExit) else error
    )
