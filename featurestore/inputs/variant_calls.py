"""Reads a VCF as a stream: positions and alleles of the records, and who carries them as arrays.

Only carriers are kept (a line whose call holds an alternative allele), as arrays of integers; a
call of two reference alleles leaves nothing in memory.
"""

from __future__ import annotations

import zlib
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.findings import Findings
from featurestore.inputs.genotypes import (
    MISSING,
    MOST_ALLELES,
    BadGenotypeError,
    Genotypes,
    read_genotypes,
)
from featurestore.inputs.model import Genome
from featurestore.inputs.problems import Problems
from featurestore.inputs.tally import Tally
from featurestore.inputs.variants import FIXED_COLUMNS, ref_disagrees
from featurestore.sequence import iupac
from featurestore.untrusted import BombError, lines_of, open_file, unpacked

Spans = Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
"""By contig: starts and ends of disjoint spans in order, 0-based half-open."""

_FORMAT_AT: Final = 8
_MOST_DIGITS: Final = 18
_NO_HEADER: Final = (
    "no VCF header line",
    "a VCF has the line #CHROM POS ID REF ALT QUAL FILTER INFO …, separated by tabs",
)
_POLYPLOID: Final = "call of more than two alleles, taken as the reference"
_MISSING: Final = "missing allele, taken as the reference"
_ASSEMBLY: Final = "take variants and genome from the same assembly"


@dataclass
class VariantCalls:
    """Records of a VCF that reach into given spans, and the lines that carry them.

    Records stand in order of contig, ``low``, line of the file.

    Parameters
    ----------
    lines : list of str
    contig : int32 array, shape (record,)
        Number of the contig in the genome.
    position : int64 array, shape (record,)
        0-based position of the first base of REF.
    low, high : int64 arrays, shape (record,)
        Bases that any allele changes, 0-based half-open; equal for an insertion alone.
    ref : list of str
    alt : list of tuple of str
    carrier_start : int64 array, shape (record + 1,)
        Where the carriers of each record begin in the arrays that follow.
    line : int32 array, shape (carrier,)
    first, second : uint8 arrays, shape (carrier,)
        Alleles on either copy: 0 the reference, 1 … those of ``alt``.
    phased : bool array, shape (carrier,)
    records : int
        Records in the file.
    """

    lines: list[str]
    contig: NDArray[np.int32]
    position: NDArray[np.int64]
    low: NDArray[np.int64]
    high: NDArray[np.int64]
    ref: list[str]
    alt: list[tuple[str, ...]]
    carrier_start: NDArray[np.int64]
    line: NDArray[np.int32]
    first: NDArray[np.uint8]
    second: NDArray[np.uint8]
    phased: NDArray[np.bool_]
    records: int

    def keep(self, wanted: NDArray[np.bool_]) -> VariantCalls:
        """The same records with some of their carriers; ``wanted`` has shape (carrier,)."""
        before = np.append(0, np.cumsum(wanted))
        return VariantCalls(
            self.lines, self.contig, self.position, self.low, self.high, self.ref, self.alt,
            before[self.carrier_start], self.line[wanted], self.first[wanted], self.second[wanted],
            self.phased[wanted], self.records,
        )  # fmt: skip

    @property
    def record(self) -> NDArray[np.int64]:
        """Record of each carrier, shape (carrier,)."""
        return np.repeat(np.arange(len(self.ref)), np.diff(self.carrier_start))


def trimmed(position: int, ref: str, alt: str) -> tuple[int, int, str]:
    """What a pair of alleles changes: ``low``, ``high``, the bases put there.

    The bases that both begin with are left out, then those that both end with.
    """
    begin = 0
    while begin < min(len(ref), len(alt)) and ref[begin] == alt[begin]:
        begin += 1
    end = 0
    while end < min(len(ref), len(alt)) - begin and ref[-1 - end] == alt[-1 - end]:
        end += 1
    return position + begin, position + len(ref) - end, alt[begin : len(alt) - end]


def unusable(alt: str) -> str:
    """Why an alternative allele cannot be written into a sequence; empty if it can."""
    if alt.startswith("<"):
        return "symbolic allele, whose bases the VCF does not give"
    if alt == "*":
        return "allele * (deleted by another record), taken as the reference here"
    if alt in {".", ""}:
        return "no alternative allele"
    if any(mark in alt for mark in "[]."):
        return "breakend, which no sequence of one contig holds"
    if (iupac.encode(alt) == iupac.UNKNOWN).any():
        return "alternative allele with letters that are no bases"
    return ""


def read_calls(
    path: Path, genome: Genome, spans: Spans, problems: Problems, tally: Tally
) -> VariantCalls | None:
    """Read all records of a VCF that reach into ``spans``.

    Every record is held against the genome, wherever it lies.

    Returns
    -------
    VariantCalls, or None where the file has mistakes; ``problems`` then says which.
    """
    try:
        with _open(path) as stream:
            return _Reader(path, genome, spans, Findings(path, problems), tally).run(stream)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, BombError) as error:
        mend = "give a whole VCF as text, gzip or bgzip (check it with `gzip -t`)"
        problems.add(path, f"the file cannot be read ({error})", mend)
    return None


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    with open_file(path) as stream:
        yield unpacked(stream)


@dataclass
class _Reader:
    path: Path
    genome: Genome
    spans: Spans
    findings: Findings
    tally: Tally
    lines: list[str] = field(default_factory=list)
    place: dict[str, int] = field(default_factory=dict)
    fixed: list[tuple[int, int, int, int]] = field(default_factory=list)
    ref: list[str] = field(default_factory=list)
    alt: list[tuple[str, ...]] = field(default_factory=list)
    count: array[int] = field(default_factory=lambda: array("q"))
    line: array[int] = field(default_factory=lambda: array("i"))
    first: bytearray = field(default_factory=bytearray)
    second: bytearray = field(default_factory=bytearray)
    phased: bytearray = field(default_factory=bytearray)
    records: int = 0

    def run(self, stream: IO[bytes]) -> VariantCalls | None:
        self.place = {name: i for i, name in enumerate(self.genome.contig_id)}
        headed = False
        for number, raw in enumerate(lines_of(stream), 1):
            if not headed:
                if raw.removeprefix(b"\xef\xbb\xbf").startswith(b"##"):
                    continue
                names = raw.removeprefix(b"\xef\xbb\xbf").decode().rstrip("\r\n").split("\t")
                if names[: len(FIXED_COLUMNS)] != FIXED_COLUMNS:
                    self.findings.add(*_NO_HEADER, number, repr(names[0][:30]))
                    break
                self.lines, headed = names[_FORMAT_AT + 1 :], True
                self._unique_lines(number)
            elif raw.strip():
                self.records += 1
                self._record(number, raw.rstrip(b"\r\n"))
        if not headed and not self.findings.kinds:
            self.findings.add(*_NO_HEADER, 1, "the file holds none")
        bad = bool(self.findings.kinds)
        self.findings.report()
        return None if bad else self._calls()

    def _unique_lines(self, number: int) -> None:
        twice = sorted(name for name, times in Counter(self.lines).items() if times > 1)
        for name in twice:
            self.findings.add("a sample name stands twice", "give each line one name", number, name)
        for name in self.lines:
            if not name.isprintable():
                mend = "take control characters and unusual blanks out of it"
                self.findings.add("a sample name that cannot be printed", mend, number, name)

    def _record(self, number: int, raw: bytes) -> None:
        columns = raw.split(b"\t", _FORMAT_AT + 1)
        head = [c.decode("latin-1") for c in columns[:5]]
        # As bytes: only ASCII digits count; a position of more digits is on no contig.
        is_place = len(columns) > 1 and columns[1].isdigit() and len(columns[1]) < _MOST_DIGITS
        if len(columns) < len(FIXED_COLUMNS) or not is_place or not columns[3]:
            mend = "a record has CHROM, POS, ID, REF, ALT …, separated by tabs"
            self.findings.add("not a VCF record", mend, number, repr(raw[:30].decode("latin-1")))
            return
        contig, position = self.place.get(head[0]), int(head[1]) - 1
        ref, alts = head[3].upper(), tuple(a.upper() for a in head[4].split(","))
        if contig is None:
            mend = "use the contig names of the genome"
            self.findings.add("a contig that the FASTA lacks", mend, number, head[0])
            return
        told = f"line {number} {head[0]}:{head[1]} {ref[:20]}>{head[4][:20]}"
        reasons = [unusable(a) for a in alts]
        for reason in dict.fromkeys(r for r in reasons if r):
            self.tally.add(reason, told)
        if all(reasons) or not self._agrees(number, contig, position, ref):
            return
        edits = [trimmed(position, ref, a) for a, bad in zip(alts, reasons, strict=True) if not bad]
        low, high = min(e[0] for e in edits), max(e[1] for e in edits)
        if not self._near(contig, low, high):
            self.tally.add("far from every window")
            return
        found = self._genotypes(number, columns, len(alts), told)
        if found is not None:
            usable = np.array([True, *(not r for r in reasons)])
            self._add_carriers(found, usable, told, (contig, position, low, high), ref, alts)

    def _agrees(self, number: int, contig: int, position: int, ref: str) -> bool:
        length = int(self.genome.contig_length[contig])
        name = self.genome.contig_id[contig]
        if position < 0 or position + len(ref) > length:
            what = f"{name}:{position + 1} {ref[:10]} on {length:,} bp"
            self.findings.add("a variant beyond the end of its contig", _ASSEMBLY, number, what)
            return False
        have = ref_disagrees(self.genome, contig, position, ref)
        if have:
            what = f"{name}:{position + 1} REF {ref[:10]}, genome {have[:10]}"
            self.findings.add("REF is not what the genome has", _ASSEMBLY, number, what)
        return not have

    def _near(self, contig: int, low: int, high: int) -> bool:
        start, end = self.spans[contig]
        at = int(np.searchsorted(end, low, side="left"))
        return at < len(start) and int(start[at]) <= high

    def _genotypes(
        self, number: int, columns: list[bytes], alleles: int, told: str
    ) -> Genotypes | None:
        if not self.lines:
            self.tally.add("the VCF has no lines (sample columns), so none carries it", told)
            return None
        keys = columns[_FORMAT_AT].split(b":") if len(columns) > _FORMAT_AT + 1 else []
        if alleles > MOST_ALLELES:
            self.tally.add(f"more than {MOST_ALLELES} alternative alleles", told)
            return None
        if keys and b"GT" not in keys:
            self.tally.add("no GT in FORMAT", told)
            return None
        try:
            if not keys:
                raise BadGenotypeError(
                    f"0 genotype columns where the header names {len(self.lines):,}"
                )
            return read_genotypes(
                columns[_FORMAT_AT + 1], len(self.lines), keys.index(b"GT"), alleles
            )
        except BadGenotypeError as error:
            mend = "a call is written as 0/1, 1|1, 0 or ., one column a line"
            self.findings.add("not the genotypes of a record", mend, number, str(error))
            return None

    def _add_carriers(
        self, found: Genotypes, usable: NDArray[np.bool_], told: str,
        fixed: tuple[int, int, int, int], ref: str, alts: tuple[str, ...],
    ) -> None:  # fmt: skip
        if found.polyploid:
            who = self.lines[found.polyploid[0]]
            self.tally.add(_POLYPLOID, f"{told} in {who}", len(found.polyploid))
        # Most lines carry the reference twice: only the others are looked at.
        other = np.flatnonzero(found.first | found.second)
        first, second = found.first[other], found.second[other]
        missing = (first == MISSING) | (second == MISSING)
        if found.polyploid:
            missing &= ~np.isin(other, found.polyploid)
        if count := int(missing.sum()):
            who = self.lines[int(other[np.argmax(missing)])]
            self.tally.add(_MISSING, f"{told} in {who}", count)
        writable = np.zeros(MISSING + 1, bool)
        writable[: len(usable)] = usable
        first, second = np.where(writable[first], first, 0), np.where(writable[second], second, 0)
        carries = (first > 0) | (second > 0)
        if not carries.any():
            self.tally.add("no line carries it", told)
            return
        who_carries = other[carries]
        self.fixed.append(fixed)
        self.ref.append(ref)
        self.alt.append(alts)
        self.count.append(len(who_carries))
        self.line.frombytes(who_carries.astype(np.int32).tobytes())
        self.first += first[carries].astype(np.uint8).tobytes()
        self.second += second[carries].astype(np.uint8).tobytes()
        self.phased += found.phased[who_carries].tobytes()

    def _calls(self) -> VariantCalls:
        fixed = np.array(self.fixed, np.int64).reshape(-1, 4)
        count = np.array(self.count, np.int64)
        order = np.lexsort((fixed[:, 2], fixed[:, 0]))
        start = np.append(0, np.cumsum(count))
        moved = np.append(0, np.cumsum(count[order]))
        pick = np.repeat(start[:-1][order] - moved[:-1], count[order]) + np.arange(moved[-1])
        fixed = fixed[order]
        return VariantCalls(
            lines=self.lines, contig=fixed[:, 0].astype(np.int32), position=fixed[:, 1],
            low=fixed[:, 2], high=fixed[:, 3],
            ref=[self.ref[i] for i in order.tolist()], alt=[self.alt[i] for i in order.tolist()],
            carrier_start=moved,
            line=np.array(self.line, np.int32)[pick],
            first=np.frombuffer(self.first, np.uint8)[pick],
            second=np.frombuffer(self.second, np.uint8)[pick],
            phased=np.frombuffer(self.phased, np.bool_)[pick], records=self.records,
        )  # fmt: skip
