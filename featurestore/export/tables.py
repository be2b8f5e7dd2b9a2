"""``fs export --to parquet|npz|h5ad``: genes and features as files of other tools, a species at a time.

Written shard by shard, so that memory stays flat (npz apart, whose arrays are written one after the
other). Ids stand as they are: these are no files of spreadsheets.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, unknown_name

if TYPE_CHECKING:
    from featurestore.store.reader import Store
    from featurestore.store.source import StoreSource

FORMATS: Final = ("parquet", "npz", "h5ad")
_MOST_COLUMNS: Final = 100_000


@dataclass(frozen=True)
class TableFile:
    """One file that was written."""

    file: str
    rows: int
    columns: int
    bytes: int


class Features:
    """Features of one embedder of one species as a table: a row a gene, a column a number.

    Parameters
    ----------
    per_bin : bool
        Every bin; else the mean over the bins of a region (over those that a gene has).
    """

    def __init__(self, store: Store, species: str, name: str, *, per_bin: bool) -> None:
        self.source: StoreSource = store.feature_source(species, name)
        self.usable = store.feature_status(species, name)
        self.per_bin = per_bin or self.source.kind == "codes"
        self.columns = self._names()
        self.dtype = np.dtype(np.uint8 if self.source.kind == "codes" else np.float32)

    def _names(self) -> list[str]:
        labels = []
        for dim, size in zip(self.source.dims, self.source.shape, strict=True):
            if dim == "bin" and not self.per_bin:
                continue
            given = self.source.coords.get(dim)
            named = given is not None and given.ndim == 1
            labels.append([str(x) for x in given.tolist()] if named and given is not None else [str(i) for i in range(size)])  # fmt: skip
        return [".".join(parts) for parts in product(*labels)]

    def __len__(self) -> int:
        return len(self.source)

    def pieces(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """First row and values, shape (n, column), of each shard; NaN where a gene may not be used."""
        starts = [*self.source.shard_start.tolist(), len(self)]
        for first, last in pairwise(starts):
            rows = np.arange(first, last, dtype=np.int64)
            values = self.source.read(rows)
            if self.source.kind == "bins":
                values = values.astype(np.float32)
                if not self.per_bin:
                    values = self._pooled(values, rows)
                values[~self.usable[rows]] = np.nan
            yield first, np.ascontiguousarray(values.reshape(len(rows), -1))

    def _pooled(self, values: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[Any]:
        held = self.source.row_valid(rows)
        if held is None:
            return np.asarray(values.mean(axis=2, dtype=np.float64), np.float32)
        total = np.where(held[..., None], values, 0).sum(axis=2, dtype=np.float64)
        return np.asarray(total / np.maximum(held.sum(axis=2), 1)[..., None], np.float32)


def export_tables(
    store: Store,
    out: Path,
    form: str,
    *,
    species: Sequence[str] = (),
    embedders: Sequence[str] = (),
    per_bin: bool = False,
    on_file: Callable[[int, int], None] | None = None,
) -> list[TableFile]:
    """Write tables into the folder ``out``: ``<species>.genes`` and ``<species>.<embedder>`` files.

    Parameters
    ----------
    form : {"parquet", "npz", "h5ad"}
        ``h5ad``: one file a species and embedder, the genes as observations.
    embedders : sequence of str
        Default all; ``onehot`` (the codes of the bases) only where it is named.
    per_bin : bool
        Every bin instead of the mean over the bins of a region.

    Raises
    ------
    InputError
        For unknown names, a file that is there already, or more columns than any reader bears.
    """
    if form not in FORMATS:
        raise unknown_name("format", form, FORMATS)
    chosen = [store[s].species for s in species] or store.species
    jobs: list[tuple[Path, Callable[[Path], tuple[int, int]]]] = []
    for name in chosen:
        if form != "h5ad":
            jobs.append((out / f"{name}.genes.{form}", _genes_writer(store, name, form)))
        for embedder in embedders or [e for e in store.embedders(name) if e != "onehot"]:
            features = Features(store, name, embedder, per_bin=per_bin)
            if form == "parquet" and len(features.columns) > _MOST_COLUMNS:
                raise InputError(
                    f"{name}, {embedder}: {len(features.columns):,} columns; leave out --per-bin, or take npz"
                )
            jobs.append(
                (out / f"{name}.{embedder}.{form}", _features_writer(store, name, features, form))
            )
    for path, _ in jobs:
        if path.exists():
            raise InputError(f"{path}: there already; name another folder with --out, or remove it")
    done = []
    for i, (path, write) in enumerate(jobs):
        with _appearing(path) as partial:
            rows, columns = write(partial)
        done.append(TableFile(str(path), rows, columns, path.stat().st_size))
        if on_file:
            on_file(i + 1, len(jobs))
    return done


@contextmanager
def _appearing(path: Path) -> Iterator[Path]:
    """A name to write under; the file takes its own when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def gene_columns(store: Store, species: str) -> dict[str, NDArray[Any]]:
    """Genes and their coordinates by column name, shape (gene,) each."""
    table = store.genes(species)
    columns = {
        "gene": table.gene, "locus": table.locus, "contig": table.contig, "strand": table.strand,
        "tss": table.tss, "tts": table.tts, "family": table.family,
    }  # fmt: skip
    if table.fold is not None:
        columns["fold"] = table.fold
    return columns


def _genes_writer(store: Store, species: str, form: str) -> Callable[[Path], tuple[int, int]]:
    def write(path: Path) -> tuple[int, int]:
        columns = gene_columns(store, species)
        table = store.expression(species)
        if form == "npz":
            arrays: dict[str, Any] = dict(columns)
            if table is not None:
                arrays |= {"expression": table.value, "sample": table.sample}
            _savez(path, arrays)
        else:
            if table is not None:
                columns |= {
                    f"{table.unit}:{s}": table.value[:, i]
                    for i, s in enumerate(table.sample.tolist())
                }
            _write_parquet(path, columns, _told(store, species))
        return len(columns["gene"]), len(columns)

    return write


def _features_writer(
    store: Store, species: str, features: Features, form: str
) -> Callable[[Path], tuple[int, int]]:
    def write(path: Path) -> tuple[int, int]:
        ids = store.text(species, "gene")
        if form == "parquet":
            _stream_parquet(path, ids, features, _told(store, species))
        elif form == "npz":
            _stream_npz(path, ids, features)
        else:
            from featurestore.export.h5ad import write_h5ad

            write_h5ad(path, store, species, features)
        return len(ids), len(features.columns)

    return write


def _told(store: Store, species: str) -> dict[str, str]:
    """What a file says of where it comes from."""
    simulated = str(store.attrs["meristem"]["simulated"]).lower()
    return {
        "meristem.store_digest": store.digest,
        "meristem.species": species,
        "meristem.simulated": simulated,
    }


def _write_parquet(path: Path, columns: dict[str, NDArray[Any]], told: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {
        n: pa.array(v.tolist()) if v.dtype.kind == "U" else pa.array(v) for n, v in columns.items()
    }
    pq.write_table(pa.table(arrays).replace_schema_metadata(told), path)


def _stream_parquet(
    path: Path, ids: NDArray[np.str_], features: Features, told: dict[str, str]
) -> None:
    """A row group a shard."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kind = pa.uint8() if features.dtype == np.uint8 else pa.float32()
    fields = [("gene", pa.string()), *((name, kind) for name in features.columns)]
    schema = pa.schema(fields, metadata=told)
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
        for first, values in features.pieces():
            names = pa.array(ids[first : first + len(values)].tolist(), pa.string())
            columns = [pa.array(np.ascontiguousarray(c)) for c in values.T]
            writer.write_table(pa.Table.from_arrays([names, *columns], schema=schema))


def _savez(path: Path, arrays: dict[str, Any]) -> None:
    """Arrays of numbers and fixed-width text: nothing that would need pickle to be read."""
    assert not any(np.asarray(a).dtype.hasobject for a in arrays.values())  # noqa: S101 - none is made
    with path.open("wb") as file:
        np.savez(file, **arrays)


def _stream_npz(path: Path, ids: NDArray[np.str_], features: Features) -> None:
    """Arrays ``gene``, ``column`` and ``values`` (gene, column), the last one shard by shard."""
    import zipfile

    shape = (len(features), len(features.columns))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in (("gene", ids), ("column", np.array(features.columns, np.str_))):
            with archive.open(_entry(f"{name}.npy"), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
        with archive.open(_entry("values.npy"), "w", force_zip64=True) as file:
            header = {
                "descr": np.lib.format.dtype_to_descr(features.dtype),
                "fortran_order": False,
                "shape": shape,
            }
            np.lib.format.write_array_header_2_0(file, header)
            written = 0
            for _, values in features.pieces():
                file.write(values.tobytes())
                written += values.nbytes
            assert written == math.prod(shape) * features.dtype.itemsize  # noqa: S101 - the header promised it


def _entry(name: str) -> Any:
    """A member of the archive with a date that does not depend on the day: equal data, equal bytes."""
    import zipfile

    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
