"""Collects the arrays of one shard while it is computed, and writes them in one go."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from numpy.typing import NDArray

from featurestore.build.planning.group_plan import Task
from featurestore.build.work_area import WorkArea
from featurestore.errors import StorageError
from featurestore.schema import PACKED_ROWS
from featurestore.store.commit import WrittenFile, commit_file
from featurestore.store.shard import write_block, write_packed, write_rows
from featurestore.store.templates import chunk_path

Written = dict[str, WrittenFile]

NO_PLACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
NOT_WRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_LOCKS: Final = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})


def storage_error(error: OSError, path: Path, need: int = 0) -> StorageError | None:
    """What to tell of an error that every further write would meet as well; None for others."""
    if error.errno in NO_PLACE:
        try:
            usage = shutil.disk_usage(_there(path))
            free = f"{usage.free:,} bytes are free"
        except OSError:
            free = "how much is free cannot be told"
        wanted = f", {need:,} are needed for this shard alone" if need else ""
        return StorageError(
            f"{path}: {os.strerror(error.errno)}; {free}{wanted}. What is done stays: make room, then run "
            "the same command again."
        )
    if error.errno in NOT_WRITABLE:
        return StorageError(
            f"{path}: {os.strerror(error.errno)}, so nothing can be built there. What is done stays: make "
            "the folder writable, then run the same command again."
        )
    return None


def _there(path: Path) -> Path:
    return next((p for p in (path, *path.parents) if p.exists()), path)


class ShardWriter:
    """The arrays of one shard, each to be one file.

    Parameters
    ----------
    work : WorkArea
    task : Task
    shard_rows : int
        Rows of a full shard.
    """

    def __init__(self, work: WorkArea, task: Task, shard_rows: int) -> None:
        self._root, self._shard, self._size = work.store, task.shard, shard_rows
        self._base = f"{task.species}/{task.group}"
        self._pending: list[tuple[Path, int, Callable[[Path], WrittenFile]]] = []

    @property
    def nbytes(self) -> int:
        """About how much is to be written."""
        return sum(size for _, size, _ in self._pending)

    def _add(self, name: str, values: NDArray[Any], write: Callable[[Path], WrittenFile]) -> None:
        place = (self._shard, *(0,) * (values.ndim - 1))
        path = chunk_path(self._root, f"{self._base}/{name}", place)
        self._pending.append((path, values.nbytes, write))

    def rows(self, name: str, values: NDArray[Any]) -> None:
        """An array of ``rows`` layout."""
        self._add(name, values, lambda path: write_rows(path, values, self._size))

    def block(self, name: str, values: NDArray[Any], fill: Any = 0) -> None:
        """An array of ``block`` layout."""
        self._add(name, values, lambda path: write_block(path, values, self._size, fill))

    def packed(self, name: str, values: NDArray[Any], fill: Any) -> None:
        """An array of ``packed`` layout."""
        self._add(
            name, values, lambda path: write_packed(path, values, self._size, PACKED_ROWS, fill)
        )

    def chunk(self, name: str, number: int, parts: list[bytes]) -> None:
        """A chunk of an array of one dimension, as bytes."""
        path = chunk_path(self._root, f"{self._base}/{name}", (number,))
        size = sum(map(len, parts))
        self._pending.append((path, size, lambda path: commit_file(path, parts)))

    def write(self) -> Written:
        """Commit every file.

        Raises
        ------
        StorageError
            If the file system has no room or refuses writing.
        """
        written: Written = {}
        need = self.nbytes
        for path, _, write in self._pending:
            try:
                file = write(path)
            except OSError as error:
                if (told := storage_error(error, path, need)) is not None:
                    raise told from error
                raise
            written[path.relative_to(self._root).as_posix()] = file
        return written


@contextmanager
def commit_turn(work: WorkArea, task: Task) -> Iterator[None]:
    """Hold the right to write a shard.

    Two attempts at one shard may run at once (a scheduler that lost sight of a worker, an array
    task that was submitted twice). They write one after the other, and the second finds the
    marker of the first: what a marker stands for is never written over.
    """
    path = work.root / "turns" / task.path.replace("/", ".")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            # A file system without locks: damage by two attempts at once is found before the swap.
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)
