"""Shards that are open for reading: mapped into memory, bounded in number, safe for threads and forks."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
import weakref
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError
from featurestore.store.commit import WrittenFile
from featurestore.store.files import StoreFiles
from featurestore.store.kernels import CRC_BYTES, address, crc32c, kernels
from featurestore.store.layout import Layout
from featurestore.store.shard import damaged

MOST: Final = 4096
"""Shards that are mapped at a time, over all stores: the system allows 65,530 maps to a process."""
RECHECK: Final = 1.0
"""Seconds after which a shard that is read again is compared with the file: it should never change."""
_MISSING: Final = 2**64 - 1

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_FAILED: Final = ctypes.c_void_p(-1).value

Identity = tuple[int, int, int, int]


class OpenShard:
    """One regular shard, mapped. It stays mapped as long as this object lives.

    Not through :mod:`mmap`: that keeps a descriptor for each map, of which a process may have few.

    Parameters
    ----------
    address : int
    size : int
    identity : tuple of int
        Device, inode, size and time of change.
    """

    def __init__(self, address: int, size: int, identity: Identity) -> None:
        self.address, self.size, self.identity = address, size, identity
        weakref.finalize(self, _libc.munmap, address, size)

    def bytes(self) -> NDArray[np.uint8]:
        """The file, good while this object lives."""
        held = (ctypes.c_uint8 * self.size).from_address(self.address)
        return np.ctypeslib.as_array(held)

    def will_need(self, start: int, length: int) -> None:
        """Tell the system that bytes are read soon."""
        first = (self.address + start) // mmap.PAGESIZE * mmap.PAGESIZE
        _libc.madvise(first, self.address + start + length - first, mmap.MADV_WILLNEED)


def open_shard(
    files: StoreFiles, key: str, layout: Layout, shard: int, expected: WrittenFile | None
) -> OpenShard | None:
    """Map a shard whose size and index are right; None where it lies elsewhere or otherwise.

    Parameters
    ----------
    expected : WrittenFile or None
        What the manifest says of the file.

    Raises
    ------
    DamagedStoreError
        If it is missing, has another size than it must, or its index does not say what it must.
    """
    path = f"{files.label}/{key}"
    try:
        descriptor = files.open(key)
    except FileNotFoundError as error:
        raise damaged(path, "it is missing") from error
    if descriptor is None:
        return None
    try:
        found = os.fstat(descriptor)
        if expected is not None and found.st_size != expected.size:
            raise damaged(path, f"it has {found.st_size:,} bytes where {expected.size:,} belong")
        regular = found.st_size == layout.file_bytes(shard)
        if regular:
            tail = layout.tail(shard)
            regular = os.pread(descriptor, len(tail), found.st_size - len(tail)) == tail
        if not regular:
            foreign = expected is None or not expected.digest.startswith("rows:")
            _check_index(path, descriptor, found.st_size, layout, shard, foreign=foreign)
            return None
        return _mapped(descriptor, found)
    finally:
        os.close(descriptor)


def _mapped(descriptor: int, found: os.stat_result) -> OpenShard | None:
    address = _libc.mmap(None, found.st_size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        return None  # a file system without maps, or too many of them: read in the ordinary way
    if (
        kernels() is not None
    ):  # they ask for what they need; reading around it costs up to megabytes
        _libc.madvise(address, found.st_size, mmap.MADV_RANDOM)
    return OpenShard(int(address), found.st_size, _identity(found))


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _check_index(
    path: str, descriptor: int, size: int, layout: Layout, shard: int, *, foreign: bool
) -> None:
    """Refuse a shard whose index is not regular, unless another tool may have written it so."""
    if not foreign:
        if size != layout.file_bytes(shard):
            raise damaged(path, f"it has {size:,} bytes where {layout.file_bytes(shard):,} belong")
        raise damaged(path, "its index is not the one it was written with")
    held = layout.index_bytes()
    if size < held:
        raise damaged(path, f"it has {size:,} bytes, fewer than its index of {held:,}")
    raw = os.pread(descriptor, held, size - held)
    data = np.frombuffer(raw, np.uint8, len(raw) - CRC_BYTES)
    if crc32c(data) != int.from_bytes(raw[-CRC_BYTES:], "little"):
        raise damaged(path, "its index fails its checksum")
    index = data.view("<u8").reshape(-1, 2)
    index = index[~(index == _MISSING).all(axis=1)]
    starts, lengths = np.sort(index[:, 0]), index[:, 1]
    inside = (lengths == layout.stride) & (index[:, 0] <= size) & (index[:, 0] + lengths <= size)
    if not inside.all() or (np.diff(starts) < layout.stride).any():
        raise damaged(path, "its index points outside the file, or at one place twice")


class Table:
    """The shards of one array of one store that are open: kept from read to read.

    ``maps`` and ``seen`` hold addresses by shard, as the kernel takes them: of its bytes (0: not
    open), and of a byte for each inner chunk that says whether it was touched and verified.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.maps: NDArray[np.int64] = np.zeros(layout.shards, np.int64)
        self.seen: NDArray[np.int64] = np.zeros(layout.shards, np.int64)
        self.maps_address, self.seen_address = address(self.maps), address(self.seen)
        self.held: dict[int, OpenShard] = {}
        self.verified: dict[int, tuple[Identity, NDArray[np.uint8]]] = {}
        self.checked = time.monotonic()
        self._reading: list[None] = []  # appending and popping is atomic
        self._dropped: list[OpenShard] = []

    def __enter__(self) -> None:
        """While any thread is in here, nothing that it may be reading is unmapped."""
        self._reading.append(None)

    def __exit__(self, *_: object) -> None:
        self._reading.pop()

    def seen_of(self, number: int, shard: OpenShard) -> NDArray[np.uint8]:
        """What was touched and verified of a shard, a byte for each inner chunk; kept while its file stays."""
        identity, seen = self.verified.get(number, (None, None))
        if identity != shard.identity or seen is None:
            seen = np.zeros(self._layout.chunks(number), np.uint8)
            self.verified[number] = shard.identity, seen
        return seen

    def add(self, number: int, shard: OpenShard) -> None:
        """Take up a shard."""
        self.drop(number)
        self.held[number] = shard
        self.seen[number] = address(self.seen_of(number, shard))
        self.maps[number] = shard.address

    def drop(self, number: int) -> None:
        """Let go of a shard, as soon as nobody reads."""
        self.maps[number] = 0
        if (shard := self.held.pop(number, None)) is not None:
            self._dropped.append(shard)
        if not self._reading:
            self._dropped.clear()


class _Tables:
    """The tables of all stores that are open in this process."""

    def __init__(self) -> None:
        self._tables: dict[tuple[int, str, Layout], Table] = {}
        self._owners: dict[int, Any] = {}
        self._order: dict[tuple[int, int], Table] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        """After a fork: a thread that the child lacks may have held the lock."""
        self.lock = threading.RLock()

    def of(self, files: StoreFiles, path: str, layout: Layout) -> Table:
        """The table of an array."""
        with self.lock:
            if id(files) not in self._owners:
                self._owners[id(files)] = weakref.finalize(files, self._forget, id(files))
            return self._tables.setdefault((id(files), path, layout), Table(layout))

    def add(self, table: Table, number: int, shard: OpenShard) -> None:
        """Take a shard up in its table; where there are too many, those opened first go."""
        with self.lock:
            table.add(number, shard)
            self._order[id(table), number] = table
            if len(self._order) > MOST:
                for name in list(self._order)[: max(1, MOST // 8)]:
                    self._drop(name)

    def _drop(self, name: tuple[int, int]) -> None:
        if (table := self._order.pop(name, None)) is not None:
            table.drop(name[1])

    def _forget(self, owner: int) -> None:
        with self.lock:
            self._owners.pop(owner, None)
            for key in [k for k in self._tables if k[0] == owner]:
                table = self._tables.pop(key)
                for number in table.held:
                    self._order.pop((id(table), number), None)

    def clear(self) -> None:
        """Let go of every shard, so that nothing is mapped any more; for tests and measurements."""
        with self.lock:
            for (_, number), table in self._order.items():
                table.drop(number)
                table.verified.clear()
            self._order.clear()

    def __len__(self) -> int:
        return len(self._order)


tables: Final = _Tables()
os.register_at_fork(after_in_child=tables.renew_lock)


def is_same(files: StoreFiles, key: str, shard: OpenShard) -> bool:
    """Whether the file of a shard is the one that was mapped."""
    try:
        descriptor = files.open(key)
    except FileNotFoundError:
        return True  # removed under us by a build or gc: what is mapped is what was opened
    except DamagedStoreError:
        return False
    if descriptor is None:
        return False
    try:
        return _identity(os.fstat(descriptor)) == shard.identity
    finally:
        os.close(descriptor)
