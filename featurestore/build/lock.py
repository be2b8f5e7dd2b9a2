"""One build of a store at a time; a lock that a dead process left is not in the way.

``flock`` is released by the kernel when its holder dies, so there is nothing to judge stale;
what the file says only serves the message.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from featurestore.errors import StoreLockedError


@contextmanager
def task_lock(work: Path) -> Iterator[None]:
    """Hold the lock of a work area as one of several tasks: nobody plans or finishes meanwhile.

    Raises
    ------
    StoreLockedError
        If a build holds it.
    """
    descriptor = os.open(work / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            raise StoreLockedError(
                f"{work}: 'fs build' or 'fs finalise' of this store is running ({_holder(descriptor)}); "
                "its tasks cannot be run by hand meanwhile."
            ) from error
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    told = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
    return told or "holder unknown"


@contextmanager
def build_lock(work: Path) -> Iterator[None]:
    """Hold the lock of a work area.

    Raises
    ------
    StoreLockedError
        If another process holds it; the message names host and process.
    """
    work.mkdir(parents=True, exist_ok=True)
    path = work / "lock"
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise StoreLockedError(
                f"{work}: another build of this store is running, or array tasks of one ({holder}). Wait for it "
                "or stop it; its finished shards stay."
            ) from error
        # The holder before us may have finished and removed the work area between open and lock:
        # then we hold a file that nobody else will ever see.
        try:
            same = os.stat(path).st_ino == os.fstat(descriptor).st_ino
        except FileNotFoundError:
            same = False
        if same:
            break
        os.close(descriptor)
        work.mkdir(parents=True, exist_ok=True)
    os.ftruncate(descriptor, 0)
    os.pwrite(
        descriptor, json.dumps({"host": socket.gethostname(), "pid": os.getpid()}).encode(), 0
    )
    try:
        yield
    finally:
        os.close(descriptor)
