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
from featurestore.store.commit import WrittenFile
from featurestore.store.files import StoreFiles
from featurestore.store.kernels import CRC_BYTES, ShardKernels, address, crc32c, kernels
from featurestore.store.layout import Layout
from featurestore.store.opened import RECHECK, Table, is_same, open_shard, tables
from featurestore.store.shard import damaged

Verify = Literal["first", "always", "never"]
"""When the checksum of an inner chunk is computed: the first time it is read from an open store, each
time, or never."""

VERIFY: Final = ("first", "always", "never")

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
    elsewhere : callable
        Reads rows (into a buffer) of shards that another tool wrote in an order of its own.
    """

    files: StoreFiles
    path: str
    key: Callable[[int], str]
    layout: Layout
    expected: Mapping[str, WrittenFile]
    verify: Verify
    elsewhere: Elsewhere

    @cached_property
    def table(self) -> Table:
        """Shards that are open."""
        return tables.of(self.files, self.path, self.layout)

    def _open(self, rows: NDArray[np.int64]) -> list[int]:
        """Open the shards of rows that are not open yet; gives those that cannot be mapped.

        Raises
        ------
        DamagedStoreError
            If one is missing or is not as large as the array's shape asks for.
        """
        table, elsewhere = self.table, []
        for number in np.unique(rows // self.layout.shard_rows).tolist():
            if number in table.held:
                continue
            key = self.key(number)
            shard = open_shard(self.files, key, self.layout, number, self.expected.get(key))
            if shard is None:
                elsewhere.append(number)
            else:
                tables.add(table, number, shard, self.layout.chunks(number))
        return elsewhere

    def _recheck(self) -> None:
        """Now and then: let go of shards whose file was changed, which nothing of ours does."""
        table, now = self.table, time.monotonic()
        if now - table.checked < RECHECK:
            return
        with tables.lock:
            for number, shard in list(table.held.items()):
                if not is_same(self.files, self.key(number), shard):
                    table.drop(number)
            # Seldom enough to be no burden, however many there are.
            after = time.monotonic()
            table.checked = after + 50 * (after - now)

    def check_sizes(self) -> None:
        """Look at the size of every file, before memory is taken on the word of the metadata.

        Raises
        ------
        DamagedStoreError
            If one is missing, or has not the size that the manifest, or the layout, asks for.
        """
        for shard in range(self.layout.shards):
            key = self.key(shard)
            try:
                size = self.files.size(key)
            except FileNotFoundError as error:
                raise damaged(f"{self.files.label}/{key}", "it is missing") from error
            known = self.expected.get(key)
            belong = known.size if known else self.layout.file_bytes(shard)
            # Another tool may leave out chunks of nothing but the fill value, and the padding.
            if size != belong and (known or size < self.layout.index_bytes()):
                raise damaged(
                    f"{self.files.label}/{key}", f"it has {size:,} bytes where {belong:,} belong"
                )

    def take(self, rows: NDArray[np.int64], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """As :meth:`take_into`; memory is taken once a file is seen to be as large as it must."""
        if not self.table.held and len(rows):
            self._check_range(rows)
            self._open(rows[:1])
        out = make()
        self.take_into(rows, out)
        return out

    def take_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy rows into ``out`` (len(rows), …), which is C-contiguous and of the array's dtype.

        Raises
        ------
        IndexError
            If a row lies outside the array.
        DamagedStoreError
            If what is read is missing, has another size or fails its checksum.
        """
        self._recheck()
        found = kernels(out.nbytes)
        at = 0
        while at < len(rows):
            # What is done already is not done again when a shard has to be opened first.
            part, into = (rows[at:], out[at:]) if at else (rows, out)
            with self.table:
                if found is None:
                    self._check_range(part)
                    missing = 0
                else:
                    missing = self._by_kernel(found, part, into)
                    if missing < 0:
                        return
                at += missing
                few = slice(at, at + _MOST_ROWS)
                elsewhere = self._open(rows[few])
                if elsewhere or found is None:
                    self._one_by_one(rows[few], elsewhere, out[few], found)
                    at += _MOST_ROWS

    def _check_range(self, rows: NDArray[np.int64]) -> None:
        if rows.min() < 0 or rows.max() >= self.layout.rows:
            raise IndexError(f"{self.path}: rows {rows.min()} … {rows.max()} of {self.layout.rows}")

    def _by_kernel(self, found: ShardKernels, rows: NDArray[np.int64], out: NDArray[Any]) -> int:
        """−1, or the index of the first row whose shard is not open."""
        layout, table = self.layout, self.table
        sound = None if self.verify == "never" else table.sound_address
        if self.verify == "always":
            chunks = layout.shard_rows // layout.inner_rows
            unsound = np.zeros(layout.shards * chunks, np.uint8)
            addresses = address(unsound) + np.arange(0, layout.shards * chunks, chunks)
            sound = address(addresses)
        failed = found.gather(
            table.maps_address, sound, rows, out, layout.row_bytes, layout.inner_rows,
            layout.shard_rows, layout.rows,
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
        elsewhere: list[int],
        out: NDArray[Any],
        found: ShardKernels | None,
    ) -> None:
        """Shard after shard, where there is no kernel or some cannot be mapped."""
        shard_of = rows // self.layout.shard_rows
        for number in np.unique(shard_of).tolist():
            where = np.flatnonzero(shard_of == number)
            part = out
            if len(where) < len(rows):
                part = np.empty((len(where), *out.shape[1:]), out.dtype)
            if number in elsewhere:
                self.elsewhere(rows[where], part)
            elif found is None or self._by_kernel(found, rows[where], part) >= 0:
                self._in_python(number, rows[where], part)
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

    def _in_python(self, number: int, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Rows of one shard."""
        size, row_bytes = self.layout.chunk_bytes, self.layout.row_bytes
        target = out.reshape(-1).view(np.uint8)
        shard, sound = self.table.held[number], self.table.verified[number][1]
        if self.verify == "always":
            sound = np.zeros_like(sound)
        held = shard.bytes()
        for first, last in self._runs(rows):
            row = int(rows[first])
            chunk, start, inside = self._place(row)
            if self.verify != "never" and not sound[chunk]:
                shard.will_need(start, size)
                stored = held[start + size : start + size + CRC_BYTES]
                if crc32c(held[start : start + size]) != int.from_bytes(stored.tobytes(), "little"):
                    raise self._fails(row)
                sound[chunk] = 1
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
