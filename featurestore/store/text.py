"""String arrays without zarr-python: the ``vlen-utf8`` codec, one chunk, read by offsets.

A chunk is a count (uint32, little-endian), then for each item its length in bytes (uint32) and its
UTF-8 (Zarr extension ``vlen-utf8``). Single items are found and decoded without making the others:
a query of one gene among a million reads bytes, not a million Python strings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FIELD: Final = 4
"""Bytes of a count or a length."""
_MANY: Final = 20_000
"""Items from which on walking side by side pays."""
_WALKERS: Final = 1024
_LOOK: Final = 2048
_HOPS: Final = 32


class NotTextError(ValueError):
    """The bytes are no ``vlen-utf8`` chunk of the length that was told."""


@dataclass(frozen=True)
class StoredText:
    """A string array as it lies on disk.

    Parameters
    ----------
    data : bytes
        The chunk without its checksum.
    start, stop : int64 arrays, shape (n,)
        Where the bytes of each item lie.
    """

    data: bytes
    start: NDArray[np.int64]
    stop: NDArray[np.int64]

    @classmethod
    def parse(cls, data: bytes, n: int) -> StoredText:
        """Find the items of a chunk.

        Raises
        ------
        NotTextError
            If the bytes do not hold exactly ``n`` items.
        """
        if len(data) < _FIELD * (n + 1) or int.from_bytes(data[:_FIELD], "little") != n:
            raise NotTextError(f"no {n:,} strings in {len(data):,} bytes")
        start = _regular(data, n)
        if start is None:
            start = _walk(data, n)
        length = _lengths(data, start)
        stop = start + length
        end = stop[-1] if n else _FIELD
        if not np.array_equal(stop[:-1] + _FIELD, start[1:]) or end != len(data):
            raise NotTextError(f"no {n:,} strings in {len(data):,} bytes")
        return cls(data, start, stop)

    def __len__(self) -> int:
        return len(self.start)

    def at(self, rows: NDArray[np.int64]) -> list[str]:
        """Items by row."""
        pairs = zip(self.start[rows].tolist(), self.stop[rows].tolist(), strict=True)
        return [self.data[a:b].decode() for a, b in pairs]

    def rows_of(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Every row that holds one of the names, ascending."""
        found = [self._rows_of_one(name.encode()) for name in dict.fromkeys(names)]
        return np.unique(np.concatenate([np.zeros(0, np.int64), *found]))

    def _rows_of_one(self, name: bytes) -> NDArray[np.int64]:
        pattern = len(name).to_bytes(_FIELD, "little") + name
        at, hits = self.data.find(pattern, _FIELD), []
        while at >= 0:
            hits.append(at + _FIELD)
            at = self.data.find(pattern, at + 1)
        starts = np.array(hits, np.int64)
        # A name within another item is no item: only what begins where an item begins counts.
        place = np.searchsorted(self.start, starts)
        place = np.minimum(place, max(len(self) - 1, 0))
        return place[self.start[place] == starts].astype(np.int64) if len(self) else place[:0]

    def all(self) -> NDArray[Any]:
        """Every item, as numpy's variable-length strings; shape (n,)."""
        return np.array(self.at(np.arange(len(self))), np.dtypes.StringDType())


def _lengths(data: bytes, start: NDArray[np.int64]) -> NDArray[np.int64]:
    raw = np.frombuffer(data, np.uint8)
    fields = raw[(start - _FIELD)[:, None] + np.arange(_FIELD)] if len(start) else raw[:0]
    return np.ascontiguousarray(fields).view("<u4").ravel().astype(np.int64)


def _regular(data: bytes, n: int) -> NDArray[np.int64] | None:
    """Starts where every item has the same length, as gene ids often have; else None."""
    if n == 0:
        return np.zeros(0, np.int64)
    length = int.from_bytes(data[_FIELD : 2 * _FIELD], "little")
    stride = _FIELD + length
    if len(data) != _FIELD + n * stride:
        return None
    fields = np.frombuffer(data, np.uint8, offset=_FIELD).reshape(n, stride)[:, :_FIELD]
    if not (np.ascontiguousarray(fields).view("<u4") == length).all():
        return None
    start: NDArray[np.int64] = 2 * _FIELD + np.arange(n, dtype=np.int64) * stride
    return start


def _walk(data: bytes, n: int) -> NDArray[np.int64]:
    """Starts of items of any lengths."""
    if n >= _MANY:
        side_by_side = _walk_side_by_side(data, n)
        if side_by_side is not None:
            return side_by_side
    starts = np.empty(n, np.int64)
    at = _FIELD
    for i in range(n):
        if at + _FIELD > len(data):
            raise NotTextError(f"no {n:,} strings in {len(data):,} bytes")
        starts[i] = at + _FIELD
        at += _FIELD + int.from_bytes(data[at : at + _FIELD], "little")
    return starts


def _walk_side_by_side(data: bytes, n: int) -> NDArray[np.int64] | None:
    """The same by many walkers at once, each from where an item seems to begin; None if one erred.

    Each length says where the next item stands, so one has to walk; numpy moves all walkers a step
    at a time. A walker that began in the wrong place does not meet the next one's beginning.
    """
    size = len(data)
    bounds = [_FIELD] + [_seems_to_begin(data, size * i // _WALKERS) for i in range(1, _WALKERS)]
    first = np.unique(np.array([b for b in bounds if b is not None], np.int64))
    last = np.append(first[1:], size)
    raw = np.frombuffer(data, np.uint8)
    at, steps, taken = first.copy(), [], 0
    going = at < last
    while going.any():
        taken += int(going.sum())
        if taken > n or (at[going] + _FIELD > size).any():
            return None
        steps.append(np.where(going, at + _FIELD, -1))
        fields = raw[np.where(going, at, 0)[:, None] + np.arange(_FIELD)]
        length = np.ascontiguousarray(fields).view("<u4").ravel().astype(np.int64)
        at = np.where(going, at + _FIELD + length, at)
        going = at < last
    if taken != n or not np.array_equal(at, last):
        return None
    starts = np.stack(steps, axis=1).ravel()
    return starts[starts >= 0]


def _seems_to_begin(data: bytes, low: int) -> int | None:
    """A place past ``low`` to which a run of plausible lengths leads.

    A run that began within an item soon falls into step with the items; its end is taken.
    """
    for begin in range(low, min(low + _LOOK, len(data) - _FIELD)):
        at = begin
        for _ in range(_HOPS):
            field = data[at : at + _FIELD]
            if at == len(data):
                return None
            if len(field) < _FIELD or field[1] or field[2] or field[3]:
                break
            at += _FIELD + int.from_bytes(field, "little")
        else:
            return at
    return None
