"""Opens files that somebody else may have made: pipes, bombs and deep nesting end in an error."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, AnyStr, Final, Protocol, cast

LARGEST_EXPANDED: Final = 1 << 28
"""Bytes that a compressed file may always expand to …"""

LARGEST_RATIO: Final = 100
"""… and how many times its own size beyond that. Genomes reach 5, sparse tables 30."""

LONGEST_LINE: Final = 1 << 28
"""Bytes of one line of a file that is read line by line."""

LARGEST_JSON: Final = 1 << 28
"""Bytes of one JSON file."""

_DEEPEST_JSON: Final = 200

_NOT_A_FILE: Final = "this is a pipe or a device, not a file"


class Readable(Protocol):
    """What gives bytes piece by piece."""

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes; none at the end."""


class BombError(ValueError):
    """A file that would take far more memory than its size says."""


def open_file(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; symbolic links are followed.

    Raises
    ------
    OSError
        If there is none, or the path is a folder, a pipe or a device: these would be waited for.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    try:
        descriptor = os.open(path, flags)
    except ValueError as error:  # a NUL in the name
        raise FileNotFoundError(errno.ENOENT, "the name has a NUL in it", str(path)) from error
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, "this is a folder, not a file", str(path))
        raise OSError(errno.EINVAL, _NOT_A_FILE, str(path))
    return os.fdopen(descriptor, "rb")


def most_expanded(packed: int) -> int:
    """Bytes that a compressed file of ``packed`` bytes may expand to."""
    return max(LARGEST_EXPANDED, LARGEST_RATIO * packed)


def read_expanded(stream: Readable, packed: int) -> bytes:
    """Everything that a decompressing stream gives, up to :func:`most_expanded`.

    Raises
    ------
    BombError
        If there is more.
    """
    most = most_expanded(packed)
    pieces: list[bytes] = []
    size = 0
    while piece := stream.read(1 << 22):
        size += len(piece)
        if size > most:
            raise BombError(told_bomb(packed, most))
        pieces.append(piece)
    return b"".join(pieces)


def told_bomb(packed: int, most: int) -> str:
    """What is wrong with a file of ``packed`` bytes that expands to more than ``most``."""
    return (
        f"its {packed:,} bytes expand to more than {most:,}, over {LARGEST_RATIO} times as many, "
        "which no real file of this kind does"
    )


def unpacked(stream: IO[bytes]) -> IO[bytes]:
    """The stream, unpacked as it is read if it is gzip or bgzip."""
    packed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream)) if packed else stream


def lines_of(stream: IO[AnyStr]) -> Iterator[AnyStr]:
    """Lines with their endings.

    Raises
    ------
    BombError
        If one is longer than :data:`LONGEST_LINE`.
    """
    while line := stream.readline(LONGEST_LINE + 1):
        if len(line) > LONGEST_LINE:
            raise BombError(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line


def parse_json(text: bytes | str) -> Any:
    """A JSON value.

    Raises
    ------
    ValueError
        If it is no JSON, or nested deeper than a file of this project ever is.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects nested too deep") from error
    _check_depth(value)
    return value


def _check_depth(value: Any) -> None:
    """Refuse what would overflow the stack of whoever walks the value."""
    level = [value]
    for _ in range(_DEEPEST_JSON):
        level = [
            child
            for one in level
            if isinstance(one, dict | list)
            for child in (one.values() if isinstance(one, dict) else one)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise ValueError("lists or objects nested too deep")


def read_json(path: Path) -> Any:
    """The JSON value that a file holds.

    Raises
    ------
    OSError, ValueError
        If the file is none, is larger than :data:`LARGEST_JSON`, or holds no JSON.
    """
    with open_file(path) as file:
        raw = file.read(LARGEST_JSON + 1)
    if len(raw) > LARGEST_JSON:
        raise ValueError(f"larger than {LARGEST_JSON:,} bytes")
    return parse_json(raw)
