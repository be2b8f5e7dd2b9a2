"""A light check of a VCF: header, contigs, and that REF is what the genome has."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Final

from featurestore.inputs.files import missing_file_mend
from featurestore.inputs.findings import Findings
from featurestore.inputs.model import Genome
from featurestore.inputs.problems import Problems, examples
from featurestore.sequence import iupac
from featurestore.untrusted import BombError, lines_of, open_file, unpacked

MOST_RECORDS: Final = 10_000
"""Records whose REF is compared with the genome."""

FIXED_COLUMNS: Final = ["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"]


@dataclass(frozen=True)
class VariantSummary:
    """What a light check saw.

    Parameters
    ----------
    lines : list of str
        Sample names: the lines of the variant set.
    checked : int
        Records read, at most :data:`MOST_RECORDS`.
    symbolic : int
        Those with a symbolic allele (``<DEL>``), whose REF is not compared.
    """

    lines: list[str]
    checked: int
    symbolic: int


def check_variants(path: Path, genome: Genome, problems: Problems) -> VariantSummary | None:
    """Check the header and the first :data:`MOST_RECORDS` records of a VCF against a genome.

    Returns
    -------
    VariantSummary, or None where it has mistakes; ``problems`` then says which.
    """
    try:
        with _open(path) as stream:
            return _Check(path, genome, Findings(path, problems), problems).run(stream)
    except FileNotFoundError:
        problems.add(path, "the file does not exist", missing_file_mend(path))
    except EOFError:
        mend = "copy or download the file again (check it with `gzip -t`)"
        problems.add(path, "the gzip file is cut short", mend)
    except (OSError, zlib.error, UnicodeDecodeError, BombError) as error:
        mend = "give a VCF as text, gzip or bgzip (`bcftools view` writes one from BCF)"
        problems.add(path, f"the file cannot be read ({error})", mend)
    return None


@contextmanager
def _open(path: Path) -> Iterator[IO[str]]:
    with (
        open_file(path) as stream,
        io.TextIOWrapper(unpacked(stream), encoding="utf-8-sig") as text,
    ):
        yield text


@dataclass
class _Check:
    path: Path
    genome: Genome
    findings: Findings
    problems: Problems
    unknown: dict[str, int] = field(default_factory=dict)
    records: int = 0
    symbolic: int = 0

    def run(self, text: IO[str]) -> VariantSummary | None:
        stream = lines_of(text)
        header, at = self._header(stream)
        if header is None:
            return None
        self.place = {name: i for i, name in enumerate(self.genome.contig_id)}
        for number, line in enumerate(islice(stream, MOST_RECORDS), at + 1):
            if line.strip():
                self._record(number, line)
        if self.unknown:
            self.problems.add(
                self.path,
                f"contigs that the FASTA lacks: {examples(self.unknown)}; it has "
                f"{examples(self.genome.contig_id)}",
                "use the contig names of the genome",
                f"line {next(iter(self.unknown.values()))}",
            )
        bad = bool(self.findings.kinds) or bool(self.unknown)
        self.findings.report()
        return None if bad else VariantSummary(header[9:], self.records, self.symbolic)

    def _header(self, stream: Iterator[str]) -> tuple[list[str] | None, int]:
        number = 0
        for number, line in enumerate(stream, 1):
            if line.startswith("##"):
                continue
            columns = line.rstrip("\r\n").split("\t")
            if columns[:8] == FIXED_COLUMNS:
                return columns, number
            break
        mend = "a VCF has the line #CHROM POS ID REF ALT QUAL FILTER INFO …, separated by tabs"
        self.problems.add(
            self.path, "no VCF header line (#CHROM …)", mend, f"line {max(number, 1)}"
        )
        return None, number

    def _record(self, number: int, line: str) -> None:
        columns = line.rstrip("\r\n").split("\t", 5)
        self.records += 1
        if len(columns) < 6 or not _is_position(columns[1]):
            mend = "a record has CHROM, POS, ID, REF, ALT …, separated by tabs"
            self.findings.add("not a VCF record", mend, number, repr(line[:30].rstrip()))
            return
        contig, position, _, ref, alt = columns[:5]
        at = self.place.get(contig)
        if at is None:
            self.unknown.setdefault(contig, number)
            return
        if "<" in alt:
            self.symbolic += 1
            return
        start, length = int(position) - 1, int(self.genome.contig_length[at])
        if start < 0 or start + len(ref) > length:
            mend = "take variants and genome from the same assembly"
            what = f"{contig}:{position} {ref[:10]} on {length:,} bp"
            self.findings.add("a variant beyond the end of its contig", mend, number, what)
            return
        if have := ref_disagrees(self.genome, at, start, ref):
            mend = "take variants and genome from the same assembly"
            what = f"{contig}:{position} REF {ref[:10]}, genome {have[:10]}"
            self.findings.add("REF is not what the genome has", mend, number, what)


def _is_position(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 18


def ref_disagrees(genome: Genome, contig: int, start: int, ref: str) -> str:
    """What the genome has where REF contradicts it, else nothing.

    Where either is ambiguous there is nothing to contradict.
    """
    offset = int(genome.contig_start[contig]) + start
    have = genome.code[offset : offset + len(ref)]
    want = iupac.encode(ref)
    differs = (have != want) & (have < iupac.N) & (want < iupac.N)
    return iupac.decode(have) if bool((differs | (want == iupac.UNKNOWN)).any()) else ""
