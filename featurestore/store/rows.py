"""Takes rows out of regular shards, through maps, by a compiled kernel or in Python."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError
from featurestore.store import opened
from featurestore.store.commit import WrittenFile
from featurestore.store.files import StoreFiles
from featurestore.store.kernels import (
    CRC_BYTES,
    TOUCHED,
    VERIFIED,
    VERIFY,
    ShardKernels,
    crc32c,
    kernels,
)  # fmt: skip
from featurestore.store.layout import Layout
from featurestore.store.opened import OpenShard, Table
from featurestore.store.shard import damaged

__all__ = ["VERIFY", "RegularRows", "Verify"]

Verify = Literal["first", "always", "never"]
"""When the checksum of an inner chunk is computed: the first time it is read from an open store, each
time, or never."""

_MANY_SHARDS: Final = 65_536
"""From so many on it is looked whether the last one is there."""
_MOST_ROWS: Final = 4096
"""Rows whose shards are opened before any of them is read."""

Elsewhere = Callable[[NDArray[np.int64], NDArray[Any]], None]


@dataclass(frozen=True)
class RegularRows:
    """The rows of one array of ``rows`` layout.

    Parameters
    ----------
    files : StoreFiles
    path : str
        Path of the array.
    key : callable
        Key of the file of a shard.
    layout : Layout
    expected : mapping
        What the manifest says of each file.
    verify : {"first", "always", "never"}
    """

    files: StoreFiles
    path: str
    key: Callable[[int], str]
    layout: Layout
    expected: Mapping[str, WrittenFile]
    verify: Verify

    @cached_property
    def table(self) -> Table:
        """Shards that are open.

        Raises
        ------
        DamagedStoreError
            If the shape asks for more shards than there can be.
        """
        if self.layout.shards > _MANY_SHARDS:  # memory is taken by their number
            self._size(self.layout.shards - 1)
        return opened.tables.of(self.files, self.path, self.layout)

    def _open(self, rows: NDArray[np.int64]) -> tuple[dict[int, OpenShard | None], int]:
        """Open the shards of the first rows, at most as many as may be open.

        Returns
        -------
        shards : dict
            By number; None for one that cannot be mapped.
        covered : int
            How many rows, from the first on, are in these.

        Raises
        ------
        DamagedStoreError
            If one is missing or is not as large as the array's shape asks for.
        """
        table, most = self.table, max(1, opened.MOST // 4)
        shard_of = rows[:_MOST_ROWS] // self.layout.shard_rows
        numbers, first = np.unique(shard_of, return_index=True)
        order = np.argsort(first)
        covered = len(shard_of) if len(order) <= most else int(first[order[most]])
        shards: dict[int, OpenShard | None] = {}
        for number in numbers[order[:most]].tolist():
            key = self.key(number)
            shard = table.held.get(number)
            if shard is None:
                shard = opened.open_shard(
                    self.files, key, self.layout, number, self.expected.get(key)
                )
                if shard is not None:
                    opened.tables.add(table, number, shard)
            shards[number] = shard
        return shards, covered

    def _recheck(self) -> None:
        """Now and then: let go of shards whose file was changed, which nothing of ours does."""
        table, now = self.table, time.monotonic()
        if now - table.checked < opened.RECHECK:
            return
        with opened.tables.lock:
            for number, shard in list(table.held.items()):
                if not opened.is_same(self.files, self.key(number), shard):
                    table.drop(number)
            # Seldom enough to be no burden, however many there are.
            after = time.monotonic()
            table.checked = after + 50 * (after - now)

    def _size(self, shard: int) -> int:
        key = self.key(shard)
        try:
            return self.files.size(key)
        except FileNotFoundError as error:
            raise damaged(f"{self.files.label}/{key}", "it is missing") from error

    def check_sizes(self) -> None:
        """Look at the size of every file, before memory is taken on the word of the metadata.

        Raises
        ------
        DamagedStoreError
            If one is missing, or has not the size that the manifest, or the layout, asks for.
        """
        for shard in range(self.layout.shards):
            key, size = self.key(shard), self._size(shard)
            known = self.expected.get(key)
            belong = known.size if known else self.layout.file_bytes(shard)
            # Another tool may leave out chunks of nothing but the fill value, and the padding.
            if size != belong and (known or size < self.layout.index_bytes()):
                raise damaged(
                    f"{self.files.label}/{key}", f"it has {size:,} bytes where {belong:,} belong"
                )

    def take(
        self,
        rows: NDArray[np.int64],
        make: Callable[[], NDArray[Any]],
        elsewhere: Elsewhere,
    ) -> NDArray[Any]:
        """As :meth:`take_into`; memory is taken once a file is seen to be as large as it must."""
        if not self.table.held and len(rows):
            self._check_range(rows)
            self._open(rows[:1])
        out = make()
        self.take_into(rows, out, elsewhere)
        return out

    def take_into(self, rows: NDArray[np.int64], out: NDArray[Any], elsewhere: Elsewhere) -> None:
        """Copy rows into ``out`` (len(rows), …), which is C-contiguous and of the array's dtype.

        Parameters
        ----------
        elsewhere : callable
            Reads rows (into a buffer) of shards that cannot be mapped.

        Raises
        ------
        IndexError
            If a row lies outside the array.
        DamagedStoreError
            If what is read is missing, has another size or fails its checksum.
        """
        self._recheck()
        found, at = kernels(out.nbytes), 0
        while at < len(rows):
            # What is done already is not done again when a shard has to be opened first.
            part, into = (rows[at:], out[at:]) if at else (rows, out)
            if found is not None:
                done = self._by_kernel(found, part, into)
                if done < 0:
                    return
                at += done
                part, into = part[done:], into[done:]
            else:
                self._check_range(part)
            shards, covered = self._open(part)
            if found is None or None in shards.values():
                self._one_by_one(part[:covered], shards, into[:covered], elsewhere)
                at += covered

    def _check_range(self, rows: NDArray[np.int64]) -> None:
        if rows.min() < 0 or rows.max() >= self.layout.rows:
            raise IndexError(f"{self.path}: rows {rows.min()} … {rows.max()} of {self.layout.rows}")

    def _by_kernel(self, found: ShardKernels, rows: NDArray[np.int64], out: NDArray[Any]) -> int:
        """−1, or the index of the first row whose shard is not open."""
        layout, table = self.layout, self.table
        with table:
            failed = found.gather(
                table.maps_address, table.seen_address, rows, out, layout.row_bytes,
                layout.inner_rows, layout.shard_rows, layout.rows, VERIFY.index(self.verify),
            )  # fmt: skip
        if failed >= 0:
            raise self._fails(int(rows[failed]))
        if failed < -1:
            self._check_range(rows[-2 - failed :])
            return -2 - failed
        return -1

    def _fails(self, row: int) -> DamagedStoreError:
        path = f"{self.files.label}/{self.key(row // self.layout.shard_rows)}"
        return damaged(path, f"row {row % self.layout.shard_rows} fails its checksum")

    def _one_by_one(
        self,
        rows: NDArray[np.int64],
        shards: dict[int, OpenShard | None],
        out: NDArray[Any],
        elsewhere: Elsewhere,
    ) -> None:
        """Shard after shard, where there is no kernel or some cannot be mapped."""
        shard_of = rows // self.layout.shard_rows
        for number, shard in shards.items():
            where = np.flatnonzero(shard_of == number)
            part = out
            if len(where) < len(rows):
                part = np.empty((len(where), *out.shape[1:]), out.dtype)
            if shard is None:
                elsewhere(rows[where], part)
            else:
                self._in_python(shard, self.table.seen_of(number, shard), rows[where], part)
            if len(where) < len(rows):
                out[where] = part

    def _runs(self, rows: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
        """First and last + 1 of stretches of rows that lie behind each other in one inner chunk."""
        inner = self.layout.inner_rows
        ends = (rows[1:] != rows[:-1] + 1) | (rows[1:] // inner != rows[:-1] // inner)
        ends |= rows[1:] % self.layout.shard_rows == 0
        cuts = [0, *(np.flatnonzero(ends) + 1).tolist(), len(rows)]
        yield from pairwise(cuts)

    def _place(self, row: int) -> tuple[int, int, int]:
        """Inner chunk in its shard, where that begins, and where the row begins in it."""
        local = row % self.layout.shard_rows
        chunk = local // self.layout.inner_rows
        return (
            chunk,
            chunk * self.layout.stride,
            local % self.layout.inner_rows * self.layout.row_bytes,
        )

    def _in_python(
        self,
        shard: OpenShard,
        seen: NDArray[np.uint8],
        rows: NDArray[np.int64],
        out: NDArray[Any],
    ) -> None:
        """Rows of one shard; ``seen`` says which inner chunks were verified."""
        size, row_bytes = self.layout.chunk_bytes, self.layout.row_bytes
        target = out.reshape(-1).view(np.uint8)
        if self.verify == "always":
            seen = np.zeros_like(seen)
        held = shard.bytes()
        for first, last in self._runs(rows):
            row = int(rows[first])
            chunk, start, inside = self._place(row)
            if self.verify != "never" and not seen[chunk] & VERIFIED:
                shard.will_need(start, size)
                stored = held[start + size : start + size + CRC_BYTES]
                if crc32c(held[start : start + size]) != int.from_bytes(stored.tobytes(), "little"):
                    raise self._fails(row)
                seen[chunk] = TOUCHED | VERIFIED
            length = (last - first) * row_bytes
            target[first * row_bytes : last * row_bytes] = held[start + inside :][:length]

    def is_regular(self, row: int) -> bool:
        """Whether the shard of a row is laid out the way our writer does."""
        shard = row // self.layout.shard_rows
        key, tail = self.key(shard), self.layout.tail(shard)
        size = self.files.size(key)
        if size != self.layout.file_bytes(shard):
            return False
        return self.files.read_range(key, size - len(tail), len(tail)) == tail
