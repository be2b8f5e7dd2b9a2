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
            holder = os.pread(descriptor, 1000, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise StoreLockedError(
                f"{work}: another build of this store is running ({holder or 'holder unknown'}). Wait for it "
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
