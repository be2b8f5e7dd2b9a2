"""Checksums, writing and gathering of shards: compiled kernels, or the same in Python."""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from featurestore.native import loading
from featurestore.native.compiler import KernelError
from featurestore.store.commit import write_parts

CRC_BYTES: Final = 4
SMALL: Final = 64 * 2**20
"""Bytes that a process handles in Python before it compiles or loads kernels: the few reads of a
short command do not wait for a compiler."""
_PIECE: Final = 1 << 20
_MOST_ROWS: Final = 512

VERIFY: Final = ("never", "first", "always")
"""When the checksum of an inner chunk is computed, as the kernel numbers it."""
TOUCHED: Final = 1
VERIFIED: Final = 2

_SOURCES: Final = Path(loading.__file__).parent / "src"
_SIGNATURES: Final = {
    "meristem_crc32c": (ctypes.c_uint32, 1, 2),
    "meristem_reserve": (loading.SIZE, 0, 2),
    "meristem_write_rows": (loading.SIZE, 2, 4),
    "meristem_gather": (loading.SIZE, 4, 6),
}


def address(array: NDArray[Any]) -> int:
    """Where the first byte of an array lies."""
    return int(array.__array_interface__["data"][0])


@dataclass(frozen=True)
class ShardKernels:
    """The compiled kernels. Calls release the interpreter lock."""

    functions: dict[str, Any]

    def crc32c(self, data: NDArray[np.uint8], before: int = 0) -> int:
        """Checksum of contiguous bytes that follow those whose checksum is ``before``."""
        return int(self.functions["meristem_crc32c"](address(data), data.nbytes, before))

    def reserve(self, file: int, size: int) -> None:
        """Claim the room of a file that will have ``size`` bytes."""
        _raise(self.functions["meristem_reserve"](file, size))

    def write_rows(
        self, file: int, rows: NDArray[np.uint8], crcs: NDArray[np.uint8], at: int = 0
    ) -> None:
        """Write rows (n, bytes), each followed by its checksum, and fill ``crcs`` (n, 4).

        ``at`` is where in the file the next byte goes.
        """
        write = self.functions["meristem_write_rows"]
        _raise(write(address(rows), address(crcs), *rows.shape, file, at))

    def gather(
        self, maps: int, seen: int, rows: NDArray[np.int64], out: NDArray[Any],
        row_bytes: int, inner_rows: int, shard_rows: int, all_rows: int, verify: int,
    ) -> int:  # fmt: skip
        """Copy rows of mapped shards into ``out``.

        Parameters
        ----------
        maps : int
            Address of int64, by shard: where its bytes are mapped; 0 where they are not.
        seen : int
            Address of int64, by shard: where a byte for each inner chunk lies; :data:`TOUCHED` and
            :data:`VERIFIED` are set in it.
        rows : int64 array, contiguous
        verify : int
            An index into :data:`VERIFY`.

        Returns
        -------
        int
            −1; or the first index into ``rows`` whose inner chunk fails its checksum; or −2 − i
            where the shard of ``rows[i]`` is not mapped or ``rows[i]`` is not in the array.
        """
        found: int = self.functions["meristem_gather"](
            maps, seen, address(rows), address(out), len(rows), row_bytes, inner_rows, shard_rows,
            all_rows, verify,
        )  # fmt: skip
        return found


def _raise(code: int) -> None:
    if code:
        raise OSError(code, os.strerror(code))


_seen = 0


def kernels(work: int = 0) -> ShardKernels | None:
    """The kernels, or None where Python is to do it.

    Parameters
    ----------
    work : int
        Bytes to be handled: without ``MERISTEM_KERNELS=on`` a process begins with Python, and
        loads kernels once it has handled :data:`SMALL` bytes.
    """
    global _seen
    wanted = loading.switch()
    if wanted == "auto" and _loaded.library is None:
        _seen += work
        if _seen < SMALL or _loaded.reason is not None:
            return None
    return _loaded.get()


def crc32c(data: NDArray[np.uint8], before: int = 0) -> int:
    """Checksum of contiguous bytes that follow those whose checksum is ``before``."""
    # numpy arrays rather than memoryviews: google_crc32c takes no writable memoryview.
    return int(google_crc32c.extend(before, data))


def write_rows(file: int, rows: NDArray[np.uint8], at: int = 0) -> NDArray[np.uint8]:
    """Write rows (n, bytes) from offset ``at`` on, each followed by its checksum; gives those (n, 4)."""
    crcs = np.empty((len(rows), CRC_BYTES), np.uint8)
    if found := kernels(rows.nbytes):
        found.write_rows(file, rows, crcs, at)
        return crcs
    together = min(max(1, _PIECE // max(rows.shape[1], 1)), _MOST_ROWS)
    for start in range(0, len(rows), together):
        parts: list[Any] = []
        for row in range(start, min(start + together, len(rows))):
            crcs[row] = np.frombuffer(crc32c(rows[row]).to_bytes(CRC_BYTES, "little"), np.uint8)
            parts += [rows[row], crcs[row]]
        write_parts(file, parts)
    return crcs


def _load() -> ShardKernels:
    functions, _ = loading.open_library(_SOURCES, _SIGNATURES, quiet=True)
    found = ShardKernels(functions)
    _test_checksums(found)
    _test_writing(found)
    _test_gathering(found)
    return found


def _refuse(what: str) -> KernelError:
    return KernelError(
        f"the compiled kernels of the store failed their self-test: {what}; set CC to another "
        "compiler, and please report this one"
    )


def _test_checksums(found: ShardKernels) -> None:
    data = np.random.default_rng(0).integers(0, 256, 40_000, np.uint8)
    for start in (0, 1, 5):
        for size in (0, 1, 7, 8, 63, 64, 255, 256, 257, 319, 383, 1000, 6143, 6144, 6145, 33_333):
            part = data[start : start + size]
            before = crc32c(data[:start])
            if found.crc32c(part, before) != crc32c(part, before):
                raise _refuse(f"crc32c of {size} bytes")


def _test_writing(found: ShardKernels) -> None:
    rows = np.random.default_rng(1).integers(0, 256, (7, 300), np.uint8)
    crcs = np.empty((7, CRC_BYTES), np.uint8)
    with tempfile.TemporaryFile() as file:
        found.write_rows(file.fileno(), rows, crcs)
        file.seek(0)
        written = np.frombuffer(file.read(), np.uint8).reshape(7, -1)
    wanted = [crc32c(row) for row in rows]
    if (written[:, :300] != rows).any() or (written[:, 300:] != crcs).any():
        raise _refuse("rows are not written as they are")
    if crcs.view("<u4")[:, 0].tolist() != wanted:
        raise _refuse("checksums of written rows")


def _test_gathering(found: ShardKernels) -> None:
    """Two shards of three inner chunks of two rows of 10,000 bytes."""
    chunks = np.random.default_rng(2).integers(0, 256, (2, 3, 20_000), np.uint8)
    crcs = [crc32c(chunk).to_bytes(CRC_BYTES, "little") for chunk in chunks.reshape(6, -1)]
    stored = np.frombuffer(b"".join(crcs), np.uint8).reshape(2, 3, CRC_BYTES)
    shards = np.ascontiguousarray(np.concatenate([chunks, stored], axis=2))
    maps = np.array([address(shard) for shard in shards], np.int64)
    seen = np.zeros((2, 3), np.uint8)
    places = np.array([address(held) for held in seen], np.int64)
    rows = np.array([11, 0, 1, 4, 5, 6, 3, 3], np.int64)
    wanted = chunks.reshape(12, -1)[rows]

    def gather(order: NDArray[np.int64], verify: str, all_rows: int = 12) -> tuple[int, Any]:
        out = np.empty_like(wanted)
        told = found.gather(
            address(maps), address(places), order, out, 10_000, 2, 6, all_rows, VERIFY.index(verify)
        )
        return told, out

    for verify, left in (("never", TOUCHED), ("first", 3), ("first", 3), ("always", 3)):
        told, out = gather(rows, verify)
        if told != -1 or (out != wanted).any():
            raise _refuse("rows are not gathered as they are")
        if seen.tolist() != [[left, left, left], [left, 0, left]]:
            raise _refuse("which checksums were looked at")
    shards[1, 2, 5] ^= 1
    back = rows[::-1].copy()
    if gather(back, "always")[0] != 7 or gather(back, "first")[0] != -1:
        raise _refuse("a wrong checksum is not seen")
    if gather(rows, "never", 11)[0] != -2:
        raise _refuse("a row outside the array is not seen")
    maps[1] = 0
    if gather(back, "never")[0] != -4:
        raise _refuse("a shard that is not open is not seen")


_loaded = loading.Loaded(_load, "plain Python reads and writes shards", logging.INFO)
