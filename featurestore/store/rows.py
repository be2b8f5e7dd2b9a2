"""Takes rows out of regular shards, through maps, by a compiled kernel or in Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError
from featurestore.store.commit import WrittenFile
from featurestore.store.files import StoreFiles
from featurestore.store.kernels import CRC_BYTES, ShardKernels, address, crc32c, kernels
from featurestore.store.layout import Layout
from featurestore.store.opened import OpenShard, opened
from featurestore.store.shard import damaged

Verify = Literal["first", "always", "never"]
"""When the checksum of an inner chunk is computed: the first time it is read from an open store, each
time, or never."""

VERIFY: Final = ("first", "always", "never")

_MOST_SHARDS: Final = 1024
"""Shards that one call holds open, however many rows it asks for."""

Elsewhere = Callable[[NDArray[np.int64], NDArray[Any]], None]


@dataclass(frozen=True)
class RegularRows:
    """The rows of one array of ``rows`` layout.

    Parameters
    ----------
    files : StoreFiles
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
    key: Callable[[int], str]
    layout: Layout
    expected: Mapping[str, WrittenFile]
    verify: Verify
    elsewhere: Elsewhere

    def prepare(self, rows: NDArray[np.int64]) -> dict[int, OpenShard | None]:
        """Open the shards of rows; those that are not regular are None.

        Raises
        ------
        DamagedStoreError
            If one is missing or is not as large as the array's shape asks for.
        """
        size = self.layout.shard_rows
        wanted = [int(rows[0]) // size] if len(rows) == 1 else np.unique(rows // size).tolist()
        return {shard: self._opened(shard) for shard in wanted}

    def _opened(self, shard: int) -> OpenShard | None:
        key = self.key(shard)
        return opened(self.files, key, self.layout, shard, self.expected.get(key))

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

    def take_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy rows into ``out`` (len(rows), …), which is C-contiguous and of the array's dtype.

        Raises
        ------
        DamagedStoreError
            If what is read is missing, has another size or fails its checksum.
        """
        for part in self._bounded(rows):
            self._take_into(rows[part], self.prepare(rows[part]), out[part])

    def take(self, rows: NDArray[np.int64], make: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """As :meth:`take_into`; memory is taken once the files are seen to be what they must."""
        parts = list(self._bounded(rows))
        shards = self.prepare(rows[parts[0]]) if parts else {}
        out = make()
        for number, part in enumerate(parts):
            held = self.prepare(rows[part]) if number else shards
            self._take_into(rows[part], held, out[part])
        return out

    def _bounded(self, rows: NDArray[np.int64]) -> Iterator[slice]:
        """Cut so that no piece is in more than so many shards."""
        if not len(rows):
            return
        at, span = 0, _MOST_SHARDS * self.layout.shard_rows
        if self.layout.shards <= _MOST_SHARDS:
            yield slice(0, len(rows))
            return
        while at < len(rows):
            step = _MOST_SHARDS
            if len(rows) - at > step:
                reach = rows[at : at + span]
                near = (reach >= reach[0]) & (reach < reach[0] + span - self.layout.shard_rows)
                step = max(step, len(reach) if near.all() else int(near.argmin()))
            yield slice(at, at + step)
            at += step

    def _take_into(
        self, rows: NDArray[np.int64], shards: dict[int, OpenShard | None], out: NDArray[Any]
    ) -> None:
        if None in shards.values():
            self._mixed(rows, shards, out)
            return
        held = {number: shard for number, shard in shards.items() if shard is not None}
        found = kernels(out.nbytes)
        if found is not None:
            self._by_kernel(found, rows, held, out)
        else:
            self._in_python(rows, held, out)

    def _mixed(
        self, rows: NDArray[np.int64], shards: dict[int, OpenShard | None], out: NDArray[Any]
    ) -> None:
        """Where some shards are not mapped."""
        shard_of = rows // self.layout.shard_rows
        for number, shard in shards.items():
            where = np.flatnonzero(shard_of == number)
            part = np.empty((len(where), *out.shape[1:]), out.dtype)
            if shard is not None:
                self._take_into(rows[where], {number: shard}, part)
            else:
                self.elsewhere(rows[where], part)
            out[where] = part

    def _sound(self, shard: OpenShard) -> NDArray[np.uint8] | None:
        """A byte for each inner chunk: whether its checksum need not be looked at."""
        if self.verify == "never":
            return None
        return shard.sound if self.verify == "first" else np.zeros_like(shard.sound)

    def _by_kernel(
        self,
        found: ShardKernels,
        rows: NDArray[np.int64],
        shards: dict[int, OpenShard],
        out: NDArray[Any],
    ) -> None:
        maps = np.zeros(self.layout.shards, np.int64)
        checks = np.zeros(self.layout.shards, np.int64)
        kept = []
        for number, shard in shards.items():
            maps[number] = shard.address
            if (sound := self._sound(shard)) is not None:
                checks[number] = address(sound)
                kept.append(sound)
        told = all(shard.told for shard in shards.values())
        failed = found.gather(
            maps, checks if kept else None, rows, out, self.layout.row_bytes, self.layout.inner_rows,
            self.layout.shard_rows, told,
        )  # fmt: skip
        if failed >= 0:
            raise self._fails(int(rows[failed]))

    def _fails(self, row: int) -> DamagedStoreError:
        path = f"{self.files.label}/{self.key(row // self.layout.shard_rows)}"
        return damaged(path, f"row {row % self.layout.shard_rows} fails its checksum")

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
        self, rows: NDArray[np.int64], shards: dict[int, OpenShard], out: NDArray[Any]
    ) -> None:
        size, row_bytes = self.layout.chunk_bytes, self.layout.row_bytes
        target = out.reshape(-1).view(np.uint8)
        data = {number: shard.bytes() for number, shard in shards.items()}
        checks = {number: self._sound(shard) for number, shard in shards.items()}
        for first, last in self._runs(rows):
            row = int(rows[first])
            number = row // self.layout.shard_rows
            chunk, start, inside = self._place(row)
            sound, held = checks[number], data[number]
            if sound is not None and not sound[chunk]:
                shards[number].will_need(start, size)
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
