"""Reads the arrays of a store by their layout: rows, blocks, strings, and all else by zarr-python.

Array metadata comes from the store's ``zarr.json``. An array that is laid out the way our writer lays
them out is read straight from its files; any other (compressed, foreign) through zarr-python.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import MeristemError
from featurestore.store.files import StoreFiles
from featurestore.store.layout import Layout, layout_of
from featurestore.store.manifest import Manifest, hash_bytes
from featurestore.store.rows import RegularRows, Verify
from featurestore.store.shard import CRC_BYTES, crc32c, damaged, decode_block
from featurestore.store.text import NotTextError, StoredText

if TYPE_CHECKING:
    import zarr

_MOST_EXPANSION: Final = 65_536
"""Bytes that one stored byte may decompress to: zstd of nothing but one letter gives some 30,000."""
_ALWAYS_FINE: Final = 64 * 2**20
"""Bytes that are taken without looking at what they come from."""


def _chunk_key(path: str, dimensions: int, shard: int) -> str:
    return "/".join([path, "c", str(shard), *["0"] * (dimensions - 1)])


_WRONG_METADATA: Final = (
    ValueError, KeyError, TypeError, IndexError, AttributeError, NotImplementedError,
    ZeroDivisionError, OverflowError, RuntimeError,
)  # fmt: skip
"""What zarr-python raises for metadata or bytes that are none."""


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
    verify : {"first", "always", "never"}
        When checksums of rows are computed; what is read whole (blocks, strings) always is.

    Raises
    ------
    DamagedStoreError
        If the metadata describes no array that can be.
    """

    files: StoreFiles
    path: str
    metadata: Mapping[str, Any]
    manifest: Manifest
    verify: Verify = "first"

    def __post_init__(self) -> None:
        _ = self._layout  # refuses metadata that contradicts itself

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return tuple(self.metadata["shape"])

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(self.metadata["dimension_names"])

    @cached_property
    def _layout(self) -> tuple[Layout, np.dtype[Any]]:
        return layout_of(self.metadata, f"{self.files.label}/{self.path}")

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian numpy dtype (StringDType for text)."""
        return self._layout[1]

    @property
    def chunk(self) -> tuple[int, ...]:
        """Shape of a file's content: shard or chunk."""
        return tuple(self.metadata["chunk_grid"]["configuration"]["chunk_shape"])

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Attributes."""
        attributes: Mapping[str, Any] = self.metadata.get("attributes", {})
        return attributes

    @property
    def layout(self) -> str:
        """``rows`` (``packed`` too), ``block``, ``text`` or ``other``."""
        return self._layout[0].kind

    @property
    def inner_rows(self) -> int:
        """Rows of one inner chunk; of a chunk where the array is not sharded."""
        return self._layout[0].inner_rows

    def key(self, shard: int) -> str:
        """Key of the file of one shard or chunk along the first axis."""
        return _chunk_key(self.path, len(self.shape), shard)

    def place(self, shard: int) -> str:
        """Where the file of one shard or chunk along the first axis lies, for messages."""
        return f"{self.files.label}/{self.key(shard)}"

    @cached_property
    def _is_mapped(self) -> bool:
        """Whether rows are read through maps of their shards."""
        return self.layout == "rows" and not self.files.is_remote and 0 not in self.shape

    @cached_property
    def _rows(self) -> RegularRows:
        # No reference to this object: a cycle would keep the store open until it is collected.
        return RegularRows(
            self.files,
            self.path,
            partial(_chunk_key, self.path, len(self.shape)),
            self._layout[0],
            self.manifest.files,
            self.verify,
        )

    def __getstate__(self) -> dict[str, Any]:
        # What is open stays in this process.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def read(self) -> NDArray[Any]:
        """The whole array, a new one.

        Raises
        ------
        DamagedStoreError
            If what is read is missing, has another size or fails its checksum.
        """
        if self.layout == "text":
            return self._all_text()
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        if self.layout == "other" or not self.shape:
            found = self._all_by_ranges()
            return self._through_zarr() if found is None else found
        if self._is_mapped:
            self._rows.check_sizes()
        elif not self.files.is_remote:
            for chunk in range(self._layout[0].shards):
                self._expect_size(self.key(chunk), self._layout[0].file_bytes(chunk))
        return self.take(np.arange(self.shape[0], dtype=np.int64))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for: a new C-contiguous array, shape (len(rows), …).

        Raises
        ------
        IndexError
            If a row lies outside the array.
        DamagedStoreError
            If what is read is missing, has another size or fails its checksum.
        """
        rows = np.ascontiguousarray(rows, np.int64)

        def make() -> NDArray[Any]:
            return np.empty((len(rows), *self.shape[1:]), self.dtype)

        if self._is_mapped:
            return self._rows.take(rows, make, self._elsewhere)
        self._check_range(rows)
        if self.layout == "text":
            return np.ascontiguousarray(self._all_text()[rows])
        if not len(rows) or 0 in self.shape:
            return make()
        self._check_first(int(rows[0]))
        if (found := self._by_ranges(rows)) is not None:
            return found
        out = make()
        self._fill(rows, out)
        return out

    def take_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """As :meth:`take`, into memory of the caller's, which can be used again and again.

        Parameters
        ----------
        out : array, shape (len(rows), …), C-contiguous, of the array's dtype

        Raises
        ------
        ValueError
            If ``out`` is not such an array.
        IndexError, DamagedStoreError
            As :meth:`take`.
        """
        rows = np.ascontiguousarray(rows, np.int64)
        shape, flags = (len(rows), *self.shape[1:]), out.flags
        if (
            out.shape != shape
            or out.dtype != self.dtype
            or not (flags.c_contiguous and flags.writeable)
        ):
            raise ValueError(
                f"{self.path}: take_into needs a C-contiguous, writable array of shape {shape} and dtype "
                f"{self.dtype}, not {out.shape} {out.dtype}"
            )
        if self._is_mapped:
            self._rows.take_into(rows, out, self._elsewhere)
            return
        self._check_range(rows)
        if not len(rows) or 0 in self.shape:
            return
        if (found := self._by_ranges(rows)) is not None:
            out[...] = found
        else:
            self._fill(rows, out)

    def _check_range(self, rows: NDArray[np.int64]) -> None:
        if len(rows) and (rows.min() < 0 or rows.max() >= self.shape[0]):
            raise IndexError(f"{self.path}: rows {rows.min()} … {rows.max()} of {self.shape[0]}")

    def _by_ranges(self, rows: NDArray[np.int64]) -> NDArray[Any] | None:
        """Rows by ranges of bytes: over a network, or compressed; None where that cannot be."""
        if self.layout == "block" and not self.files.is_remote:
            return None
        from featurestore.store import ranges

        return ranges.take(self, rows)

    def _all_by_ranges(self) -> NDArray[Any] | None:
        """The whole of an array that neither maps nor blocks read; None where zarr-python has to."""
        if not self.shape:
            return None
        self._refuse_whole()
        return self._by_ranges(np.arange(self.shape[0], dtype=np.int64))

    def _fill(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        if self.layout == "block":
            for where, slab in self._blocks(rows):
                out[where] = slab
        else:
            self._slabs_into(rows, out)

    def _blocks(self, rows: NDArray[np.int64]) -> Iterator[tuple[NDArray[np.int64], NDArray[Any]]]:
        """Where rows of each chunk belong, and their values."""
        size = self.chunk[0]
        chunk_of = rows // size
        first = int(chunk_of[0])
        # Sorting a million rows of one chunk takes longer than reading them.
        one = bool((chunk_of == first).all())
        for chunk in [first] if one else np.unique(chunk_of).tolist():
            where = np.arange(len(rows)) if one else np.flatnonzero(chunk_of == chunk)
            try:
                data = self.files.read(self.key(chunk))
            except FileNotFoundError as error:
                raise damaged(self.place(chunk), "it is missing") from error
            block = decode_block(self.place(chunk), data, self.dtype, self.chunk)
            yield where, block[rows[where] - chunk * size]

    def _check_first(self, row: int) -> None:
        """Hold the size of a row against that of its file, before memory is taken on its word."""
        layout, key = self._layout[0], self.key(row // self._layout[0].shard_rows)
        if self.layout == "other":
            self._refuse_expansion(layout.shard_rows * layout.row_bytes, [key])
        elif self.layout == "block":
            self._expect_size(key, layout.file_bytes(0))

    def _expect_size(self, key: str, belong: int) -> None:
        try:
            size = self.files.size(key)
        except FileNotFoundError as error:
            raise damaged(f"{self.files.label}/{key}", "it is missing") from error
        if size != belong:
            raise damaged(
                f"{self.files.label}/{key}", f"it has {size:,} bytes where {belong:,} belong"
            )

    def _refuse_expansion(self, wanted: int, keys: list[str]) -> None:
        """Refuse to take memory that no decompression of these files can fill."""
        if wanted <= _ALWAYS_FINE:
            return
        stored = sum(self.manifest.files[k].size for k in keys if k in self.manifest.files)
        if wanted > stored * _MOST_EXPANSION:
            raise damaged(
                f"{self.files.label}/{self.path}/zarr.json",
                f"its shape asks for {wanted:,} bytes of values, which its files ({stored:,} bytes) cannot hold",
            )

    def _refuse_whole(self) -> None:
        start = f"{self.path}/c"
        keys = [k for k in self.manifest.files if k == start or k.startswith(f"{start}/")]
        grid = zip(self.shape, self.chunk, strict=True)
        asked = math.prod(-(-n // size) for n, size in grid)
        if self.manifest.files and asked > len(keys):
            place = f"{self.files.label}/{self.path}/zarr.json"
            raise damaged(place, f"its shape asks for {asked:,} files where {len(keys):,} are")
        # A string takes at least its length, of 4 bytes, on disk, and 16 in memory.
        itemsize = 16 if self.dtype.kind == "T" else self.dtype.itemsize
        self._refuse_expansion(max(math.prod(self.shape), math.prod(self.chunk)) * itemsize, keys)

    def _through_zarr(self) -> NDArray[Any]:
        self._refuse_whole()
        array = self.opened_by_zarr()
        try:
            return np.asarray(array[...])
        except _WRONG_METADATA as error:
            raise self._not_by_zarr(error) from error

    def _not_by_zarr(self, error: Exception) -> Exception:
        """The error for what zarr-python raised; one of ours as it is."""
        if isinstance(error, MeristemError):
            return error
        told = f"zarr-python cannot read it ({type(error).__name__}: {error})"
        return damaged(f"{self.files.label}/{self.path}", told)

    def _elsewhere(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Rows of one shard that another tool laid out, or that cannot be mapped."""
        from featurestore.store import ranges

        found = ranges.take(self, rows) if self._rows.is_regular(int(rows[0])) else None
        if found is None:
            self._slabs_into(rows, out)
        else:
            out[...] = found

    def _slabs_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Rows through zarr-python, which is quick at stretches only: one (inner) chunk at a time."""
        array, inner = self.opened_by_zarr(), self._layout[0].inner_rows
        chunk_of = rows // inner
        for chunk in np.unique(chunk_of).tolist():
            where = np.flatnonzero(chunk_of == chunk)
            first, last = int(rows[where].min()), int(rows[where].max()) + 1
            slab = np.asarray(array[first:last])
            out[where] = slab[rows[where] - first]

    def _all_text(self) -> NDArray[Any]:
        try:
            return self.text().all()
        except UnicodeDecodeError as error:
            raise damaged(self.place(0), f"it is not UTF-8 ({error})") from error

    def opened_by_zarr(self) -> zarr.Array[Any]:
        """The array as zarr-python reads it, every file held against the manifest."""
        import zarr  # takes longer to import than most queries to answer

        from featurestore.store.checked import CheckedStore

        checked = CheckedStore(self.files, self.manifest)
        try:
            return zarr.open_array(checked, path=self.path, mode="r")
        except _WRONG_METADATA as error:
            raise self._not_by_zarr(error) from error

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
            raise damaged(self.place(0), "it is missing") from error
        expected = self.manifest.files.get(key)
        if expected is not None and hash_bytes(data, expected) != expected:
            raise damaged(self.place(0), "its bytes are not those that were written")
        if crc32c(data[:-CRC_BYTES]) != data[-CRC_BYTES:]:
            raise damaged(self.place(0), "its checksum does not match its bytes")
        try:
            return StoredText.parse(data[:-CRC_BYTES], n)
        except NotTextError as error:
            raise damaged(self.place(0), str(error)) from error
