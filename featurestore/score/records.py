"""A VCF as a stream of records that keep their bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from featurestore.inputs.files import missing_file_mend
from featurestore.inputs.findings import Findings
from featurestore.inputs.problems import DataSetError, Problem, Problems
from featurestore.inputs.variants import FIXED_COLUMNS
from featurestore.score.bgzf import END as BGZF_END
from featurestore.score.bgzf import is_bgzf
from featurestore.untrusted import BombError, lines_of, open_file, unpacked

_BOM: Final = b"\xef\xbb\xbf"
_MOST_DIGITS: Final = 18
_COLUMNS: Final = len(FIXED_COLUMNS)
_INFO: Final = 7
NO_HEADER: Final = (
    "no VCF header line",
    "a VCF has the line #CHROM POS ID REF ALT QUAL FILTER INFO …, separated by tabs",
)


@dataclass(slots=True)
class Record:
    """One line of a VCF.

    Parameters
    ----------
    number : int
        1-based line of the file.
    columns : list of bytes
        The eight fixed ones and, if there are more, the rest as one.
    ending : bytes
        What ends the line: a line feed, with a carriage return or without, or nothing.
    """

    number: int
    columns: list[bytes]
    ending: bytes

    @property
    def is_sound(self) -> bool:
        """Whether it has the columns of a record, a position, and a REF."""
        columns = self.columns
        # As bytes: only ASCII digits count; a position of more digits is on no contig.
        return (
            len(columns) >= _COLUMNS
            and columns[1].isdigit()
            and len(columns[1]) < _MOST_DIGITS
            and bool(columns[3])
        )

    @property
    def contig(self) -> str:
        """CHROM."""
        return text(self.columns[0])

    @property
    def position(self) -> int:
        """0-based position of the first base of REF; −1 for the POS 0 that stands before a contig."""
        return int(self.columns[1]) - 1

    @property
    def ref(self) -> str:
        """REF as it stands."""
        return text(self.columns[3])

    @property
    def alts(self) -> list[str]:
        """The alleles of ALT as they stand."""
        return text(self.columns[4]).split(",")

    @property
    def info(self) -> bytes:
        """INFO as it stands."""
        return self.columns[_INFO]

    def with_info(self, info: bytes) -> bytes:
        """The line with another INFO, all else byte for byte."""
        columns = self.columns
        return b"\t".join([*columns[:_INFO], info, *columns[_INFO + 1 :]]) + self.ending

    @property
    def size(self) -> int:
        """Bytes of the line, nearly."""
        return len(self.columns[-1]) + len(self.columns[_INFO])


def text(value: bytes) -> str:
    """Bytes of a file as text; what is not UTF-8 is taken as Latin-1."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


@dataclass
class Vcf:
    """An opened VCF.

    Parameters
    ----------
    header : list of bytes
        Lines of the header with their endings, ``#CHROM`` the last.
    records : iterator of Record
        Blank lines are left out.
    """

    header: list[bytes]
    records: Iterator[Record]


@contextmanager
def open_vcf(path: Path) -> Iterator[Vcf]:
    """Read a VCF: plain, gzip or bgzip, told apart by content.

    Raises
    ------
    DataSetError
        If the file is missing, is no VCF, is cut short or damaged; the latter two perhaps only
        while its records are read.
    """
    problems = Problems()
    with ExitStack() as open_files:
        with _told(path):
            raw = open_files.enter_context(open_file(path))
            start = raw.read(18)
            _check_end(path, raw, start, problems)
            raw.seek(0)
            stream = unpacked(raw)
            header, number = _header(path, stream, problems)
            problems.raise_if_any()
        yield Vcf(header, _records(path, stream, number))


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors of reading a file as problems with what mends them."""
    try:
        yield
    except FileNotFoundError as error:
        raise _problem(path, "the file does not exist", missing_file_mend(path)) from error
    except IsADirectoryError as error:
        what = "this is a folder, not a file"
        raise _problem(path, what, "name the VCF inside it") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = f"the gzip file is cut short or damaged ({error})"
        mend = "copy or download the file again (check it with `gzip -t`)"
        raise _problem(path, what, mend) from error
    except BombError as error:
        raise _problem(path, str(error), "a VCF has a line feed after every record") from error
    except OSError as error:
        what = f"the file cannot be read ({error.strerror or error})"
        raise _problem(path, what, "check its name and permissions") from error


def _problem(path: Path, what: str, mend: str) -> DataSetError:
    return DataSetError([Problem(str(path), what, mend)])


def _check_end(path: Path, raw: IO[bytes], start: bytes, problems: Problems) -> None:
    """A bgzip file that lacks its end block lost records, which nothing else would tell."""
    if not is_bgzf(start):
        return
    raw.seek(-min(len(BGZF_END), raw.seek(0, 2)), 2)
    if raw.read() != BGZF_END:
        mend = "copy or download the file again"
        problems.add(path, "the bgzip file is cut short: its end block is missing", mend)


def _header(path: Path, stream: IO[bytes], problems: Problems) -> tuple[list[bytes], int]:
    lines: list[bytes] = []
    findings = Findings(path, problems)
    for number, raw in enumerate(lines_of(stream), 1):
        line = raw.removeprefix(_BOM) if number == 1 else raw
        if line.startswith(b"##"):
            lines.append(line)
            continue
        names = text(line).rstrip("\r\n").split("\t")
        if names[:_COLUMNS] == FIXED_COLUMNS:
            return [*lines, line], number
        findings.add(*NO_HEADER, number, repr(names[0][:30]))
        break
    else:
        findings.add(*NO_HEADER, len(lines) + 1, "the file holds none")
    findings.report()
    return lines, 0


def _records(path: Path, stream: IO[bytes], number: int) -> Iterator[Record]:
    with _told(path):
        for at, raw in enumerate(lines_of(stream), number + 1):
            body = raw.rstrip(b"\r\n")
            if body.strip():
                yield Record(at, body.split(b"\t", _COLUMNS), raw[len(body) :])
