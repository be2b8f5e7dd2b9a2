"""Shard files, written whole and read verified: plain ``sharding_indexed`` Zarr v3, laid out regularly.

A shard of ``rows`` layout is, byte for byte::

    row 0 | crc32c of row 0 | row 1 | crc32c | … | index (offset, nbytes of every inner chunk) | crc32c

Inner chunks stand in order without gaps, so the file is a strided array that may be mapped or
read in place, and any Zarr v3 reader still reads it. A chunk of ``block`` layout is its bytes
followed by their crc32c. (Zarr v3 specification, codecs ``sharding_indexed``, ``bytes``, ``crc32c``.)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError
from featurestore.store import kernels
from featurestore.store.commit import WrittenFile, commit_file, replacing, write_parts
from featurestore.store.digest import rows_digest
from featurestore.store.kernels import CRC_BYTES

__all__ = [
    "CRC_BYTES", "WrittenFile", "commit_file", "crc32c", "damaged", "decode_block", "read_block", "rows_index",
    "write_block", "write_packed", "write_rows",
]  # fmt: skip

_MISSING: Final = 2**64 - 1


def crc32c(data: bytes) -> bytes:
    """Little-endian crc32c as the Zarr codec appends it."""
    return kernels.crc32c(np.frombuffer(data, np.uint8)).to_bytes(CRC_BYTES, "little")


def write_rows(
    path: Path, rows: NDArray[Any], shard_rows: int, *, durable: bool = True
) -> WrittenFile:
    """Commit one shard of ``rows`` layout, straight from the caller's memory.

    Parameters
    ----------
    rows : array, shape (n, …), 1 ≤ n ≤ shard_rows
        The last shard of an array is shorter; its index marks the rows that do not exist. Copied
        only if it is not C-contiguous or not little-endian.
    shard_rows : int
        Inner chunks of a full shard.
    durable : bool
        Flush to the disk before the file takes its name.

    Raises
    ------
    OSError
        If there is no room; nothing is left behind then.
    """
    return _write_shard(path, [_bytes_of(rows)], shard_rows, durable)


def _bytes_of(rows: NDArray[Any]) -> NDArray[np.uint8]:
    """Rows as bytes, shape (n, bytes of a row), without a copy where that can be."""
    rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    return rows.reshape(-1).view(np.uint8).reshape(len(rows), rows[0].nbytes)


def _write_shard(
    path: Path, pieces: list[NDArray[np.uint8]], inner_chunks: int, durable: bool
) -> WrittenFile:
    """Commit inner chunks (n, bytes), piece after piece, with checksums and index."""
    n, size = sum(map(len, pieces)), pieces[0].shape[1]
    index = rows_index(n, size, inner_chunks)
    tail = index + crc32c(index)
    total = n * (size + CRC_BYTES) + len(tail)
    with replacing(path, durable=durable) as file:
        if found := kernels.kernels(total):
            found.reserve(file, total)
        crcs, at = [], 0
        for piece in pieces:
            crcs.append(kernels.write_rows(file, piece, at).tobytes())
            at += len(piece) * (size + CRC_BYTES)
        write_parts(file, [tail])
    return WrittenFile(total, rows_digest(n, size, b"".join([*crcs, tail])))


def write_packed(
    path: Path,
    rows: NDArray[Any],
    shard_rows: int,
    inner_rows: int,
    fill: Any,
    *,
    durable: bool = True,
) -> WrittenFile:
    """Commit one shard of ``packed`` layout: as ``rows``, with ``inner_rows`` rows in an inner chunk.

    The last inner chunk is padded with ``fill``.
    """
    whole, rest = divmod(len(rows), inner_rows)
    pieces = []
    if whole:
        pieces.append(_bytes_of(rows[: whole * inner_rows].reshape(whole, -1)))
    if rest:
        last = np.full((1, inner_rows, *rows.shape[1:]), fill, rows.dtype)
        last[0, :rest] = rows[whole * inner_rows :]
        pieces.append(_bytes_of(last))
    return _write_shard(path, pieces, shard_rows // inner_rows, durable)


def rows_index(n: int, row_bytes: int, shard_rows: int) -> bytes:
    """The index of a regular shard with ``n`` rows."""
    index = np.full((shard_rows, 2), _MISSING, "<u8")
    index[:n, 0] = np.arange(n, dtype=np.uint64) * np.uint64(row_bytes + CRC_BYTES)
    index[:n, 1] = row_bytes + CRC_BYTES
    return index.tobytes()


def write_block(
    path: Path, block: NDArray[Any], chunk_rows: int, fill: Any, *, durable: bool = True
) -> WrittenFile:
    """Commit one chunk of ``block`` layout: (n, …) padded with ``fill`` to (chunk_rows, …)."""
    full = block
    if len(block) < chunk_rows:
        full = np.full((chunk_rows, *block.shape[1:]), fill, block.dtype)
        full[: len(block)] = block
    data = np.ascontiguousarray(full, dtype=full.dtype.newbyteorder("<")).tobytes()
    return commit_file(path, [data, crc32c(data)], durable=durable)


def read_block(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Read one chunk of ``block`` layout, verified.

    Raises
    ------
    DamagedStoreError
        If the file is missing, has another size, or fails its checksum.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    return decode_block(path, data, dtype, shape)


def decode_block(
    path: Path | str, data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    """The values of a chunk of ``block`` layout, verified; not writable.

    Raises
    ------
    DamagedStoreError
        As :func:`read_block`; ``path`` is for the message.
    """
    count = math.prod(shape)
    size = count * dtype.itemsize
    if len(data) != size + CRC_BYTES:
        raise damaged(path, f"it has {len(data):,} bytes where {size + CRC_BYTES:,} belong")
    if kernels.crc32c(np.frombuffer(data, np.uint8, size)) != int.from_bytes(data[size:], "little"):
        raise damaged(path, "its checksum does not match its bytes")
    return np.frombuffer(data, dtype.newbyteorder("<"), count).reshape(shape)


def damaged(path: Path | str, what: str) -> DamagedStoreError:
    """The error for a file that cannot be trusted, with the commands that mend it."""
    if "://" in str(path):
        return DamagedStoreError(
            f"{path}: {what}. Run 'fs verify ADDRESS' for the whole extent, delete the objects that it names, then "
            "publish the store again with 'fs export': only what is missing is sent."
        )
    return DamagedStoreError(
        f"{path}: {what}. Run 'fs verify STORE' for the whole extent, then 'fs repair STORE' and "
        "'fs build' again: only what is damaged is computed anew."
    )
