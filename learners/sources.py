"""Sources of features: rows readable by number, from an array, a store, or several end to end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class BlockSource(Protocol):
    """Rows of one feature, readable by row number (an array in memory, a store).

    A source whose rows differ in the bins they have may say so with a further method
    ``row_valid(rows)``; ask any source through :func:`row_valid`.
    """

    kind: str
    """``tabular`` (channel,), ``bins`` (region, bin, channel), ``codes`` (region, position) …"""
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    """Shape of one row."""
    dtype: np.dtype[Any]
    coords: Mapping[str, NDArray[Any]]
    shard_start: NDArray[np.int64]
    """First row of each shard, ascending from 0."""

    @property
    def valid(self) -> NDArray[np.bool_] | None:
        """For ``bins``: shape (region, bin), False where no row has such a bin; else None."""
        ...

    def __len__(self) -> int: ...

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for, shape (len(rows), *shape), a new array."""
        ...


class ArraySource:
    """A :class:`BlockSource` over an array in memory, shape (n, *shape).

    ``valid`` (region, bin) are the bins that any row has; ``bin_valid`` (n, region, bin), given
    instead, those of each row.
    """

    def __init__(
        self,
        values: NDArray[Any],
        *,
        kind: str = "tabular",
        dims: tuple[str, ...] | None = None,
        coords: Mapping[str, NDArray[Any]] | None = None,
        valid: NDArray[np.bool_] | None = None,
        bin_valid: NDArray[np.bool_] | None = None,
        shard_rows: int = 1024,
    ) -> None:
        self.values = values
        self.kind = kind
        self.shape = values.shape[1:]
        self.dtype = values.dtype
        names = {1: ("channel",), 2: ("region", "position"), 3: ("region", "bin", "channel")}
        self.dims = dims if dims is not None else names.get(values.ndim - 1, ())
        self.coords: Mapping[str, NDArray[Any]] = dict(coords or {})
        self.bin_valid = bin_valid
        self.valid = valid
        if bin_valid is not None:
            self.valid = np.asarray(bin_valid.any(axis=0), np.bool_)
        self.shard_start = np.arange(0, max(len(values), 1), shard_rows, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.values)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for."""
        return self.values[rows]

    def row_valid(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Bins that each row has, shape (len(rows), region, bin); None where each has all."""
        if self.bin_valid is not None:
            return self.bin_valid[rows]
        return None if self.valid is None else _for_each(self.valid, rows)


def row_valid(source: BlockSource, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Bins that each of some rows has.

    Returns
    -------
    bool array, shape (len(rows), region, bin), or None
        None where every row has all. A source that knows no rows apart gives ``valid`` for each.
    """
    own = getattr(source, "row_valid", None)
    if own is None:
        return None if source.valid is None else _for_each(source.valid, rows)
    found: NDArray[np.bool_] | None = own(rows)
    return found


def _for_each(valid: NDArray[np.bool_], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.broadcast_to(valid, (len(rows), *valid.shape))


class _Joined:
    """Rows of several sources of equal row shape, end to end."""

    def __init__(self, sources: Sequence[BlockSource]) -> None:
        first = sources[0]
        self.sources = list(sources)
        self.kind, self.dims, self.shape = first.kind, first.dims, first.shape
        self.dtype, self.coords = np.result_type(*(s.dtype for s in sources)), first.coords
        sizes = [len(s) for s in sources]
        self.offset = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        self.shard_start = np.concatenate(
            [s.shard_start + o for s, o in zip(sources, self.offset[:-1], strict=True)]
        )

    def __len__(self) -> int:
        return int(self.offset[-1])

    @cached_property
    def valid(self) -> NDArray[np.bool_] | None:
        """Bins that any source has, whichever comes first; None where each has all."""
        known = [s.valid for s in self.sources]
        if all(valid is None for valid in known):
            return None
        every = np.ones(self.shape[:2], np.bool_)
        some = np.stack([every if valid is None else valid for valid in known]).any(axis=0)
        return np.asarray(some, np.bool_)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        out = np.empty((len(rows), *self.shape), self.dtype)
        for here, source, local in self._parts(rows):
            out[here] = source.read(local)
        return out

    def row_valid(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        if self.valid is None:
            return None
        out = np.ones((len(rows), *self.shape[:2]), np.bool_)
        for here, source, local in self._parts(rows):
            known = row_valid(source, local)
            out[here] = True if known is None else known
        return out

    def _parts(
        self, rows: NDArray[np.int64]
    ) -> Iterator[tuple[NDArray[np.bool_], BlockSource, NDArray[np.int64]]]:
        """Per source that holds some of the rows: which they are, and their numbers in it."""
        which = np.searchsorted(self.offset, rows, side="right") - 1
        for i, source in enumerate(self.sources):
            here = which == i
            if here.any():
                yield here, source, rows[here] - self.offset[i]


def join_sources(sources: Sequence[BlockSource]) -> BlockSource:
    """Stack sources (one per species) along their rows.

    Raises
    ------
    ValueError
        If their row shapes differ.
    """
    if len({s.shape for s in sources}) > 1:
        raise ValueError(f"features differ in shape between species: {[s.shape for s in sources]}")
    return sources[0] if len(sources) == 1 else _Joined(sources)
