"""Rows of a stored feature, as learners read them (the interface ``learners.batch.BlockSource``)."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.schema import Status

if TYPE_CHECKING:
    from featurestore.store.reader import Store


_WHERE = ("anchor", "upstream", "downstream")

_FEW = 64
"""Rows of which the status is looked up alone, rather than that of all genes once."""


def region_names(store: Store, species: str, group: str) -> list[str]:
    """Regions of a group; of an embedder that reads one window a gene, what that is centred on."""
    path = f"{group}/region"
    if store.has(species, path):
        return [str(name) for name in store.text(species, path).tolist()]
    return [str(store.embedder_attrs(species, group)["anchor"])]


class StoreSource:
    """One feature of one species, nothing in memory.

    ``kind`` is ``codes`` (region, position) for the sequence, else ``bins`` (region, bin,
    channel); where a recipe kept the positions of a bin apart, each of them is a bin here, and the
    one window a gene of some embedders is one region, named after its anchor. Regions that a gene lacks read zeros; a gene with any other status but ok is the
    caller's to leave out (``Store.feature_status``).
    """

    def __init__(self, store: Store, species: str, group: str, name: str) -> None:
        self._store, self._species, self._group, self._name = store, species, group, name
        self._stored = store.stored(species, f"{group}/{name}")
        self.kind = "codes" if group == "sequence" else "bins"
        shape = self._stored.shape[1:]
        self._centred = self.kind == "bins" and self._stored.dims[1] != "region"
        if self._centred:
            shape = (1, *shape)
        self._scalar = self.kind == "bins" and len(shape) == 2
        # Positions kept apart are bins of one base.
        self._positions = shape[2] if len(shape) == 4 else 1
        if self._positions > 1:
            shape = (shape[0], shape[1] * shape[2], shape[3])
        self.shape = (*shape, 1) if self._scalar else shape
        self.dims = ("region", "position") if self.kind == "codes" else ("region", "bin", "channel")
        self.dtype = self._stored.dtype
        self.shard_start = np.arange(0, max(len(self), 1), self._stored.chunk[0], dtype=np.int64)

    def __len__(self) -> int:
        return self._stored.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process looks up for itself what this one has read.
        return StoreSource, (self._store, self._species, self._group, self._name)

    @cached_property
    def coords(self) -> dict[str, NDArray[Any]]:
        """Coordinates by name: region, bin_start, channel where they exist.

        For codes, where the regions lie: anchor, upstream and downstream (bp) of each.
        """
        names = ("region",) if self.kind == "codes" else ("region", "bin_start", "channel")
        found = {
            n: self._store.array(self._species, f"{self._group}/{n}")
            for n in names
            if self._store.has(self._species, f"{self._group}/{n}")
        }
        if self._centred:
            found["region"] = np.array(region_names(self._store, self._species, self._group))
            found["bin_start"] = found["bin_start"][None]
        if self._positions > 1:
            apart = found["bin_start"][..., None] + np.arange(self._positions)
            found["bin_start"] = apart.reshape(len(apart), -1)
        if self.kind == "codes":
            regions = self._store.attrs["meristem"]["regions"]
            found |= {n: np.array([r[n] for r in regions]) for n in _WHERE}
        return found

    @cached_property
    def valid(self) -> NDArray[np.bool_] | None:
        """Bins that any gene has, shape (region, bin); None where all have all."""
        held = self._bin_valid
        return None if held is None else np.asarray(held.any(axis=0), np.bool_)

    @cached_property
    def _bin_valid(self) -> NDArray[np.bool_] | None:
        path = f"{self._group}/bin_valid"
        if self.kind == "codes" or not self._store.has(self._species, path):
            return None
        held = np.asarray(self._store.array(self._species, path), np.bool_)
        return np.repeat(held, self._positions, axis=-1)

    def row_valid(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Bins that each gene has, shape (len(rows), region, bin); None where each has all."""
        return None if self._bin_valid is None else self._bin_valid[rows]

    @cached_property
    def _absent(self) -> NDArray[np.bool_] | None:
        status = self._store.array(self._species, f"{self._group}/status")
        absent = np.asarray(status == Status.ABSENT, np.bool_).reshape(len(status), -1)
        return absent if absent.any() and self.kind == "bins" else None

    def _absent_rows(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which regions of these rows their genes lack; None where no region is lacked."""
        if "_absent" not in self.__dict__ and len(rows) < _FEW and self.kind == "bins":
            status = self._store.stored(self._species, f"{self._group}/status").take(rows)
            return np.asarray(status == Status.ABSENT, np.bool_).reshape(len(status), -1)
        return None if self._absent is None else self._absent[rows]

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for, shape (len(rows), *shape), a new array."""
        values = self._stored.take(rows)
        if self._centred:
            values = values[:, None]
        if (absent := self._absent_rows(rows)) is not None:
            values[absent] = 0
        if self._scalar:
            return values[..., None]
        return values.reshape(len(values), *self.shape) if self._positions > 1 else values

    def read_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """As :meth:`read`, into C-contiguous memory of the caller's, shape (len(rows), *shape)."""
        values = out.reshape(len(rows), *self._stored.shape[1:])
        self._stored.take_into(rows, values)
        if self._absent is not None:  # looked up once: whoever reads so reads many times
            out.reshape(len(rows), *self.shape)[self._absent[rows]] = 0
