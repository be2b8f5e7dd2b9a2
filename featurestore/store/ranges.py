"""Rows of an array by byte ranges: only the inner chunks that hold them are fetched, each one checked.

Works on what any Zarr writer makes of ``sharding_indexed`` along the first axis with inner codecs
``bytes`` [+ ``blosc`` | ``zstd``] + ``crc32c``, and on plain chunks of the same codecs; anything else is
zarr-python's. Inner chunks that lie next to each other in a file are fetched by one request. The index of
a shard that is laid out regularly (see ``shard.py``) is known without asking for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError
from featurestore.store.files import StoreFiles
from featurestore.store.shard import CRC_BYTES, crc32c, damaged

if TYPE_CHECKING:
    from featurestore.store.arrays import StoredArray

PIECE_BYTES: Final = 8 * 2**20
"""Largest piece of a file that is asked for at once."""

_MISSING: Final = 2**64 - 1
_COMPRESSORS: Final = ("blosc", "zstd")


@dataclass(frozen=True)
class Span:
    """Bytes of one file."""

    key: str
    start: int
    length: int


class Pieces(Protocol):
    """What fetches pieces of files: side by side over a network, one after the other from a disk."""

    def size(self, key: str) -> int:
        """Bytes of a file."""

    def read(self, key: str) -> bytes:
        """A whole file."""

    def index(self, key: str, start: int, length: int) -> bytes:
        """The index at the end of a shard."""

    def fetch(self, spans: Iterable[Span], take: Callable[[Span, bytes], None]) -> None:
        """Hand each span with its bytes to ``take``."""

    def each(self, work: Callable[[Any], object], items: Iterable[Any]) -> None:
        """Do work on items."""

    def damage(self, key: str, what: str) -> DamagedStoreError:
        """The error for a file that cannot be trusted."""


class LocalPieces:
    """Pieces of files on a disk."""

    def __init__(self, files: StoreFiles) -> None:
        self._files = files
        self.size, self.read, self.index = files.size, files.read, files.read_range

    def fetch(self, spans: Iterable[Span], take: Callable[[Span, bytes], None]) -> None:
        """One after the other."""
        for span in spans:
            take(span, self._files.read_range(span.key, span.start, span.length))

    def each(self, work: Callable[[Any], object], items: Iterable[Any]) -> None:
        """One after the other."""
        for item in items:
            work(item)

    def damage(self, key: str, what: str) -> DamagedStoreError:
        """The error for a file that cannot be trusted."""
        return damaged(f"{self._files.label}/{key}", what)


@dataclass(frozen=True)
class Cut:
    """How an array is cut along its first axis.

    Parameters
    ----------
    rows : int
        Rows of an inner chunk (of a whole chunk where there are no shards).
    per_file : int
        Inner chunks in a file; 0 where files are plain chunks.
    compressor : str
        ``""``, ``blosc`` or ``zstd``.
    """

    rows: int
    per_file: int
    compressor: str

    @property
    def rows_per_file(self) -> int:
        """Rows of a shard or chunk."""
        return self.rows * max(self.per_file, 1)


def cut_of(metadata: Mapping[str, Any]) -> Cut | None:
    """The cut of an array by its ``zarr.json``; None where it is not one that this module reads."""
    shape = tuple(metadata["shape"])
    chunk = tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])
    codecs = metadata["codecs"]
    if (
        not shape
        or metadata["data_type"] == "string"
        or chunk[1:] != tuple(max(n, 1) for n in shape[1:])
    ):
        return None
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        inner = codecs[0]["configuration"]
        rows = int(inner["chunk_shape"][0])
        plain_index = [c["name"] for c in inner["index_codecs"]] == ["bytes", "crc32c"]
        at_end = inner.get("index_location", "end") == "end"
        compressor = _compressor(inner["codecs"])
        if compressor is None or not (plain_index and at_end) or chunk[0] % rows:
            return None
        if tuple(inner["chunk_shape"][1:]) != chunk[1:]:
            return None
        return Cut(rows, chunk[0] // rows, compressor)
    compressor = _compressor(codecs)
    return None if compressor is None else Cut(chunk[0], 0, compressor)


def _compressor(codecs: list[Mapping[str, Any]]) -> str | None:
    """The compressor of ``bytes`` [+ compressor] + ``crc32c``; None for any other chain."""
    names = [str(c["name"]) for c in codecs]
    if len(names) not in {2, 3} or names[0] != "bytes" or names[-1] != "crc32c":
        return None
    if codecs[0].get("configuration", {}).get("endian", "little") != "little":
        return None
    between = names[1:-1]
    if between and between[0] not in _COMPRESSORS:
        return None
    return between[0] if between else ""


def take(array: StoredArray, rows: NDArray[np.int64]) -> NDArray[Any] | None:
    """Rows of an array in the order asked for; None where :func:`cut_of` does not know its layout.

    Parameters
    ----------
    rows : int64 array, shape (n,)
        Within the array; may repeat.

    Returns
    -------
    array, shape (n, *row shape), a new one

    Raises
    ------
    DamagedStoreError, RemoteStoreError
    """
    cut = cut_of(array.metadata)
    if cut is None:
        return None
    out = np.empty((len(rows), *array.shape[1:]), array.dtype)
    if out.size:
        _Reading(array, cut, rows, out).run()
    return out


class _Reading:
    """One call of :func:`take`."""

    def __init__(
        self, array: StoredArray, cut: Cut, rows: NDArray[np.int64], out: NDArray[Any]
    ) -> None:
        self.array, self.cut, self.out = array, cut, out
        self.files: Pieces = pieces_of(array.files)
        self.order = np.argsort(rows, kind="stable")
        self.sorted = rows[self.order]
        chunk_of = self.sorted // cut.rows
        first = np.flatnonzero(np.r_[True, chunk_of[1:] != chunk_of[:-1]])
        self.chunks = chunk_of[first]
        self.begin = np.r_[first, len(rows)]
        self.row_shape = array.shape[1:]
        self.chunk_bytes = cut.rows * math.prod(self.row_shape) * array.dtype.itemsize

    def run(self) -> None:
        """Fetch, check and place."""
        if not self.cut.per_file:
            self.files.each(self._whole_chunk, range(len(self.chunks)))
            return
        places = np.empty((len(self.chunks), 2), np.int64)
        shard_of = self.chunks // self.cut.per_file
        shards = np.unique(shard_of)

        def locate(shard: np.int64) -> None:
            own = np.flatnonzero(shard_of == shard)
            places[own] = self._places(int(shard), self.chunks[own] - shard * self.cut.per_file)

        if self.cut.compressor:
            self.files.each(locate, shards.tolist())
        else:
            for shard in shards.tolist():
                locate(shard)
        self._fetch(shard_of, places)

    def _fetch(self, shard_of: NDArray[np.int64], places: NDArray[np.int64]) -> None:
        held: dict[Span, range] = {}
        for first, last in _runs(shard_of, places):
            start = int(places[first, 0])
            length = int(places[last - 1].sum()) - start
            held[Span(self.array.key(int(shard_of[first])), start, length)] = range(first, last)

        def placed(span: Span, data: bytes) -> None:
            view = memoryview(data)
            for position in held[span]:
                begin = int(places[position, 0]) - span.start
                self._place(position, view[begin : begin + int(places[position, 1])], span.key)

        self.files.fetch(list(held), placed)

    def _places(self, shard: int, wanted: NDArray[np.int64]) -> NDArray[np.int64]:
        """Offset and length of inner chunks of a shard."""
        key, count = self.array.key(shard), self.cut.per_file
        size = self._size(key)
        index_bytes = 16 * count + CRC_BYTES
        if self.cut.compressor:
            return self._from_index(key, size, index_bytes, wanted)
        stride = self.chunk_bytes + CRC_BYTES
        present = min(
            count, -(-(self.array.shape[0] - shard * self.cut.rows_per_file) // self.cut.rows)
        )
        if size != present * stride + index_bytes:
            return self._from_index(key, size, index_bytes, wanted)  # a foreign writer's order
        return np.stack([wanted * stride, np.full_like(wanted, stride)], axis=1)

    def _from_index(
        self, key: str, size: int, index_bytes: int, wanted: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        raw = self.files.index(key, size - index_bytes, index_bytes) if size >= index_bytes else b""
        if len(raw) != index_bytes or crc32c(raw[:-CRC_BYTES]) != raw[-CRC_BYTES:]:
            raise self.files.damage(key, "its index fails its checksum")
        found = np.frombuffer(raw[:-CRC_BYTES], "<u8").reshape(-1, 2)[wanted]
        if (found == _MISSING).any():
            raise self.files.damage(key, "its index lacks a row that the array's shape asks for")
        most = self._most_bytes()
        ends_inside = (found[:, 0] <= size) & (found[:, 1] <= most) & (found.sum(axis=1) <= size)
        if not ends_inside.all():
            raise self.files.damage(key, "its index points outside the file")
        return found.astype(np.int64)

    def _most_bytes(self) -> int:
        # Compressed worst case: blosc and zstd add headers and at most a small share.
        return self.chunk_bytes + self.chunk_bytes // 8 + 1024

    def _size(self, key: str) -> int:
        try:
            return self.files.size(key)
        except FileNotFoundError:
            raise self.files.damage(key, "it is missing") from None

    def _whole_chunk(self, position: int) -> None:
        key = self.array.key(int(self.chunks[position]))
        try:
            data = self.files.read(key)
        except FileNotFoundError:
            raise self.files.damage(key, "it is missing") from None
        self._place(position, memoryview(data), key)

    def _place(self, position: int, stored: memoryview, key: str) -> None:
        """Check and decode one inner chunk; put its rows where they were asked for."""
        body, checksum = stored[:-CRC_BYTES], bytes(stored[-CRC_BYTES:])
        chunk = int(self.chunks[position])
        if len(stored) <= CRC_BYTES or crc32c(bytes(body)) != checksum:
            raise self.files.damage(key, f"rows from {chunk * self.cut.rows:,} fail their checksum")
        plain = decoded(body, self.cut.compressor, self.chunk_bytes)
        if plain is None:
            raise self.files.damage(
                key, f"rows from {chunk * self.cut.rows:,} do not decompress to their size"
            )
        values = np.frombuffer(plain, self.array.dtype).reshape(self.cut.rows, *self.row_shape)
        first, last = self.begin[position], self.begin[position + 1]
        self.out[self.order[first:last]] = values[self.sorted[first:last] - chunk * self.cut.rows]


def _runs(shard_of: NDArray[np.int64], places: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Stretches of inner chunks that lie next to each other in one file, of at most :data:`PIECE_BYTES`."""
    first, length = 0, 0
    for i in range(len(places)):
        follows = (
            i > first
            and shard_of[i] == shard_of[i - 1]
            and places[i, 0] == places[i - 1].sum()
            and length + places[i, 1] <= PIECE_BYTES
        )
        if i > first and not follows:
            yield first, i
            first, length = i, 0
        length += int(places[i, 1])
    if len(places):
        yield first, len(places)


def decoded(body: memoryview | bytes, compressor: str, size: int) -> bytes | memoryview | None:
    """Plain bytes of a chunk; None where they are not of the size they must be.

    The size that a compressed chunk claims in its header is looked at before memory is taken for it.
    """
    if not compressor:
        return memoryview(body) if len(body) == size else None
    from numcodecs import blosc, zstd

    try:
        if compressor == "blosc":
            header = bytes(body[:16])
            if len(header) < 16 or int.from_bytes(header[4:8], "little") != size:
                return None
            if int.from_bytes(header[12:16], "little") != len(body):
                return None
            plain = bytes(blosc.decompress(bytes(body)))
        else:
            out = bytearray(size)
            zstd.decompress(bytes(body), out)
            plain = bytes(out)
    except (RuntimeError, ValueError):
        return None
    return plain if len(plain) == size else None


def pieces_of(files: StoreFiles) -> Pieces:
    """What fetches pieces of a store's files."""
    if files.is_remote:
        from featurestore.store.remote import RemoteFiles

        if isinstance(files, RemoteFiles):
            return files
    return LocalPieces(files)
