"""One array in several file formats, each written and read the way its documentation advises."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.schema import PACKED_ROWS, spec_of
from featurestore.store.arrays import StoredArray
from featurestore.store.files import LocalFiles
from featurestore.store.layout import layout_of
from featurestore.store.manifest import Manifest
from featurestore.store.rows import Verify
from featurestore.store.shard import write_packed, write_rows
from featurestore.store.templates import chunk_path, create_array

Rows = NDArray[np.int64]
Values = NDArray[Any]


@dataclass
class Opened:
    """An array that is open for reading; each function gives a new array in memory."""

    take: Callable[[Rows], Values]
    part: Callable[[int, int], Values]
    everything: Callable[[], Values]


@dataclass
class Format:
    """One way of keeping an array.

    Parameters
    ----------
    name : str
        As in the table.
    write : callable
        Writes values anew.
    open : callable
        Opens what was written.
    paths : callable
        Its files.
    """

    name: str
    write: Callable[[Values], object]
    open: Callable[[], Opened]
    paths: Callable[[], Iterable[Path]]


def files_below(folder: Path) -> list[Path]:
    """Every file of a folder."""
    return [p for p in folder.rglob("*") if p.is_file()]


def drop_cached(paths: Iterable[Path]) -> None:
    """Have the system forget the content of files; works where they are flushed and not mapped."""
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


class Ours:
    """The store's own writer and reader.

    Parameters
    ----------
    folder : Path
    shape : tuple
    shard_rows : int
    packed : bool
        Inner chunks of 64 rows rather than one.
    """

    def __init__(
        self, folder: Path, shape: tuple[int, ...], shard_rows: int, *, packed: bool = False
    ) -> None:
        self.folder, self.shard_rows, self.packed = folder, shard_rows, packed
        spec = spec_of("variants/<set>/<embedder>/<output>" if packed else "<embedder>/<output>")
        folder.mkdir(parents=True, exist_ok=True)
        create_array(folder, "a", spec, shape, dtype="float16", chunk_rows=shard_rows)

    def write(self, values: Values, *, durable: bool = False) -> None:
        """Every shard."""
        for shard in range(-(-len(values) // self.shard_rows)):
            rows = values[shard * self.shard_rows : (shard + 1) * self.shard_rows]
            path = chunk_path(self.folder, "a", (shard, *(0,) * (values.ndim - 1)))
            if self.packed:
                write_packed(path, rows, self.shard_rows, PACKED_ROWS, 0, durable=durable)
            else:
                write_rows(path, rows, self.shard_rows, durable=durable)

    def stored(self, verify: Verify) -> StoredArray:
        """The array, opened."""
        files = LocalFiles(self.folder)
        metadata = json.loads(files.read("a/zarr.json"))
        assert layout_of(metadata, "a")[0].kind == "rows"
        return StoredArray(files, "a", metadata, Manifest({}, {}), verify)

    def format(self, name: str, verify: Verify) -> Format:
        """As a format."""

        def opened() -> Opened:
            array = self.stored(verify)
            return Opened(array.take, lambda a, b: array.take(np.arange(a, b)), array.read)

        return Format(name, self.write, opened, lambda: files_below(self.folder))


def memory_map(path: Path, shape: tuple[int, ...]) -> Format:
    """Plain bytes, mapped by numpy: the reference of reads."""

    def opened() -> Opened:
        held = np.memmap(path, "<f2", "r", shape=shape)
        return Opened(
            lambda r: np.asarray(held[r]), lambda a, b: np.array(held[a:b]), lambda: np.array(held)
        )

    def write(values: Values) -> None:
        held = np.memmap(path, "<f2", "w+", shape=shape)
        held[...] = values

    return Format("np.memmap", write, opened, lambda: [path])


def zarr_python(folder: Path, ours: Ours, shape: tuple[int, ...]) -> Format:
    """zarr-python: writes files of its own in our layout, reads ours."""
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

    def write(values: Values) -> None:
        sharding = ShardingCodec(
            chunk_shape=(1, *shape[1:]), codecs=[BytesCodec(endian="little"), Crc32cCodec()]
        )
        array = zarr.create_array(
            zarr.storage.LocalStore(folder), name="a", shape=shape, dtype="float16",
            chunks=(ours.shard_rows, *shape[1:]), serializer=sharding, compressors=None, filters=None,
            overwrite=True,
        )  # fmt: skip
        array[...] = values

    def opened() -> Opened:
        array: Any = zarr.open_array(zarr.storage.LocalStore(ours.folder), path="a", mode="r")
        return Opened(lambda r: array.oindex[r], lambda a, b: array[a:b], lambda: array[...])

    return Format(f"zarr-python {version('zarr')}", write, opened, lambda: files_below(ours.folder))


def tensorstore(folder: Path, ours: Ours, shape: tuple[int, ...]) -> Format:
    """TensorStore: writes files of its own in our layout (without fsync), reads ours."""
    import tensorstore as ts  # type: ignore[import-untyped, unused-ignore]

    plain = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]

    def spec(path: Path) -> dict[str, Any]:
        store = {"driver": "file", "path": f"{path}/"}
        return {"driver": "zarr3", "kvstore": store, "context": {"file_io_sync": False}}

    def write(values: Values) -> None:
        inner = {"chunk_shape": [1, *shape[1:]], "codecs": plain, "index_codecs": plain}
        metadata = {
            "shape": list(shape), "data_type": "float16",
            "chunk_grid": {
                "name": "regular", "configuration": {"chunk_shape": [ours.shard_rows, *shape[1:]]}
            },
            "codecs": [{"name": "sharding_indexed", "configuration": inner}],
        }  # fmt: skip
        array = ts.open(
            {**spec(folder), "metadata": metadata}, create=True, delete_existing=True
        ).result()
        array[...] = values

    def opened() -> Opened:
        array = ts.open(spec(ours.folder / "a")).result()
        return Opened(
            lambda r: array[r].read().result(),
            lambda a, b: array[a:b].read().result(),
            lambda: array.read().result(),
        )

    return Format(
        f"tensorstore {version('tensorstore')}", write, opened, lambda: files_below(ours.folder)
    )


def hdf5(path: Path, shape: tuple[int, ...]) -> Format:
    """HDF5, contiguous; a gather row by row, which is quicker than its selection by a list."""
    import h5py

    def write(values: Values) -> None:
        with h5py.File(path, "w") as file:
            file.create_dataset("a", data=values)

    def opened() -> Opened:
        data: Any = h5py.File(path, "r")["a"]

        def take(rows: Rows) -> Values:
            out = np.empty((len(rows), *shape[1:]), np.float16)
            for place, row in enumerate(rows.tolist()):
                data.read_direct(out, np.s_[row], np.s_[place])
            return out

        return Opened(take, lambda a, b: data[a:b], lambda: data[...])

    return Format(f"HDF5 (h5py {version('h5py')})", write, opened, lambda: [path])


def _table(values: Values) -> Any:
    """Rows as fixed-size binary of an Arrow table, without a copy."""
    import pyarrow as pa

    size = values[0].nbytes
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(size), len(values), [None, pa.py_buffer(values)]
    )
    return pa.table({"a": column})


def _values(column: Any, shape: tuple[int, ...]) -> Values:
    """The array in a fixed-size binary column."""
    parts = []
    for chunk in column.chunks:
        size = chunk.type.byte_width
        buffer = np.frombuffer(chunk.buffers()[1], np.uint8)
        own = buffer[chunk.offset * size : (chunk.offset + len(chunk)) * size]
        parts.append(own.view("<f2").reshape(len(chunk), *shape[1:]))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def arrow(path: Path, shape: tuple[int, ...]) -> Format:
    """Arrow IPC file, mapped."""
    import pyarrow as pa

    def write(values: Values) -> None:
        table = _table(values)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def opened() -> Opened:
        held = _values(pa.ipc.open_file(pa.memory_map(str(path))).read_all()["a"], shape)
        return Opened(lambda r: held[r], lambda a, b: np.array(held[a:b]), lambda: np.array(held))

    return Format(f"Arrow IPC (pyarrow {version('pyarrow')})", write, opened, lambda: [path])


def parquet(path: Path, shape: tuple[int, ...]) -> Format:
    """Parquet, uncompressed, 256 rows in a row group; a gather reads the row groups it needs."""
    import pyarrow.parquet as pq

    group = 256

    def write(values: Values) -> None:
        pq.write_table(
            _table(values), path, row_group_size=group, compression="none", use_dictionary=False,
            write_statistics=False,
        )  # fmt: skip

    def opened() -> Opened:
        file = pq.ParquetFile(path)

        def groups(wanted: list[int]) -> Values:
            return _values(file.read_row_groups(wanted)["a"], shape)

        def take(rows: Rows) -> Values:
            wanted, place = np.unique(rows // group, return_inverse=True)
            found: Values = groups(wanted.tolist())[place * group + rows % group]
            return found

        def part(first: int, last: int) -> Values:
            return groups(list(range(first // group, -(-last // group))))

        return Opened(take, part, lambda: part(0, shape[0]))

    return Format(f"Parquet (pyarrow {version('pyarrow')})", write, opened, lambda: [path])


def lance(folder: Path, shape: tuple[int, ...]) -> Format:
    """Lance."""
    import lance as pylance

    def write(values: Values) -> None:
        pylance.write_dataset(_table(values), folder, mode="overwrite")

    def opened() -> Opened:
        data = pylance.dataset(folder)

        def take(rows: Rows) -> Values:
            return _values(data.take(rows.tolist(), columns=["a"])["a"], shape)

        def part(first: int, last: int) -> Values:
            return _values(data.to_table(offset=first, limit=last - first)["a"], shape)

        return Opened(take, part, lambda: part(0, shape[0]))

    return Format(
        f"Lance (pylance {version('pylance')})", write, opened, lambda: files_below(folder)
    )


_OTHERS: Final = ("zarr", "tensorstore", "h5py", "pyarrow", "parquet", "lance")


def others(root: Path, ours: Ours, shape: tuple[int, ...]) -> tuple[list[Format], list[str]]:
    """The formats of packages that are installed, and which are not."""
    makers: dict[str, Callable[[], Format]] = {
        "zarr": lambda: zarr_python(root / "zarr_python", ours, shape),
        "tensorstore": lambda: tensorstore(root / "tensorstore", ours, shape),
        "h5py": lambda: hdf5(root / "a.h5", shape),
        "pyarrow": lambda: arrow(root / "a.arrow", shape),
        "parquet": lambda: parquet(root / "a.parquet", shape),
        "lance": lambda: lance(root / "a.lance", shape),
    }
    found, missing = [], []
    for name in _OTHERS:
        try:
            found.append(makers[name]())
        except ImportError:
            missing.append(name)
    return found, missing


def remove(paths: Iterable[Path]) -> None:
    """Remove files, so that a writer finds none to overwrite."""
    for path in paths:
        with suppress(FileNotFoundError):
            path.unlink()
