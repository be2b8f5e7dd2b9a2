"""Shard files, written whole and read verified: plain ``sharding_indexed`` Zarr v3, laid out regularly.

A shard of ``rows`` layout is, byte for byte::

    row 0 | crc32c of row 0 | row 1 | crc32c | … | index (offset, nbytes of every inner chunk) | crc32c

Inner chunks stand in order without gaps, so the file is a strided array that may be mapped or
read in place, and any Zarr v3 reader still reads it. A chunk of ``block`` layout is its bytes
followed by their crc32c. (Zarr v3 specification, codecs ``sharding_indexed``, ``bytes``, ``crc32c``.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError

CRC_BYTES: Final = 4
_MISSING: Final = 2**64 - 1
_IOV_MAX: Final = 1024


@dataclass(frozen=True)
class WrittenFile:
    """Size and sha256 of a file that was committed."""

    size: int
    sha256: str


def crc32c(data: bytes) -> bytes:
    """Little-endian crc32c as the Zarr codec appends it."""
    return int(google_crc32c.value(data)).to_bytes(CRC_BYTES, "little")


def commit_file(path: Path, parts: Iterable[bytes]) -> WrittenFile:
    """Write parts to a temporary name, fsync, rename: the file is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    digest, size = hashlib.sha256(), 0
    with partial.open("wb", buffering=0) as file:
        pending: list[bytes] = []
        for part in parts:
            digest.update(part)
            size += len(part)
            pending.append(part)
            if len(pending) == _IOV_MAX:
                _write_all(file.fileno(), pending)
                pending = []
        _write_all(file.fileno(), pending)
        os.fsync(file.fileno())
    partial.replace(path)
    return WrittenFile(size, digest.hexdigest())


def _write_all(descriptor: int, parts: list[bytes]) -> None:
    """One vectored write; a short write (signal, full pipe) goes on from where it stopped."""
    if not parts:
        return
    total = sum(len(p) for p in parts)
    written = os.writev(descriptor, parts)
    if written < total:
        rest = memoryview(b"".join(parts))[written:]
        while rest:
            rest = rest[os.write(descriptor, rest) :]


def write_rows(path: Path, rows: NDArray[Any], shard_rows: int) -> WrittenFile:
    """Commit one shard of ``rows`` layout.

    Parameters
    ----------
    rows : array, shape (n, …), n ≤ shard_rows
        The last shard of an array is shorter; its index marks the rows that do not exist.
    shard_rows : int
        Inner chunks of a full shard.
    """
    rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder("<"))
    row_bytes = rows[0].nbytes
    flat = memoryview(rows.reshape(-1).view(np.uint8))  # type: ignore[arg-type] # numpy arrays are buffers

    def parts() -> Iterable[bytes]:
        for i in range(len(rows)):
            row = flat[i * row_bytes : (i + 1) * row_bytes].tobytes()
            yield row
            yield crc32c(row)
        index = rows_index(len(rows), row_bytes, shard_rows)
        yield index
        yield crc32c(index)

    return commit_file(path, parts())


def write_packed(
    path: Path, rows: NDArray[Any], shard_rows: int, inner_rows: int, fill: Any
) -> WrittenFile:
    """Commit one shard of ``packed`` layout: as ``rows``, with ``inner_rows`` rows in an inner chunk.

    The last inner chunk is padded with ``fill``.
    """
    inner = -(-len(rows) // inner_rows)
    full = np.full((inner * inner_rows, *rows.shape[1:]), fill, rows.dtype)
    full[: len(rows)] = rows
    packed = full.reshape(inner, inner_rows, *rows.shape[1:])
    return write_rows(path, packed, shard_rows // inner_rows)


def rows_index(n: int, row_bytes: int, shard_rows: int) -> bytes:
    """The index of a regular shard with ``n`` rows."""
    index = np.full((shard_rows, 2), _MISSING, "<u8")
    index[:n, 0] = np.arange(n, dtype=np.uint64) * np.uint64(row_bytes + CRC_BYTES)
    index[:n, 1] = row_bytes + CRC_BYTES
    return index.tobytes()


def write_block(path: Path, block: NDArray[Any], chunk_rows: int, fill: Any) -> WrittenFile:
    """Commit one chunk of ``block`` layout: (n, …) padded with ``fill`` to (chunk_rows, …)."""
    full = block
    if len(block) < chunk_rows:
        full = np.full((chunk_rows, *block.shape[1:]), fill, block.dtype)
        full[: len(block)] = block
    data = np.ascontiguousarray(full, dtype=full.dtype.newbyteorder("<")).tobytes()
    return commit_file(path, [data, crc32c(data)])


def read_block(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Read one chunk of ``block`` layout, verified.

    Raises
    ------
    DamagedStoreError
        If the file is missing, has another size, or fails its checksum.
    """
    data = _read_file(path, int(np.prod(shape)) * dtype.itemsize + CRC_BYTES)
    if crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
        raise damaged(path, "its checksum does not match its bytes")
    return np.frombuffer(data, dtype.newbyteorder("<"), count=int(np.prod(shape))).reshape(shape)


def read_rows(
    path: Path,
    select: NDArray[np.int64],
    n: int,
    shard_rows: int,
    out: NDArray[Any],
    where: NDArray[np.int64],
) -> None:
    """Read rows of one shard into ``out[where]``, every row and the index verified.

    Parameters
    ----------
    select : int64 array
        Rows within the shard.
    n : int
        Rows that the shard holds.
    out : array, shape (…, *row shape), little-endian, C-contiguous
    where : int64 array
        Position in ``out`` of each selected row.

    Raises
    ------
    DamagedStoreError
        If the file is missing, cut short, or anything read from it fails its checksum.
    """
    row_bytes = out[0].nbytes if len(out) else 0
    stride = row_bytes + CRC_BYTES
    expected = rows_index(n, row_bytes, shard_rows)
    size = n * stride + len(expected) + CRC_BYTES
    try:
        with path.open("rb", buffering=0) as file:
            if (actual := os.fstat(file.fileno()).st_size) != size:
                raise damaged(path, f"it has {actual:,} bytes where {size:,} belong")
            if os.pread(file.fileno(), len(expected) + CRC_BYTES, n * stride) != expected + crc32c(
                expected
            ):
                raise damaged(path, "its index is not the one it was written with")
            _gather(file.fileno(), path, select, n, stride, out, where)
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error


def _gather(
    descriptor: int,
    path: Path,
    select: NDArray[np.int64],
    n: int,
    stride: int,
    out: NDArray[Any],
    where: NDArray[np.int64],
) -> None:
    whole = len(select) * 4 >= n  # many rows of one shard: one read beats many
    data = os.pread(descriptor, n * stride, 0) if whole else b""
    target = out.reshape(len(out), -1).view(np.uint8)
    for row, place in zip(select.tolist(), where.tolist(), strict=True):
        piece = (
            data[row * stride : (row + 1) * stride]
            if whole
            else os.pread(descriptor, stride, row * stride)
        )
        if len(piece) != stride or crc32c(piece[:-CRC_BYTES]) != piece[-CRC_BYTES:]:
            raise damaged(path, f"row {row} fails its checksum")
        target[place] = np.frombuffer(piece, np.uint8, stride - CRC_BYTES)


def _read_file(path: Path, size: int) -> bytes:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    if len(data) != size:
        raise damaged(path, f"it has {len(data):,} bytes where {size:,} belong")
    return data


def damaged(path: Path, what: str) -> DamagedStoreError:
    """The error for a file that cannot be trusted, with the commands that mend it."""
    return DamagedStoreError(
        f"{path}: {what}. Run 'fs verify STORE' for the whole extent, then 'fs repair STORE' and "
        "'fs build' again: only what is damaged is computed anew."
    )
