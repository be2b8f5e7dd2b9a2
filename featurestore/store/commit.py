"""Files come into being whole or not at all: written under another name, flushed, renamed."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

_MOST_PARTS: Final = 1024  # of one vectored write: IOV_MAX of Linux


@dataclass(frozen=True)
class WrittenFile:
    """Size and digest of a file that was committed.

    ``digest`` names how it is computed (see :mod:`featurestore.store.digest`): bare hexadecimal
    digits are the sha256 of all bytes.
    """

    size: int
    digest: str


def commit_file(path: Path, parts: Iterable[bytes], *, durable: bool = True) -> WrittenFile:
    """Commit a file that consists of ``parts``; its digest is the sha256 of all bytes."""
    digest, size = sha256(), 0
    with replacing(path, durable=durable) as file:
        pending: list[bytes] = []
        for part in parts:
            digest.update(part)
            size += len(part)
            pending.append(part)
            if len(pending) == _MOST_PARTS:
                write_parts(file, pending)
                pending = []
        write_parts(file, pending)
    return WrittenFile(size, digest.hexdigest())


@contextmanager
def replacing(path: Path, *, durable: bool = True) -> Iterator[int]:
    """A descriptor to write to; at the end of the block the file takes the place of ``path``.

    Parameters
    ----------
    durable : bool
        Flush to the disk before the rename, so that a power cut leaves no file that is empty or
        cut short. Without it a kill is survived all the same, a power cut is not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, file = _claim(path)
    try:
        yield file
        if durable:
            os.fsync(file)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    finally:
        os.close(file)


def _claim(path: Path) -> tuple[Path, int]:
    """A temporary file that nobody else is writing.

    Its name is always the same, so what a kill leaves is overwritten by the next attempt rather
    than heaped up; a lock, which a kill releases, keeps attempts at the same time apart.
    """
    partial = path.with_name(f".{path.name}.partial")
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(8):
        file = os.open(partial, flags, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody writes it now
            os.close(file)
            break
        except OSError:  # a file system without locks
            os.close(file)
            partial.unlink(missing_ok=True)
            break
        if _is_at(file, partial):
            os.ftruncate(file, 0)
            return partial, file
        os.close(file)  # committed by whoever had it while we waited for the lock
    partial = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    return partial, os.open(partial, flags | os.O_EXCL, 0o666)


def _is_at(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.lstat())
    except FileNotFoundError:
        return False


def write_parts(file: int, parts: Sequence[Any]) -> None:
    """One vectored write of buffers; a short one (signal, quota) goes on from where it stopped."""
    views = [memoryview(part).cast("B") for part in parts if len(part)]
    while views:
        written = os.writev(file, views)
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]
