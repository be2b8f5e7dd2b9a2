"""How an array lies in its files, told from its ``zarr.json``, of which no word is taken on trust."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np

from featurestore.errors import DamagedStoreError
from featurestore.store.kernels import CRC_BYTES
from featurestore.store.shard import crc32c, rows_index

Kind = Literal["rows", "block", "text", "other"]

_MOST_BYTES: Final = 2**60
_INDEX_BYTES: Final = 16


@dataclass(frozen=True)
class Layout:
    """Where the rows of an array lie.

    Parameters
    ----------
    kind : str
        ``rows`` (``packed`` too): shards of inner chunks; ``block``: plain chunks; ``text``: one chunk of
        strings; ``other``: what only zarr-python reads.
    rows : int
        Rows of the array.
    shard_rows : int
        Rows of a full shard or chunk.
    inner_rows : int
        Rows of an inner chunk; of a chunk where there are no shards.
    row_bytes : int
    """

    kind: Kind
    rows: int
    shard_rows: int
    inner_rows: int
    row_bytes: int

    @property
    def chunk_bytes(self) -> int:
        """Bytes of an inner chunk without its checksum."""
        return self.inner_rows * self.row_bytes

    @property
    def stride(self) -> int:
        """Bytes from one inner chunk to the next."""
        return self.chunk_bytes + CRC_BYTES

    @property
    def shards(self) -> int:
        """Files."""
        return -(-self.rows // self.shard_rows)

    def chunks(self, shard: int) -> int:
        """Inner chunks that a shard holds: the last one fewer."""
        return -(-min(self.shard_rows, self.rows - shard * self.shard_rows) // self.inner_rows)

    def index_bytes(self) -> int:
        """Bytes of the index of a shard with its checksum."""
        return self.shard_rows // self.inner_rows * _INDEX_BYTES + CRC_BYTES

    def file_bytes(self, shard: int) -> int:
        """Bytes of a shard that is laid out regularly, or of a block."""
        if self.kind == "block":
            return self.stride
        return self.chunks(shard) * self.stride + self.index_bytes()

    def tail(self, shard: int) -> bytes:
        """Index and its checksum of a shard that is laid out regularly."""
        return _tail(self.chunks(shard), self.chunk_bytes, self.shard_rows // self.inner_rows)


@lru_cache(maxsize=16)
def _tail(chunks: int, chunk_bytes: int, inner_chunks: int) -> bytes:
    index = rows_index(chunks, chunk_bytes, inner_chunks)
    return index + crc32c(index)


def layout_of(metadata: Mapping[str, Any], name: str) -> tuple[Layout, np.dtype[Any]]:
    """Layout and little-endian dtype of an array.

    Parameters
    ----------
    metadata : mapping
        Its ``zarr.json``.
    name : str
        For messages.

    Raises
    ------
    DamagedStoreError
        If the metadata contradicts itself or tells of sizes that no file can have.
    """
    try:
        shape, chunk = tuple(metadata["shape"]), _chunk_shape(metadata)
        dtype = _dtype(metadata["data_type"])
        _refuse_absurd(shape, chunk, metadata.get("dimension_names"), dtype)
        return _layout(metadata, shape, chunk, dtype), dtype
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        raise DamagedStoreError(
            f"{name}/zarr.json: it describes no array that can be ({error}). Run 'fs verify STORE'; if "
            "it finds nothing, whoever wrote this store is not to be trusted."
        ) from error


def _chunk_shape(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    return tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])


def _dtype(name: object) -> np.dtype[Any]:
    if name == "string":
        return np.dtypes.StringDType()
    if not isinstance(name, str):
        raise TypeError(f"data type {name!r}")
    found = np.dtype(name).newbyteorder("<")
    if found.hasobject or not found.itemsize:
        raise TypeError(f"data type {name!r}")
    return found


def _refuse_absurd(
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    names: Sequence[str] | None,
    dtype: np.dtype[Any],
) -> None:
    for number, least in (*((n, 0) for n in shape), *((n, 1) for n in chunk)):
        if type(number) is not int or number < least:
            raise ValueError(f"shape {list(shape)}, chunks {list(chunk)}")
    if len(chunk) != len(shape) or (names is not None and len(names) != len(shape)):
        raise ValueError(f"shape {list(shape)}, chunks {list(chunk)}, dimensions {names}")
    for size in (shape, chunk):
        if math.prod(size) * dtype.itemsize > _MOST_BYTES:
            raise ValueError(
                f"shape {list(shape)}, chunks {list(chunk)}: more bytes than any disk has"
            )


def _layout(
    metadata: Mapping[str, Any],
    shape: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: np.dtype[Any],
) -> Layout:
    rows = shape[0] if shape else 0
    shard_rows = chunk[0] if chunk else 1
    row_bytes = math.prod(shape[1:]) * dtype.itemsize
    codecs: Sequence[Mapping[str, Any]] = metadata["codecs"]
    other = Layout("other", rows, shard_rows, _inner_rows(codecs, shard_rows), row_bytes)
    if metadata.get("storage_transformers") or not _keys_are_ours(metadata):
        return other
    if dtype.kind == "T":
        plain = [c["name"] for c in codecs] == ["vlen-utf8", "crc32c"]
        one_chunk = len(shape) == 1 and shard_rows >= rows
        return Layout("text", rows, shard_rows, shard_rows, 0) if plain and one_chunk else other
    if not shape or chunk[1:] != shape[1:] or not row_bytes:
        return other
    if _is_plain(codecs, dtype.itemsize):
        return Layout("block", rows, shard_rows, shard_rows, row_bytes)
    if len(codecs) == 1 and codecs[0]["name"] == "sharding_indexed":
        inner = codecs[0]["configuration"]
        if (
            tuple(inner["chunk_shape"]) == (other.inner_rows, *chunk[1:])
            and shard_rows % other.inner_rows == 0
            and inner.get("index_location", "end") == "end"
            and _is_plain(inner["codecs"], dtype.itemsize)
            and _is_plain(inner["index_codecs"], 8)
        ):
            return Layout("rows", rows, shard_rows, other.inner_rows, row_bytes)
    return other


def _inner_rows(codecs: Sequence[Mapping[str, Any]], shard_rows: int) -> int:
    if len(codecs) != 1 or codecs[0]["name"] != "sharding_indexed":
        return shard_rows
    found = codecs[0]["configuration"]["chunk_shape"][0]
    if type(found) is not int or found < 1:
        raise ValueError(f"inner chunks of {found!r} rows")
    return found


def _keys_are_ours(metadata: Mapping[str, Any]) -> bool:
    encoding = metadata.get("chunk_key_encoding", {"name": "default"})
    separator = encoding.get("configuration", {}).get("separator", "/")
    regular = metadata["chunk_grid"].get("name", "regular") == "regular"
    return bool(regular and encoding["name"] == "default" and separator == "/")


def _is_plain(codecs: Sequence[Mapping[str, Any]], itemsize: int) -> bool:
    """Whether the codecs are ``bytes``, little-endian, and ``crc32c``."""
    if [c["name"] for c in codecs] != ["bytes", "crc32c"]:
        return False
    endian = (codecs[0].get("configuration") or {}).get("endian", "little")
    return bool(endian == "little" or itemsize == 1)
