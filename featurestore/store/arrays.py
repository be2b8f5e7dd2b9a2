"""Reads the arrays of a store by their layout, every byte verified: rows, blocks, one-chunk arrays.

Array metadata comes from the store's ``zarr.json``; an array that is not laid out the way our
writer lays them out (compressed, foreign) is read through zarr-python.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.store.files import StoreFiles
from featurestore.store.manifest import Manifest, hash_bytes
from featurestore.store.shard import CRC_BYTES, crc32c, damaged, read_block, read_rows
from featurestore.store.text import NotTextError, StoredText

if TYPE_CHECKING:
    import zarr

_PLAIN = [{"name": "bytes"}, {"name": "crc32c"}]


def _names(codecs: list[Mapping[str, Any]]) -> list[dict[str, str]]:
    return [{"name": str(c["name"])} for c in codecs]


@dataclass(frozen=True)
class StoredArray:
    """One array on disk, nothing read yet.

    Parameters
    ----------
    files : StoreFiles
        The store.
    path : str
        Path of the array within it.
    metadata : mapping
        Its ``zarr.json``.
    manifest : Manifest
        What every file must be.
    """

    files: StoreFiles
    path: str
    metadata: Mapping[str, Any]
    manifest: Manifest

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return tuple(self.metadata["shape"])

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(self.metadata["dimension_names"])

    @cached_property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian numpy dtype (StringDType for text)."""
        name = self.metadata["data_type"]
        stored: np.dtype[Any] = (
            np.dtypes.StringDType() if name == "string" else np.dtype(name).newbyteorder("<")
        )
        return stored

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a file's content: shard or chunk."""
        return tuple(self.metadata["chunk_grid"]["configuration"]["chunk_shape"])

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes."""
        attributes: Mapping[str, Any] = self.metadata.get("attributes", {})
        return attributes

    @cached_property
    def layout(self) -> str:
        """``rows`` (``packed`` too), ``block``, ``text`` or ``other``."""
        codecs = self.metadata["codecs"]
        split_on_rows_only = self.chunk[1:] == tuple(max(n, 1) for n in self.shape[1:])
        if self.dtype.kind == "T":
            plain = [{"name": "vlen-utf8"}, {"name": "crc32c"}]
            one_chunk = len(self.shape) == 1 and self.chunk[0] >= self.shape[0]
            return "text" if _names(codecs) == plain and one_chunk else "other"
        if not split_on_rows_only:
            return "other"
        if _names(codecs) == _PLAIN:
            return "block"
        if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
            inner = codecs[0]["configuration"]
            regular = (
                tuple(inner["chunk_shape"]) == (self.inner_rows, *self.chunk[1:])
                and self.chunk[0] % self.inner_rows == 0
                and inner["index_location"] == "end"
            )
            if (
                regular
                and _names(inner["codecs"]) == _PLAIN
                and _names(inner["index_codecs"]) == _PLAIN
            ):
                return "rows"
        return "other"

    @cached_property
    def inner_rows(self) -> int:
        """Rows of one inner chunk; 1 where the array is not sharded."""
        codec = self.metadata["codecs"][0]
        sharded = codec["name"] == "sharding_indexed"
        return int(codec["configuration"]["chunk_shape"][0]) if sharded else 1

    def key(self, shard: int) -> str:
        """Key of the file of one shard or chunk along the first axis."""
        index = (shard, *(0,) * (len(self.shape) - 1))
        return "/".join([self.path, "c", *map(str, index)])

    def file(self, shard: int) -> Path:
        """File of one shard or chunk along the first axis."""
        return Path(self.files.label) / self.key(shard)

    def read(self) -> NDArray[Any]:
        """The whole array, a new one."""
        if self.layout == "text":
            return self._all_text()
        if self.layout == "other" or not self.shape or self.shape[0] == 0:
            return self._through_zarr()
        return self.take(np.arange(self.shape[0], dtype=np.int64))

    def _through_zarr(self) -> NDArray[Any]:
        return np.asarray(self.opened_by_zarr()[...])

    def _all_text(self) -> NDArray[Any]:
        try:
            return self.text().all()
        except UnicodeDecodeError as error:
            raise damaged(self.file(0), f"it is not UTF-8 ({error})") from error

    def opened_by_zarr(self) -> zarr.Array[Any]:
        """The array as zarr-python reads it, every file held against the manifest."""
        import zarr  # takes longer to import than most queries to answer

        from featurestore.store.checked import CheckedStore

        checked = CheckedStore(self.files, self.manifest)
        return zarr.open_array(checked, path=self.path, mode="r")

    def text(self) -> StoredText:
        """A string array of one chunk, single items of which are found and read by themselves.

        Raises
        ------
        DamagedStoreError
            If it is missing or is not what was written.
        """
        if not self.shape or self.shape[0] == 0:
            return StoredText.parse(bytes(4), 0)
        key, n = self.key(0), self.shape[0]
        try:
            data = self.files.read(key)
        except FileNotFoundError as error:
            raise damaged(self.file(0), "it is missing") from error
        if key in self.manifest.files and hash_bytes(data) != self.manifest.files[key]:
            raise damaged(self.file(0), "its bytes are not those that were written")
        if crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
            raise damaged(self.file(0), "its checksum does not match its bytes")
        try:
            return StoredText.parse(data[:-CRC_BYTES], n)
        except NotTextError as error:
            raise damaged(self.file(0), str(error)) from error

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for: a new C-contiguous array, shape (len(rows), …).

        Raises
        ------
        IndexError
            If a row lies outside the array.
        DamagedStoreError
            If what is read is missing, short or fails its checksum.
        """
        rows = np.asarray(rows, np.int64)
        if len(rows) and (rows.min() < 0 or rows.max() >= self.shape[0]):
            raise IndexError(f"{self.path}: rows {rows.min()} … {rows.max()} of {self.shape[0]}")
        if self.layout in {"other", "text"}:
            return np.ascontiguousarray(self.read()[rows])
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        size = self.chunk[0]
        shard_of = rows // size
        for shard in np.unique(shard_of).tolist():
            where = np.flatnonzero(shard_of == shard).astype(np.int64)
            local = rows[where] - shard * size
            if self.layout == "block":
                out[where] = read_block(self.file(shard), self.dtype, self.chunk)[local]
            else:
                held = min(size, self.shape[0] - shard * size)
                if self.inner_rows == 1:
                    read_rows(self.file(shard), local, held, size, out, where)
                else:
                    out[where] = self._packed(shard, local, held)
        return out

    def _packed(self, shard: int, local: NDArray[np.int64], held: int) -> NDArray[Any]:
        """Rows of a shard whose inner chunks hold several."""
        wanted, of_row = np.unique(local // self.inner_rows, return_inverse=True)
        pieces = np.empty((len(wanted), self.inner_rows, *self.shape[1:]), self.dtype)
        read_rows(
            self.file(shard), wanted, -(-held // self.inner_rows), self.chunk[0] // self.inner_rows,
            pieces, np.arange(len(wanted), dtype=np.int64),
        )  # fmt: skip
        rows: NDArray[Any] = pieces[of_row, local % self.inner_rows]
        return rows
