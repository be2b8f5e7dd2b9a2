"""Shards that are open for reading: mapped into memory, bounded in number, safe for threads and forks."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
import time
import weakref
from collections import OrderedDict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError
from featurestore.store.commit import WrittenFile
from featurestore.store.files import StoreFiles
from featurestore.store.kernels import CRC_BYTES, crc32c
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
    chunks : int
        Inner chunks.
    identity : tuple of int
        Device, inode, size and time of change.
    told : bool
        Whether the system tells which of its pages are in memory.
    """

    def __init__(
        self, address: int, size: int, chunks: int, identity: Identity, told: bool
    ) -> None:
        self.address, self.size, self.identity, self.told = address, size, identity, told
        self.sound: NDArray[np.uint8] = np.zeros(chunks, np.uint8)
        self.checked = time.monotonic()
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
        return _mapped(descriptor, found, layout.chunks(shard))
    finally:
        os.close(descriptor)


def _mapped(descriptor: int, found: os.stat_result, chunks: int) -> OpenShard | None:
    address = _libc.mmap(None, found.st_size, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    if address == _FAILED:
        return None  # a file system without maps, or too many of them: read in the ordinary way
    told = found.st_uid == os.geteuid() or os.geteuid() == 0
    return OpenShard(int(address), found.st_size, chunks, _identity(found), told)


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


class _Cache:
    """The shards that were read last."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[int, str], OpenShard] = OrderedDict()
        self._owners: dict[int, Any] = {}
        self.renew_lock()

    def renew_lock(self) -> None:
        """After a fork: a thread that the child lacks may have held the lock."""
        self._lock = threading.Lock()

    def get(self, files: StoreFiles, key: str) -> OpenShard | None:
        """A shard that is open already."""
        with self._lock:
            found = self._held.get((id(files), key))
            if found is not None:
                self._held.move_to_end((id(files), key))
        return found

    def put(self, files: StoreFiles, key: str, shard: OpenShard) -> None:
        """Keep a shard; the one that was not read for longest goes."""
        with self._lock:
            if id(files) not in self._owners:
                self._owners[id(files)] = weakref.finalize(files, self._forget, id(files))
            self._held[id(files), key] = shard
            while len(self._held) > MOST:
                self._held.popitem(last=False)

    def _forget(self, owner: int) -> None:
        # No lock: a collection of garbage may come to here while this thread holds it.
        self._owners.pop(owner, None)
        for key in [k for k in list(self._held) if k[0] == owner]:
            self._held.pop(key, None)

    def __len__(self) -> int:
        return len(self._held)


cache: Final = _Cache()
os.register_at_fork(after_in_child=cache.renew_lock)


def opened(
    files: StoreFiles, key: str, layout: Layout, shard: int, expected: WrittenFile | None
) -> OpenShard | None:
    """As :func:`open_shard`, but one that is open already is taken, unless its file changed."""
    found = cache.get(files, key)
    if found is not None and (
        time.monotonic() - found.checked < RECHECK or _same(files, key, found)
    ):
        return found
    found = open_shard(files, key, layout, shard, expected)
    if found is not None:
        cache.put(files, key, found)
    return found


def _same(files: StoreFiles, key: str, shard: OpenShard) -> bool:
    try:
        descriptor = files.open(key)
    except FileNotFoundError:
        return True  # removed under us by a build or gc: what is mapped is what was opened
    except DamagedStoreError:
        return False
    if descriptor is None:
        return False
    try:
        same = _identity(os.fstat(descriptor)) == shard.identity
    finally:
        os.close(descriptor)
    if same:
        shard.checked = time.monotonic()
    return same
