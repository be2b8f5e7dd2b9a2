"""Blocks of kind ``profile``: what of a gene's profile may be looked at, and where the gene lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.sources import BlockSource, row_valid

PROFILE: Final = "profile"
PLACE: Final = "place"
ELSEWHERE: Final = "elsewhere"
SHARD: Final = 1024
_UNKNOWN_BASE: Final = 4


class PlaneSource:
    """Values and whether they may be looked at, rows of shape (2, tissue), float32.

    Parameters
    ----------
    value : float array, shape (n, tissue)
    visible : bool array, shape (n, tissue)
    asked : frozenset of str
        Of ``"none"`` and ``"some"``: what of their profile the rows under test will show.
    """

    kind = "profile"
    dims: tuple[str, ...] = ("plane", "tissue")

    def __init__(
        self,
        value: NDArray[Any],
        visible: NDArray[np.bool_],
        asked: frozenset[str],
        tissues: tuple[str, ...],
    ) -> None:
        self._value, self._visible, self.asked = value, visible, asked
        self.shape: tuple[int, ...] = (2, value.shape[1])
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        self.coords: Mapping[str, NDArray[Any]] = {"tissue": np.array(tissues)}
        self.shard_start = np.arange(0, max(len(value), 1), SHARD, dtype=np.int64)

    valid: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self._value)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Value (0 where hidden) and 1 where it may be looked at, shape (len(rows), 2, tissue)."""
        visible = self._visible[rows]
        out = np.empty((len(rows), *self.shape), np.float32)
        out[:, 0] = np.where(visible, self._value[rows], 0.0)
        out[:, 1] = visible
        return out


class PlaceSource:
    """Places of genes, rows of shape (5,), float64: see :meth:`benchmarks.imputation.places.Places.block`."""

    kind = "profile"
    dims: tuple[str, ...] = ("place",)
    shape: tuple[int, ...] = (5,)
    dtype: np.dtype[Any] = np.dtype(np.float64)
    valid: NDArray[np.bool_] | None = None

    def __init__(self, values: NDArray[np.float64]) -> None:
        self._values = values
        self.coords: Mapping[str, NDArray[Any]] = {
            "place": np.array(["contig", "tss", "tts", "strand", "known"])
        }
        self.shard_start = np.arange(0, max(len(values), 1), SHARD, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._values)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for."""
        return self._values[rows]


class ZeroedSource:
    """A feature of genes of which some have none: these read zeros, never NaN.

    Parameters
    ----------
    source : BlockSource
    usable : bool array, shape (n,)
    """

    def __init__(self, source: BlockSource, usable: NDArray[np.bool_]) -> None:
        self._source, self._usable = source, usable
        self.kind, self.dims, self.shape = source.kind, source.dims, source.shape
        self.dtype, self.coords, self.valid = source.dtype, source.coords, source.valid
        self.shard_start = source.shard_start

    def __len__(self) -> int:
        return len(self._source)

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for; zeros (for base codes: N) where a gene has no feature."""
        values = self._source.read(rows)
        values[~self._usable[rows]] = _UNKNOWN_BASE if self.kind == "codes" else 0
        return values

    def row_valid(self, rows: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Bins that each row has."""
        return row_valid(self._source, rows)
