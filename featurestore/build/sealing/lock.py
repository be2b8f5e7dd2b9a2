"""One build of a store at a time; a lock that a dead process left is not in the way.

``flock`` is released by the kernel when its holder dies, so there is nothing to judge stale;
what the file says only serves the message.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from featurestore.build.sealing.lock_files import lock_by_files
from featurestore.errors import StoreLockedError

NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
"""What ``flock`` says on a file system that has none."""


@contextmanager
def task_lock(work: Path) -> Iterator[None]:
    """Hold the lock of a work area as one of several tasks: nobody plans or finishes meanwhile.

    Raises
    ------
    StoreLockedError
        If a build holds it.
    """
    with _locked(
        work, fcntl.LOCK_SH,
        "'fs build' or 'fs finalise' of this store is running ({}); its tasks cannot be run by hand meanwhile.",
    ):  # fmt: skip
        yield


@contextmanager
def build_lock(work: Path) -> Iterator[None]:
    """Hold the lock of a work area.

    Raises
    ------
    StoreLockedError
        If another process holds it; the message names host and process.
    """
    with _locked(
        work, fcntl.LOCK_EX,
        "another build of this store is running, or array tasks of one ({}). Wait for it or stop it; its "
        "finished shards stay.",
    ) as descriptor:  # fmt: skip
        os.ftruncate(descriptor, 0)
        holder = {"host": socket.gethostname(), "pid": os.getpid()}
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield


@contextmanager
def _locked(work: Path, kind: int, refusal: str) -> Iterator[int]:
    """A descriptor of the lock file, locked; ``refusal`` has a place for the holder."""
    work.mkdir(parents=True, exist_ok=True)
    path = work / "lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in NO_LOCKS:
                    with lock_by_files(work, shared=kind == fcntl.LOCK_SH):
                        yield descriptor
                    return
                told = refusal.format(_holder(descriptor))
                raise StoreLockedError(f"{work}: {told}") from error
            if _is_at(descriptor, path):
                yield descriptor
                return
        finally:
            os.close(descriptor)
        work.mkdir(parents=True, exist_ok=True)


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether the file still stands at its path.

    The holder before us may have finished and removed the work area between open and lock: then we
    hold a file that nobody else will ever see.
    """
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    told = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
    return told or "holder unknown"
