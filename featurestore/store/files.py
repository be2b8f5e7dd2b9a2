"""Where the bytes of a store come from: one small interface, local or remote.

A local store is read through a descriptor of its folder, never through its path again: a build
that puts a new tree in its place, or a rename, leaves an open reader with the tree it opened.
The reader also holds a shared lock on that folder, by which ``fs gc`` knows that it is in use.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import weakref
from pathlib import Path
from typing import Final, Protocol

from featurestore.errors import DamagedStoreError, StoreError, StoreNotFoundError

_TAIL: Final = 65
"""Bytes at the end of a manifest: its digest in hexadecimal and a line feed."""
_ATTEMPTS: Final = 5


class StoreFiles(Protocol):
    """Read access to the files of one store, by key: a path within it, ``/`` separated.

    A key that is not there raises ``FileNotFoundError``.
    """

    @property
    def label(self) -> str:
        """Path or address of the store, for messages."""

    @property
    def is_remote(self) -> bool:
        """Whether reading waits for a network, so that reads are worth doing side by side."""

    def size(self, key: str) -> int:
        """Bytes of a file."""

    def read(self, key: str) -> bytes:
        """A whole file."""

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; fewer where the file ends before."""

    def open(self, key: str) -> int | None:
        """A descriptor to map or ``pread``, the caller's to close; None where there is none."""


def checked_key(key: str) -> str:
    """The key, if it stays within the store.

    Raises
    ------
    DamagedStoreError
        For an absolute path, ``..`` or a NUL: our writer never makes these.
    """
    if not key or key.startswith("/") or "\0" in key or ".." in key.split("/"):
        raise DamagedStoreError(f"{key!r} is no path within a store; whoever wrote it is not to be trusted")  # fmt: skip
    return key


class LocalFiles:
    """A store in a folder.

    Parameters
    ----------
    root : Path

    Raises
    ------
    StoreNotFoundError
        If there is no folder at the path.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()
        self._descriptor = self._hold()
        weakref.finalize(self, os.close, self._descriptor)

    def _hold(self) -> int:
        """Open the folder and hold its shared lock; again where it was replaced in between."""
        for attempt in range(_ATTEMPTS):
            try:
                descriptor = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise StoreNotFoundError(
                    f"{self.root}: no store here. Build one with: fs build DATASET --store {self.root}"
                ) from error
            # File systems without locks are read all the same; ``fs gc`` then cannot see this reader.
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            if attempt == _ATTEMPTS - 1 or self._is_here(descriptor):
                return descriptor
            os.close(descriptor)
        raise AssertionError  # the last attempt returns

    def _is_here(self, descriptor: int) -> bool:
        """Whether the folder still stands at its path; else it may be gone before we hold it."""
        try:
            return os.path.samestat(os.stat(self.root), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    @property
    def label(self) -> str:
        """Path of the store."""
        return str(self.root)

    @property
    def is_remote(self) -> bool:
        """False."""
        return False

    def size(self, key: str) -> int:
        """Bytes of a file."""
        found = os.stat(checked_key(key), dir_fd=self._descriptor)
        self._refuse_strange(key, found.st_mode)
        return found.st_size

    def read(self, key: str) -> bytes:
        """A whole file."""
        with os.fdopen(self.open(key), "rb", buffering=0) as file:
            return file.readall()

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; fewer where the file ends before."""
        descriptor = self.open(key)
        try:
            return os.pread(descriptor, length, start)
        finally:
            os.close(descriptor)

    def open(self, key: str) -> int:
        """A read-only descriptor; the caller closes it."""
        # Not blocking: a FIFO in the place of a file would else hold the reader up for ever.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(checked_key(key), flags, dir_fd=self._descriptor)
        try:
            self._refuse_strange(key, os.fstat(descriptor).st_mode)
        except StoreError:
            os.close(descriptor)
            raise
        return descriptor

    def _refuse_strange(self, key: str, mode: int) -> None:
        if not stat.S_ISREG(mode):
            raise DamagedStoreError(f"{self.root / key}: not a file; run 'fs verify {self.root}'")

    def __getstate__(self) -> tuple[str, bytes]:
        return str(self.root), self._stamp()

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        root, stamp = state
        self.__init__(Path(root))  # type: ignore[misc] # descriptors do not travel between processes
        if self._stamp() != stamp:
            raise StoreError(
                f"{root}: a build has replaced this store since it was opened, and another process cannot "
                "go on with the one before; open it again"
            )

    def _stamp(self) -> bytes:
        """The digest at the end of the manifest; empty where there is none."""
        try:
            size = self.size("manifest.json")
        except FileNotFoundError:
            return b""
        return self.read_range("manifest.json", max(size - _TAIL, 0), _TAIL)
