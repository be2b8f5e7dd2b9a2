"""Completed tables as files: long form as Parquet, CSV or TSV, wide form as TSV; gene by gene, atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.imputation.complete import MEANINGS, Completion, Filled
from benchmarks.predict.output import SUFFIXES, check_suffix
from featurestore.cells import safe_cell

_KEY = b"meristem"


class Sink(Protocol):
    """What takes a completed table, some genes at a time."""

    def __call__(self, filled: Filled) -> None:
        """Take some genes."""
        ...


def long_table(done: Completion, filled: Filled) -> pd.DataFrame:
    """One row per gene, tissue and genotype.

    Returns
    -------
    DataFrame
        ``species, gene, tissue[, genotype], value, low, high, provenance``
    """
    genes, tissues, genotypes = filled.value.shape
    gene = np.repeat(filled.genes, tissues * genotypes)
    columns: dict[str, Any] = {
        "species": done.genes["species"].to_numpy(object)[gene],
        "gene": done.genes["gene"].to_numpy(object)[gene],
        "tissue": np.tile(np.repeat(np.array(done.tissues, object), genotypes), genes),
    }
    if genotypes > 1:
        columns["genotype"] = np.tile(np.array(done.genotypes, object), genes * tissues)
    columns |= {
        name: getattr(filled, name).ravel() for name in ("value", "low", "high")
    }  # fmt: skip
    columns["provenance"] = np.array(MEANINGS, object)[filled.provenance.ravel()]
    return pd.DataFrame(columns)


def wide_table(done: Completion, filled: Filled) -> pd.DataFrame:
    """One row per gene and genotype, a column for each tissue: values alone."""
    genes, tissues, genotypes = filled.value.shape
    gene = np.repeat(filled.genes, genotypes)
    columns: dict[str, Any] = {"gene": done.genes["gene"].to_numpy(object)[gene]}
    if done.genes["species"].nunique() > 1:
        columns = {"species": done.genes["species"].to_numpy(object)[gene], **columns}
    if genotypes > 1:
        columns["genotype"] = np.tile(np.array(done.genotypes, object), genes)
    values = np.moveaxis(filled.value, 1, 2).reshape(-1, tissues)
    values_by = {name: values[:, i] for i, name in enumerate(done.tissues)}
    return pd.DataFrame({**columns, **values_by})


@contextmanager
def long_file(path: Path, done: Completion, about: Mapping[str, Any]) -> Iterator[Sink]:
    """A file of the long form; it takes its place when all genes are in it."""
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        if path.suffix == ".parquet":
            with _parquet(partial, about) as write:
                yield lambda filled: write(long_table(done, filled))
        else:
            with _text(partial, SUFFIXES[path.suffix]) as write:
                yield lambda filled: write(long_table(done, filled))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def wide_file(path: Path, done: Completion) -> Iterator[Sink]:
    """A file of the wide form, as tables of expression are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        with _text(partial, "," if path.suffix == ".csv" else "\t") as write:
            yield lambda filled: write(wide_table(done, filled))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def _parquet(path: Path, about: Mapping[str, Any]) -> Iterator[Callable[[pd.DataFrame], None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    told = json.dumps(about, sort_keys=True, ensure_ascii=False).encode()
    with ExitStack() as stack:
        writer: Any = None

        def write(table: pd.DataFrame) -> None:
            nonlocal writer
            arrow = pa.Table.from_pandas(table, preserve_index=False)
            schema = arrow.schema.with_metadata({**(arrow.schema.metadata or {}), _KEY: told})
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(path, schema, compression="zstd"))
            writer.write_table(arrow.cast(schema))

        yield write


@contextmanager
def _text(path: Path, separator: str) -> Iterator[Callable[[pd.DataFrame], None]]:
    with path.open("w", encoding="utf-8", newline="") as stream:
        first = True

        def write(table: pd.DataFrame) -> None:
            nonlocal first
            for name in table.columns:
                if table[name].dtype.kind not in "fiu":
                    table[name] = _safe(table[name].to_numpy(object))
            table.columns = [safe_cell(str(name)) for name in table.columns]
            table.to_csv(stream, sep=separator, index=False, header=first, lineterminator="\n")
            first = False

        yield write


def _safe(texts: NDArray[np.object_]) -> NDArray[np.object_]:
    """Cells that no spreadsheet takes for formulas; each distinct one is looked at once."""
    code, names = pd.factorize(texts)
    return np.array([safe_cell(str(name)) for name in names], object)[code]
