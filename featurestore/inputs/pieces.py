"""Uncompressed content of a file piece by piece: a genome is never held as text and as codes at once."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from featurestore.inputs.files import (
    BGZF_END,
    BGZF_FIELD,
    BOM,
    GZIP,
    PACKED_ERRORS,
    UnfinishedError,
    inflate,
    other_format,
    tell_damaged,
    tell_unreadable,
)
from featurestore.inputs.problems import Problems
from featurestore.untrusted import BombError, most_expanded, open_file, told_bomb

_HEAD: Final = 512
"""Bytes by which other formats are told."""
_BGZF_HEAD: Final = 18


class UnreadableError(Exception):
    """The file cannot be read; the problem has been told."""


def pieces_of(path: Path, size: int, problems: Problems) -> Iterator[bytes]:
    """Content of a file that is plain, gzip or bgzip, without a byte order mark.

    Parameters
    ----------
    size : int
        Bytes of a piece, about.

    Raises
    ------
    UnreadableError
        After ``problems`` was told why.
    """
    try:
        stream = open_file(path)
    except OSError as error:
        tell_unreadable(path, error, problems)
        raise UnreadableError from error
    with stream:
        packed = os.fstat(stream.fileno()).st_size
        first = stream.read(_BGZF_HEAD)
        stream.seek(0)
        if not first.startswith(GZIP):
            yield from _checked(path, _read(path, stream, size, problems), problems)
            return
        inside = _bgzf(stream, packed) if first[12:16] == BGZF_FIELD else _gzip(stream, size)
        try:
            yield from _checked(path, _bounded(_joined(inside, size), packed), problems)
        except PACKED_ERRORS as error:
            tell_damaged(path, error, packed, problems)
            raise UnreadableError from error


def _read(path: Path, stream: io.BufferedReader, size: int, problems: Problems) -> Iterator[bytes]:
    try:
        while piece := stream.read(max(size, _HEAD)):
            yield piece
    except OSError as error:
        tell_unreadable(path, error, problems)
        raise UnreadableError from error


def _checked(path: Path, pieces: Iterator[bytes], problems: Problems) -> Iterator[bytes]:
    """The pieces, if the first of them looks like text."""
    first = next(pieces, b"")
    if other := other_format(first):
        problems.add(path, f"the file is {other}", "give it as plain text, gzip or bgzip")
        raise UnreadableError
    yield first.removeprefix(BOM)
    yield from pieces


def _joined(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    """Pieces of at least ``size`` bytes, the last one excepted."""
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        held.append(piece)
        length += len(piece)
        if length >= max(size, _HEAD):
            yield b"".join(held)
            held, length = [], 0
    if held:
        yield b"".join(held)


def _bounded(pieces: Iterator[bytes], packed: int) -> Iterator[bytes]:
    total, most = 0, most_expanded(packed)
    for piece in pieces:
        total += len(piece)
        if total > most:
            raise BombError(told_bomb(packed, most))
        yield piece


def _gzip(stream: io.BufferedReader, size: int) -> Iterator[bytes]:
    with gzip.GzipFile(fileobj=stream) as inside:
        while piece := inside.read(max(size, _HEAD)):
            yield piece


def _bgzf(stream: io.BufferedReader, packed: int) -> Iterator[bytes]:
    """All blocks; several times faster than :mod:`gzip` on small blocks."""
    offset = 0
    while head := stream.read(_BGZF_HEAD):
        if head[:2] != GZIP or head[12:16] != BGZF_FIELD:
            # Plain gzip members may follow bgzip ones (`cat a.bgz b.gz`).
            stream.seek(offset)
            yield from _gzip(stream, 1 << 20)
            break
        if len(head) < _BGZF_HEAD:
            raise EOFError
        extra = struct.unpack_from("<H", head, 10)[0]
        length = struct.unpack_from("<H", head, 16)[0] + 1
        block = head + stream.read(length - _BGZF_HEAD)
        if len(block) < length:
            raise EOFError
        text = inflate(block[12 + extra : length - 8], offset)
        if zlib.crc32(text) != struct.unpack_from("<I", block, length - 8)[0]:
            raise zlib.error(f"checksum of the block at byte {offset:,} differs")
        yield text
        offset += length
    stream.seek(max(packed - len(BGZF_END), 0))
    if stream.read() != BGZF_END:
        raise UnfinishedError
