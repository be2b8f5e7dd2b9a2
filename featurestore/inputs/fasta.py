"""FASTA: genomes and gene-centred sequences, as base codes end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.inputs.files import read_bytes
from featurestore.inputs.findings import MOST_EXAMPLES
from featurestore.inputs.model import Genome
from featurestore.inputs.problems import Problems, examples, shown
from featurestore.sequence import iupac

_BLANK: Final = 254
# Records are coded in groups of about this many bytes: one array operation serves thousands of
# short contigs, and a long genome never has all its temporaries in memory at once.
_GROUP: Final = 1 << 24


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
    """Read a FASTA file, plain, gzip or bgzip; ``what`` names a record in problems."""
    data = read_bytes(path, problems)
    if data is None:
        return None
    if b"\r" in data and b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if not data.strip():
        problems.add(path, "the file is empty", "give a FASTA file: >id, then its sequence")
        return None
    if not data.lstrip().startswith(b">"):
        line = data[: len(data) - len(data.lstrip())].count(b"\n") + 1
        first = data.lstrip()[:20].split(b"\n")[0].decode("latin-1")
        text = f"sequence before the first '>': {first!r}"
        problems.add(path, text, "a FASTA file begins with a header line, >id", f"line {line}")
        return None
    starts, ends = _headers(data)
    words = [_words(data[s + 1 : e]) for s, e in zip(starts, ends, strict=True)]
    names = [w[0] for w in words]
    code, lengths = _encode(data, starts, ends)
    bad = bool((code == iupac.UNKNOWN).any())
    if bad:
        _tell_letters(path, problems, what, data, names, starts, ends)
    if _tell_names(path, problems, what, data, names, starts) or bad:
        return None
    descriptions = [w[1] if len(w) > 1 else "" for w in words]
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    lines = _line_numbers(data, starts)
    return FastaRecords(names, descriptions, lines, offsets, lengths, code)


def _words(header: bytes) -> list[str]:
    """The first word of a header and, if there is more, the rest."""
    words = header.split(None, 1) or [b""]
    try:
        return [word.decode("utf-8").strip() for word in words]
    except UnicodeDecodeError:
        return [word.decode("latin-1").strip() for word in words]


def _line_numbers(data: bytes, starts: list[int]) -> list[int]:
    lines: list[int] = []
    line, last = 1, 0
    for start in starts:
        line += data.count(b"\n", last, start)
        last = start
        lines.append(line)
    return lines


def _headers(data: bytes) -> tuple[list[int], list[int]]:
    """Byte offsets of each ``>`` at the beginning of a line and of the end of its line."""
    starts: list[int] = []
    ends: list[int] = []
    at = data.find(b">")
    while at >= 0:
        end = data.find(b"\n", at)
        end = len(data) if end < 0 else end
        starts.append(at)
        ends.append(end)
        at = data.find(b"\n>", end)
        at = at + 1 if at >= 0 else -1
    return starts, ends


def _encode(
    data: bytes, starts: list[int], ends: list[int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Codes of all records, headers and blanks left out, and the length of each."""
    raw = np.frombuffer(data, np.uint8)
    pieces: list[NDArray[np.uint8]] = []
    lengths = np.zeros(len(starts), np.int64)
    first = 0
    while first < len(starts):
        last = first + 1
        while last < len(starts) and starts[last] - starts[first] < _GROUP:
            last += 1
        begin = starts[first]
        stop = starts[last] if last < len(starts) else len(data)
        codes = _TABLE[raw[begin:stop]]
        for s, e in zip(starts[first:last], ends[first:last], strict=True):
            codes[s - begin : e - begin] = _BLANK
        keep = codes != _BLANK
        # reduceat over the headers' own offsets: a header is blank, so each sum is one record.
        sums = np.add.reduceat(keep, np.array(starts[first:last]) - begin, dtype=np.int64)
        lengths[first:last] = sums
        pieces.append(codes[keep])
        first = last
    return (pieces[0] if len(pieces) == 1 else np.concatenate(pieces)), lengths


def _tell_letters(
    path: Path,
    problems: Problems,
    what: str,
    data: bytes,
    names: list[str],
    starts: list[int],
    ends: list[int],
) -> None:
    """Say which letters are no IUPAC codes: the first few with line and position."""
    texts: list[str] = []
    lines: list[str] = []
    count = 0
    bounds = [*starts[1:], len(data)]
    for name, end, stop in zip(names, ends, bounds, strict=True):
        codes = _TABLE[np.frombuffer(data[end:stop], np.uint8)]
        bad = np.flatnonzero(codes == iupac.UNKNOWN)
        count += bad.size
        for at in bad[: MOST_EXAMPLES - len(texts)]:
            position = int((codes[:at] != _BLANK).sum()) + 1
            letter = chr(data[end + int(at)])
            texts.append(f"{letter!r} at base {position:,} of {what} {shown(name)}")
            lines.append(str(data.count(b"\n", 0, end + int(at)) + 1))
    more = f", … ({count:,} in all)" if count > len(texts) else ""
    problems.add(
        path,
        f"no IUPAC nucleotide letter: {'; '.join(texts)}{more}",
        "this must be DNA; replace unknown bases by N and take out gaps and stops",
        f"line{'s' if len(lines) > 1 else ''} {', '.join(lines)}",
    )


def _tell_names(
    path: Path,
    problems: Problems,
    what: str,
    data: bytes,
    names: list[str],
    starts: list[int],
) -> bool:
    """Say which headers lack an id or repeat one; True if any does."""
    seen: dict[str, int] = {}
    twice: list[tuple[str, int, int]] = []
    for number, name in enumerate(names):
        first = seen.setdefault(name, number)
        if first != number and name:
            twice.append((name, first, number))

    def line(number: int) -> int:
        return data.count(b"\n", 0, starts[number]) + 1

    if twice:
        _, first, again = twice[0]
        place = f"lines {line(first)} and {line(again)}"
        text = f"{what} id given twice: {examples(name for name, _, _ in twice)}"
        problems.add(path, text, f"give every {what} its own id (first word of the header)", place)
    if "" in seen:
        text = "a header line '>' without an id"
        problems.add(path, text, "write >id", f"line {line(seen[''])}")
    strange = [name for name in seen if not name.isprintable()]
    if strange:
        text = f"a {what} id that cannot be printed: {examples(strange)}"
        mend = "take control characters and unusual blanks out of the id"
        problems.add(path, text, mend, f"line {line(seen[strange[0]])}")
    return bool(twice) or "" in seen or bool(strange)
