"""Checksums as servers publish them: md5, sha256, and the BSD ``sum`` of Ensembl's CHECKSUMS files."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featurestore.errors import FetchError
from featurestore.untrusted import open_file

_PIECE: Final = 1 << 20
_DIGITS: Final = {"md5": 32, "sha256": 64}
_LISTED: Final = re.compile(r"(\d{1,5})\s+(\d{1,12})\s+(\S+)")
BLOCK: Final = 1024
"""Bytes of the blocks that the BSD ``sum`` counts."""


@dataclass(frozen=True)
class Checksum:
    """What is published of the content of a file.

    Parameters
    ----------
    kind : {"md5", "sha256", "sum"}
    value : str
        Hexadecimal digits; for ``sum`` the decimal number.
    blocks : int
        For ``sum``: size of the file in blocks of 1,024 bytes, the last one counted whole.
    """

    kind: str
    value: str
    blocks: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.value}" + (f" of {self.blocks} KiB" if self.blocks else "")

    def of(self, path: Path) -> Checksum:
        """The same of a file that lies here."""
        if self.kind == "sum":
            return Checksum("sum", str(bsd_sum(path)), -(-path.stat().st_size // BLOCK))
        with open_file(path) as file:
            # Against transfer errors, not against forgers: the list comes from the same server.
            digest = hashlib.file_digest(
                file, lambda: hashlib.new(self.kind, usedforsecurity=False)
            )
        return Checksum(self.kind, digest.hexdigest())


def parse_checksum(text: str) -> Checksum | None:
    """``md5:…`` or ``sha256:…`` of an API; None for anything that cannot be checked here."""
    kind, _, value = text.strip().lower().partition(":")
    if kind in _DIGITS and re.fullmatch(rf"[0-9a-f]{{{_DIGITS[kind]}}}", value):
        return Checksum(kind, value)
    return None


def parse_sums(text: str) -> dict[str, Checksum]:
    """A CHECKSUMS file: a line a file, its BSD sum, its blocks and its name.

    Raises
    ------
    FetchError
        If no line is one.
    """
    found = {
        match[3].removeprefix("./"): Checksum("sum", str(int(match[1])), int(match[2]))
        for line in text.splitlines()
        if (match := _LISTED.fullmatch(line.strip()))
    }
    if not found:
        raise FetchError(f"no line of the form `sum blocks name`; it begins {text[:60]!r}")
    return found


def bsd_sum(path: Path) -> int:
    """The 16-bit rotating checksum of ``sum -r``, by the system's own where it is there.

    In Python it takes about 0.1 s a megabyte, which is a minute for a genome.
    """
    command = shutil.which("sum")
    if command is not None:
        with open_file(path) as file:
            run = subprocess.run([command, "-r"], stdin=file, capture_output=True, check=False)
        first = run.stdout.split()
        if run.returncode == 0 and first and first[0].isdigit():
            return int(first[0])
    return rotating_sum(_pieces(path))


def rotating_sum(pieces: Iterator[bytes]) -> int:
    """The checksum of bytes: turned right by one bit, the next byte added, 16 bits kept."""
    total = 0
    for piece in pieces:
        for byte in piece:
            total = ((total >> 1) + ((total & 1) << 15) + byte) & 0xFFFF
    return total


def _pieces(path: Path) -> Iterator[bytes]:
    with open_file(path) as file:
        while piece := file.read(_PIECE):
            yield piece
