"""Digests of files, each of which says how it is computed, so that any flipped bit is found cheaply.

Two forms:

``<64 hexadecimal digits>``
    sha256 of all bytes.
``rows:<n>x<bytes>:<64 hexadecimal digits>``
    Of a shard laid out regularly: ``n`` inner chunks of ``bytes`` bytes, each followed by its crc32c,
    then the index and its crc32c. The digits are the sha256 of the file without its inner
    chunks: of all crc32c values and the index. It is recomputed only from chunks that agree with
    their crc32c, so every byte is covered, and writing costs no second pass at the pace of sha256.
"""

from __future__ import annotations

import hashlib
import io
import re
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from featurestore.store.commit import WrittenFile
from featurestore.store.kernels import CRC_BYTES, crc32c

_PIECE: Final = 1 << 20
_ROWS: Final = re.compile(r"rows:(\d{1,15})x(\d{1,15}):[0-9a-f]{64}")


def rows_digest(n: int, chunk_bytes: int, without_chunks: bytes) -> str:
    """Digest of a regular shard: ``without_chunks`` is all of the file but its inner chunks."""
    return f"rows:{n}x{chunk_bytes}:{hashlib.sha256(without_chunks).hexdigest()}"


def hash_file(path: Path, like: WrittenFile | None = None) -> WrittenFile:
    """Size and digest of a file, streamed.

    Parameters
    ----------
    like : WrittenFile, optional
        What is expected: its form of digest is computed. Default sha256.
    """
    with path.open("rb", buffering=0) as file:
        return hash_stream(file, like)


def hash_bytes(data: bytes, like: WrittenFile | None = None) -> WrittenFile:
    """Size and digest of bytes, as :func:`hash_file`."""
    return hash_stream(io.BytesIO(data), like)


def hash_stream(file: BinaryIO | io.RawIOBase, like: WrittenFile | None = None) -> WrittenFile:
    """Size and digest of what a stream gives to its end, as :func:`hash_file`."""
    regular = _ROWS.fullmatch(like.digest) if like else None
    if not regular:
        digest, size = hashlib.sha256(), 0
        while piece := file.read(_PIECE):
            digest.update(piece)
            size += len(piece)
        return WrittenFile(size, digest.hexdigest())
    return _hash_rows(_Stream(file), int(regular[1]), int(regular[2]))


class _Stream:
    """Reads on from a stream, however little it gives at a time, and counts."""

    def __init__(self, file: BinaryIO | io.RawIOBase) -> None:
        self._file, self.size = file, 0

    def read(self, wanted: int) -> bytes:
        """``wanted`` bytes; fewer at the end of the stream."""
        parts: list[bytes] = []
        while wanted and (part := self._file.read(min(wanted, _PIECE))):
            parts.append(part)
            wanted -= len(part)
            self.size += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _hash_rows(file: _Stream, n: int, chunk_bytes: int) -> WrittenFile:
    digest = hashlib.sha256()
    at, wrong = 0, -1
    together = max(1, _PIECE // (chunk_bytes + CRC_BYTES))
    while at < n:
        count = min(together, n - at) if chunk_bytes <= _PIECE else 1
        stored, bad = _check(file, count, chunk_bytes)
        digest.update(stored)
        wrong = at + bad if bad >= 0 and wrong < 0 else wrong
        if len(stored) < count * CRC_BYTES:
            break
        at += count
    while tail := file.read(_PIECE):
        digest.update(tail)
    told = digest.hexdigest() if wrong < 0 else f"chunk {wrong} fails its checksum"
    return WrittenFile(file.size, f"rows:{n}x{chunk_bytes}:{told}")


def _check(file: _Stream, count: int, chunk_bytes: int) -> tuple[bytes, int]:
    """Stored checksums of the next chunks, and the first that does not agree, −1 if all do."""
    if count == 1:  # perhaps larger than memory should bear
        crc, left = 0, chunk_bytes
        while left and (piece := file.read(min(left, _PIECE))):
            crc = crc32c(np.frombuffer(piece, np.uint8), crc)
            left -= len(piece)
        stored = file.read(CRC_BYTES)
        return stored, 0 if left or crc != int.from_bytes(stored, "little") else -1
    stride = chunk_bytes + CRC_BYTES
    data = np.frombuffer(file.read(count * stride), np.uint8)
    chunks = data[: len(data) // stride * stride].reshape(-1, stride)
    told = np.ascontiguousarray(chunks[:, chunk_bytes:]).view("<u4")[:, 0].tolist()
    bad = next((i for i, crc in enumerate(told) if crc32c(chunks[i, :chunk_bytes]) != crc), -1)
    if len(chunks) < count and bad < 0:
        bad = len(chunks)
    return chunks[:, chunk_bytes:].tobytes() + data[len(chunks) * stride :].tobytes(), bad
