"""FASTA: genomes and gene-centred sequences, as base codes end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.findings import MOST_EXAMPLES
from featurestore.inputs.model import Genome
from featurestore.inputs.pieces import UnreadableError, pieces_of
from featurestore.inputs.problems import Problems, examples, shown
from featurestore.sequence import iupac

_BLANK: Final = 254
# The file is coded in pieces of about this many bytes: one array operation serves thousands of
# short contigs, and a long genome never stands in memory as text beside its codes.
_GROUP: Final = 1 << 22
_ROOM: Final = 1 << 26
_LONGEST_HEADER: Final = 1 << 24


def _table() -> NDArray[np.uint8]:
    table = iupac.ENCODE.copy()
    for byte in b" \t\r\n":
        table[byte] = _BLANK
    return table


_TABLE: Final = _table()


@dataclass(frozen=True)
class FastaRecords:
    """The records of a FASTA file, end to end.

    Parameters
    ----------
    name : list of str, length n
        First word of each header.
    description : list of str, length n
        What follows the first word.
    line : list of int, length n
        1-based line of each header.
    start, length : int64 arrays, shape (n,)
        Place of each record in ``code``.
    code : uint8 array
        IUPAC codes; soft-masked bases count as upper case.
    """

    name: list[str]
    description: list[str]
    line: list[int]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    code: NDArray[np.uint8]


def read_genome(path: Path, problems: Problems) -> Genome | None:
    """Read a genome; contig ids are the first words of the headers.

    Returns
    -------
    Genome, or None where the file is no FASTA; ``problems`` then says why.
    """
    records = read_fasta(path, problems, "contig")
    if records is None:
        return None
    return Genome(records.name, records.start, records.length, records.code)


def contig_lengths(genome: Genome) -> dict[str, int]:
    """Length of each contig in bp, in the order of the FASTA."""
    return dict(zip(genome.contig_id, genome.contig_length.tolist(), strict=True))


def read_fasta(path: Path, problems: Problems, what: str = "record") -> FastaRecords | None:
    """Read a FASTA file, plain, gzip or bgzip; ``what`` names a record in problems.

    Needs little more memory than the codes that it gives.
    """
    reader = _Reader(path, problems, what)
    try:
        for piece in pieces_of(path, _GROUP, problems):
            reader.take(piece)
        reader.end()
    except UnreadableError:
        return None
    return reader.records()


class _Codes:
    """An array that grows without ever standing in memory twice."""

    def __init__(self) -> None:
        self._held = np.empty(0, np.uint8)
        self.size = 0

    def add(self, codes: NDArray[np.uint8]) -> None:
        if self.size + len(codes) > len(self._held):
            # The system moves the pages of a large block, it does not copy them.
            room = min(self.size // 4, _ROOM)
            self._held.resize(self.size + len(codes) + room, refcheck=False)
        self._held[self.size : self.size + len(codes)] = codes
        self.size += len(codes)

    def take(self) -> NDArray[np.uint8]:
        self._held.resize(self.size, refcheck=False)
        return self._held


class _Reader:
    """Codes a file piece by piece; a piece may end anywhere, but a header is taken whole."""

    def __init__(self, path: Path, problems: Problems, what: str) -> None:
        self._path, self._problems, self._what = path, problems, what
        self._codes = _Codes()
        self._begun: list[int] = []
        self._names: list[str] = []
        self._descriptions: list[str] = []
        self._lines: list[int] = []
        self._line = 1  # of the first byte that was not taken yet
        self._at_line_start = True
        self._header = b""  # the beginning of a header whose end has not come yet
        self._cr: bool | None = None
        self._unknown = 0
        self._texts: list[str] = []
        self._places: list[int] = []

    def take(self, piece: bytes) -> None:
        """Take the next bytes of the file."""
        if self._cr is None and piece.strip():
            # Lines that end in a carriage return alone, as an old Macintosh wrote them.
            self._cr = b"\r" in piece[:-1] and b"\n" not in piece
        if self._cr:
            piece = piece.replace(b"\r", b"\n")
        self._part(self._header + piece if self._header else piece, last=False)

    def end(self) -> None:
        """Take what was held back."""
        held, self._header = self._header, b""
        if held:
            self._part(held, last=True)

    def _part(self, data: bytes, *, last: bool) -> None:
        if not self._names:
            data = self._beginning(data)
        starts, ends = _headers(data, self._at_line_start)
        self._header = b""
        if starts and ends[-1] == len(data) and not last:
            if len(data) - starts[-1] > _LONGEST_HEADER:
                self._refuse("a header line has no end", f"line {self._line}")
            self._header, data = data[starts[-1] :], data[: starts[-1]]
            del starts[-1], ends[-1]
        if not data:
            self._at_line_start = self._at_line_start or bool(self._header)
            return
        self._code(data, starts, ends)
        self._line += data.count(b"\n")
        self._at_line_start = bool(self._header) or data.endswith(b"\n")

    def _beginning(self, data: bytes) -> bytes:
        """The data from the first record on; only blanks may stand before it."""
        rest = data.lstrip()
        self._line += data.count(b"\n", 0, len(data) - len(rest))
        self._at_line_start = True
        if rest and not rest.startswith(b">"):
            first = rest[:20].split(b"\n")[0].decode("latin-1")
            self._refuse(f"sequence before the first '>': {first!r}", f"line {self._line}")
        return rest

    def _refuse(self, what: str, place: str) -> None:
        self._problems.add(self._path, what, "a FASTA file begins with a header line, >id", place)
        raise UnreadableError

    def _code(self, data: bytes, starts: list[int], ends: list[int]) -> None:
        codes = _TABLE[np.frombuffer(data, np.uint8)]
        for s, e in zip(starts, ends, strict=True):
            codes[s:e] = _BLANK
        first_record = len(self._names)
        for s, e, line in zip(starts, ends, _line_numbers(data, starts), strict=True):
            words = _words(data[s + 1 : e])
            self._names.append(words[0])
            self._descriptions.append(words[1] if len(words) > 1 else "")
            self._lines.append(self._line + line)
        keep = codes != _BLANK
        # Bases of this piece before each header: where the record of the header begins.
        bounds = np.array([0, *starts], np.int64)
        before = np.cumsum(np.add.reduceat(keep, bounds, dtype=np.int64))[:-1]
        self._begun += (self._codes.size + before).tolist()
        if (codes == iupac.UNKNOWN).any():
            self._note_letters(data, codes, keep, starts, first_record)
        self._codes.add(codes[keep])

    def _note_letters(
        self, data: bytes, codes: NDArray[np.uint8], keep: NDArray[np.bool_], starts: list[int],
        first_record: int,
    ) -> None:  # fmt: skip
        """Note letters that are no IUPAC codes: the first few with line and position."""
        bad = np.flatnonzero(codes == iupac.UNKNOWN)
        self._unknown += bad.size
        for at in bad[: MOST_EXAMPLES - len(self._texts)].tolist():
            record = first_record - 1 + int(np.searchsorted(starts, at, side="right"))
            position = self._codes.size + int(keep[:at].sum()) - self._begun[record] + 1
            name = shown(self._names[record])
            self._texts.append(f"{chr(data[at])!r} at base {position:,} of {self._what} {name}")
            self._places.append(self._line + data.count(b"\n", 0, at))

    def records(self) -> FastaRecords | None:
        """Everything, or None after the mistakes were told."""
        if not self._names:
            self._problems.add(
                self._path, "the file is empty", "give a FASTA file: >id, then its sequence"
            )
            return None
        if self._unknown:
            self._tell_letters()
        if self._tell_names() or self._unknown:
            return None
        start = np.array(self._begun, np.int64)
        length = np.diff(np.append(start, self._codes.size))
        return FastaRecords(
            self._names, self._descriptions, self._lines, start, length, self._codes.take()
        )

    def _tell_letters(self) -> None:
        more = f", … ({self._unknown:,} in all)" if self._unknown > len(self._texts) else ""
        lines = ", ".join(map(str, self._places))
        self._problems.add(
            self._path,
            f"no IUPAC nucleotide letter: {'; '.join(self._texts)}{more}",
            "this must be DNA; replace unknown bases by N and take out gaps and stops",
            f"line{'s' if len(self._places) > 1 else ''} {lines}",
        )

    def _tell_names(self) -> bool:
        """Say which headers lack an id or repeat one; True if any does."""
        seen: dict[str, int] = {}
        twice: list[tuple[str, int, int]] = []
        for number, name in enumerate(self._names):
            first = seen.setdefault(name, number)
            if first != number and name:
                twice.append((name, first, number))
        if twice:
            _, first, again = twice[0]
            place = f"lines {self._lines[first]} and {self._lines[again]}"
            text = f"{self._what} id given twice: {examples(name for name, _, _ in twice)}"
            mend = f"give every {self._what} its own id (first word of the header)"
            self._problems.add(self._path, text, mend, place)
        if "" in seen:
            text = "a header line '>' without an id"
            self._problems.add(self._path, text, "write >id", f"line {self._lines[seen['']]}")
        strange = [name for name in seen if not name.isprintable()]
        if strange:
            text = f"a {self._what} id that cannot be printed: {examples(strange)}"
            mend = "take control characters and unusual blanks out of the id"
            self._problems.add(self._path, text, mend, f"line {self._lines[seen[strange[0]]]}")
        return bool(twice) or "" in seen or bool(strange)


def _words(header: bytes) -> list[str]:
    """The first word of a header and, if there is more, the rest."""
    words = header.split(None, 1) or [b""]
    try:
        return [word.decode("utf-8").strip() for word in words]
    except UnicodeDecodeError:
        return [word.decode("latin-1").strip() for word in words]


def _line_numbers(data: bytes, starts: list[int]) -> list[int]:
    """Lines that end before each header."""
    lines: list[int] = []
    line, last = 0, 0
    for start in starts:
        line += data.count(b"\n", last, start)
        last = start
        lines.append(line)
    return lines


def _headers(data: bytes, at_line_start: bool) -> tuple[list[int], list[int]]:
    """Byte offsets of each ``>`` at the beginning of a line and of the end of its line."""
    starts: list[int] = []
    ends: list[int] = []
    at = 0 if at_line_start and data.startswith(b">") else data.find(b"\n>") + 1 or -1
    while at >= 0:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        starts.append(at)
        ends.append(end)
        at = data.find(b"\n>", end)
        at = at + 1 if at >= 0 else -1
    return starts, ends
