"""Bytes and text of input files, plain, gzip or bgzip alike, told apart by their first bytes."""

from __future__ import annotations

import difflib
import errno
import gzip
import hashlib
import io
import struct
import zlib
from pathlib import Path
from typing import Final

from featurestore.inputs.problems import Problems
from featurestore.untrusted import BombError, most_expanded, open_file, read_expanded, told_bomb

GZIP: Final = b"\x1f\x8b"
BGZF_FIELD: Final = b"BC\x02\x00"
# Every complete bgzip file ends in this empty block (SAM specification, section 4.1.2).
BGZF_END: Final = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
_OTHER_FORMATS: Final = {
    b"PK\x03\x04": "a zip archive",
    b"BZh": "compressed with bzip2",
    b"\xfd7zXZ\x00": "compressed with xz",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"PAR1": "a Parquet file",
    b"\x89HDF": "an HDF5 file",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls)",
    b"%PDF": "a PDF document",
    b"BAM\x01": "a BAM file",
    b"BCF\x02": "a BCF file",
    b"\x43\x27\x41\x1a": "a 2bit file",
    b"\x1f\x9d": "compressed with compress (.Z)",
    b"SQLite format 3": "an SQLite database",
    b"version https://git-lfs": "a pointer of Git LFS (`git lfs pull` brings the file itself)",
    GZIP: "compressed twice",
}
_BGZF_BLOCK: Final = 1 << 16
"""Bytes that one block of a bgzip file may hold."""
_TAR: Final = (257, b"ustar")
_HTML: Final = (b"<!doctype html", b"<html")
BOM: Final = b"\xef\xbb\xbf"

_digests: dict[tuple[str, int, int], str] = {}


def read_bytes(path: Path, problems: Problems) -> bytes | None:
    """Uncompressed content of a file, without a byte order mark.

    Plain, gzip and bgzip are told apart by content, never by suffix.

    Returns
    -------
    bytes, or None where the file cannot be read; ``problems`` then says why.
    """
    raw = _read_raw(path, problems)
    if raw is None:
        return None
    if raw.startswith(GZIP):
        raw = _decompress(path, raw, problems)
        if raw is None:
            return None
    if other := other_format(raw):
        problems.add(path, f"the file is {other}", "give it as plain text, gzip or bgzip")
        return None
    return raw.removeprefix(BOM)


def other_format(raw: bytes) -> str:
    """What a file is that is no plain text, told by its first bytes; empty if it may be text."""
    for magic, what in _OTHER_FORMATS.items():
        if raw.startswith(magic):
            return what
    if raw.startswith(_TAR[1], _TAR[0]):
        return "a tar archive"
    if raw[:200].lstrip().lower().startswith(_HTML):
        return "a web page, as a failed download leaves it"
    return ""


def read_text(path: Path, problems: Problems) -> str | None:
    """Text of a file; lines end in a line feed, however they ended in the file.

    Bytes that are not UTF-8 are taken as Latin-1, which annotation files of older sources use.
    """
    raw = read_bytes(path, problems)
    if raw is None:
        return None
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text


def file_digest(path: Path) -> str:
    """Sha256 of the file's bytes as they lie on disk, in hexadecimal.

    Remembered within the process while path, size and time of change stay the same.
    """
    stat = path.stat()
    key = (str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    if key not in _digests:
        with open_file(path) as stream:
            _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


def missing_file_mend(path: Path) -> str:
    """What mends a path that does not exist: the most similar file beside it, if there is one."""
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; paths are relative to dataset.toml"
    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:  # a folder that may be entered and not listed
        names = []
    close = difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}Paths are relative to dataset.toml"


def _read_raw(path: Path, problems: Problems) -> bytes | None:
    try:
        with open_file(path) as stream:
            return stream.read()
    except OSError as error:
        tell_unreadable(path, error, problems)
    return None


def tell_unreadable(path: Path, error: OSError, problems: Problems) -> None:
    """Say why a file cannot be opened or read, and what mends it."""
    if isinstance(error, FileNotFoundError):
        if "\0" in str(path):
            problems.add(path, "the name of the file has a NUL in it", "correct the name")
        else:
            problems.add(path, "the file does not exist", missing_file_mend(path))
    elif isinstance(error, IsADirectoryError):
        problems.add(path, "this is a folder, not a file", "name the file inside it")
    elif error.errno == errno.EINVAL:
        problems.add(path, str(error.strerror), "write its content to a file and name that")
    else:
        mend = "check its name and permissions"
        problems.add(path, f"the file cannot be read ({error.strerror})", mend)


def _decompress(path: Path, raw: bytes, problems: Problems) -> bytes | None:
    is_bgzf = raw[12:16] == BGZF_FIELD
    try:
        text = _decompress_bgzf(raw) if is_bgzf else _gunzip(raw, len(raw))
        if is_bgzf and not raw.endswith(BGZF_END):
            raise UnfinishedError
    except PACKED_ERRORS as error:
        tell_damaged(path, error, len(raw), problems)
        return None
    return text


class UnfinishedError(ValueError):
    """A bgzip file without its end block."""


PACKED_ERRORS: Final = (BombError, EOFError, OSError, zlib.error, struct.error, UnfinishedError)
"""What unpacking a file of ours or somebody else's may end in."""


def tell_damaged(path: Path, error: Exception, packed: int, problems: Problems) -> None:
    """Say what is wrong with a compressed file of ``packed`` bytes."""
    mend = "copy or download the file again (check it with `gzip -t`)"
    if isinstance(error, BombError):
        mend = "if it is what you want, unpack it with `gunzip` and name the file that gives"
        problems.add(path, f"the gzip file is a bomb: {error}", mend)
    elif isinstance(error, UnfinishedError):
        what = f"the bgzip file is cut short at byte {packed:,}: its end block is missing"
        problems.add(path, what, mend)
    elif isinstance(error, EOFError):
        problems.add(path, f"the gzip file is cut short at byte {packed:,}", mend)
    else:
        problems.add(path, f"the gzip file is damaged ({error})", mend)


def _gunzip(raw: bytes, packed: int) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
        return read_expanded(stream, packed)


def _decompress_bgzf(raw: bytes) -> bytes:
    """All blocks of a bgzip file; several times faster than :mod:`gzip` on small blocks."""
    pieces: list[bytes] = []
    size, most = 0, most_expanded(len(raw))
    offset = 0
    while offset < len(raw):
        if raw[offset : offset + 2] != GZIP or raw[offset + 12 : offset + 16] != BGZF_FIELD:
            # Plain gzip members may follow bgzip ones (`cat a.bgz b.gz`).
            pieces.append(_gunzip(raw[offset:], len(raw)))
            break
        extra = struct.unpack_from("<H", raw, offset + 10)[0]
        end = offset + struct.unpack_from("<H", raw, offset + 16)[0] + 1
        if end > len(raw):
            raise EOFError
        block = inflate(raw[offset + 12 + extra : end - 8], offset)
        if zlib.crc32(block) != struct.unpack_from("<I", raw, end - 8)[0]:
            raise zlib.error(f"checksum of the block at byte {offset:,} differs")
        size += len(block)
        if size > most:
            raise BombError(told_bomb(len(raw), most))
        pieces.append(block)
        offset = end
    return b"".join(pieces)


def inflate(packed: bytes, offset: int) -> bytes:
    """One block, never more than a block may hold."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    block = inflater.decompress(packed, _BGZF_BLOCK + 1)
    if len(block) > _BGZF_BLOCK:
        raise zlib.error(f"the block at byte {offset:,} is larger than 64 KiB")
    if not inflater.eof:
        raise zlib.error(f"the block at byte {offset:,} is not whole")
    return block
