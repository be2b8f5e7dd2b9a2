"""Writes input files of tests: folders, bgzip blocks, FASTA."""

from __future__ import annotations

import gzip
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featurestore.inputs.problems import Problem, Problems

# The end block as printed in the SAM specification, section 4.1.2.
BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def bgzip(content: bytes, block: int = 100, end: bool = True) -> bytes:
    """Bgzip written from the specification: gzip members with a BC field that gives their size."""
    out = b""
    for at in range(0, len(content), block):
        piece = content[at : at + block]
        deflate = zlib.compressobj(6, zlib.DEFLATED, -15)
        body = deflate.compress(piece) + deflate.flush()
        size = 12 + 6 + len(body) + 8
        out += struct.pack("<4BI2BH", 31, 139, 8, 4, 0, 0, 255, 6)
        out += struct.pack("<2BHH", 66, 67, 2, size - 1) + body
        out += struct.pack("<II", zlib.crc32(piece), len(piece))
    return out + (BGZF_END if end else b"")


def fasta(contigs: Mapping[str, str], width: int = 60) -> str:
    """FASTA text with lines of ``width`` bases."""
    lines = []
    for name, sequence in contigs.items():
        lines.append(f">{name}")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    return "\n".join(lines) + "\n"


@dataclass
class Folder:
    """A folder of input files, and the problems of reading one of them."""

    path: Path

    def write(self, name: str, content: str | bytes) -> Path:
        """Write text or bytes; a name that ends in .gz compresses text."""
        path = self.path / name
        raw = content.encode() if isinstance(content, str) else content
        if name.endswith(".gz") and isinstance(content, str):
            raw = gzip.compress(raw, mtime=0)
        path.write_bytes(raw)
        return path

    def rows(self, name: str, *rows: str) -> Path:
        """A table; columns are written apart by blanks and become tabs."""
        return self.write(name, "".join("\t".join(row.split()) + "\n" for row in rows))


def only(problems: Problems) -> Problem:
    """The one problem there is; any other number fails with all of them."""
    assert len(problems.items) == 1, [str(p) for p in problems.items]
    return problems.items[0]
