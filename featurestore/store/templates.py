"""Creates the groups and empty arrays of a store: metadata through zarr-python, data by our shard writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from featurestore.schema import BASES_CHUNK, PACKED_ROWS, ArraySpec

ZSTD_LEVEL: Final = 3


class _Folder(LocalStore):
    """A folder that nobody else writes; file systems without hard links will do."""

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        if not await self.exists(key):
            await self.set(key, value)


def create_group(root: Path, path: str, attributes: Mapping[str, Any]) -> None:
    """Create (or overwrite the metadata of) one group; children stay."""
    folder = root / path if path else root
    folder.mkdir(parents=True, exist_ok=True)
    zarr.open_group(_Folder(root), path=path, mode="a", zarr_format=3)
    group = zarr.open_group(_Folder(root), path=path, mode="r+", use_consolidated=False)
    group.attrs.put(dict(attributes))


def _codecs(spec: ArraySpec, dtype: np.dtype[Any], row: tuple[int, ...]) -> dict[str, Any]:
    serializer = BytesCodec(endian="little" if dtype.itemsize > 1 else None)
    if spec.layout in {"rows", "packed"}:
        inner = ShardingCodec(
            chunk_shape=(PACKED_ROWS if spec.layout == "packed" else 1, *row),
            codecs=[serializer, Crc32cCodec()],
            index_codecs=[BytesCodec(endian="little"), Crc32cCodec()],
            index_location="end",
        )
        return {"serializer": inner, "compressors": None}
    if spec.layout == "bases":
        return {
            "serializer": serializer,
            "compressors": [ZstdCodec(level=ZSTD_LEVEL), Crc32cCodec()],
        }
    return {"serializer": serializer, "compressors": [Crc32cCodec()]}


def array_attributes(spec: ArraySpec, further: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of an array: CF names first, then all that decides its values."""
    return {"long_name": spec.doc, **dict(spec.attrs), **further}


def create_array(
    root: Path,
    path: str,
    spec: ArraySpec,
    shape: tuple[int, ...],
    *,
    dtype: str | None = None,
    chunk_rows: int | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Create the metadata of a numeric array; its chunks are written by the shard writer.

    Parameters
    ----------
    path : str
        Path of the array within the store.
    shape : tuple
        Its length must equal that of ``spec.dims``.
    chunk_rows : int
        Genes in one shard or chunk (bases for ``bases``); default the whole axis.
    """
    kind = np.dtype(dtype or spec.dtype)
    dims = spec.dims[: len(shape)] if len(shape) < len(spec.dims) else spec.dims
    rows = BASES_CHUNK if spec.layout == "bases" else chunk_rows or max(shape[0], 1)
    zarr.create_array(
        _Folder(root),
        name=path,
        shape=shape,
        dtype=kind,
        chunks=(rows, *(max(n, 1) for n in shape[1:])),
        filters=None,
        **_codecs(spec, kind, tuple(max(n, 1) for n in shape[1:])),
        fill_value=spec.fill,
        dimension_names=dims,
        attributes=array_attributes(spec, attributes or {}),
        zarr_format=3,
        overwrite=True,
    )


def write_whole(
    root: Path,
    path: str,
    spec: ArraySpec,
    values: NDArray[Any] | Sequence[str],
    attributes: Mapping[str, Any] | None = None,
) -> None:
    """Create an array of ``whole`` layout with its values: one chunk, checksummed."""
    is_text = spec.dtype == "string"
    data: NDArray[Any] = np.array(values, dtype=np.dtypes.StringDType() if is_text else spec.dtype)
    chunks = tuple(max(n, 1) for n in data.shape)
    plain = BytesCodec(endian="little" if not is_text and data.dtype.itemsize > 1 else None)
    array = zarr.create_array(
        _Folder(root),
        name=path,
        shape=data.shape,
        dtype=data.dtype,
        chunks=chunks,
        filters=None,
        serializer="auto" if is_text else plain,
        compressors=[Crc32cCodec()],
        fill_value=spec.fill,
        dimension_names=spec.dims,
        attributes=array_attributes(spec, attributes or {}),
        zarr_format=3,
        overwrite=True,
        config={"write_empty_chunks": True},
    )
    if data.size:
        array[...] = data


def chunk_path(root: Path, path: str, index: Sequence[int]) -> Path:
    """File of one chunk or shard (key encoding ``default``, separator ``/``)."""
    return root.joinpath(path, "c", *(str(i) for i in index))
