"""Tables of predictions as files: Parquet, or CSV and TSV that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pandas as pd

from benchmarks.runs.files import write_atomic
from featurestore.cells import safe_row
from featurestore.errors import InputError

SUFFIXES: Final = {".parquet": "", ".csv": ",", ".tsv": "\t"}
_KEY: Final = b"meristem"


def check_suffix(path: Path) -> None:
    """Refuse a file of another kind, before any work.

    Raises
    ------
    InputError
    """
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: name a file that ends in {', '.join(SUFFIXES)}")


def write_predictions(path: Path, table: pd.DataFrame, about: Mapping[str, Any]) -> None:
    """Write a table, atomically; in Parquet what it came from stands in the metadata key ``meristem``.

    Parameters
    ----------
    path : Path
        ``.parquet``, ``.csv`` or ``.tsv``.
    table : DataFrame
    about : mapping
        Plain JSON: the run, the store, notes.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        write_atomic(path, _parquet(table, about))
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=SUFFIXES[path.suffix], lineterminator="\n")
    writer.writerow(safe_row(table.columns))
    for row in table.itertuples(index=False):
        writer.writerow(safe_row("" if _missing(value) else value for value in row))
    write_atomic(path, buffer.getvalue().encode())


def _missing(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _parquet(table: pd.DataFrame, about: Mapping[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrow = pa.Table.from_pandas(table, preserve_index=False)
    told = json.dumps(about, sort_keys=True, ensure_ascii=False).encode()
    arrow = arrow.replace_schema_metadata({**(arrow.schema.metadata or {}), _KEY: told})
    sink = io.BytesIO()
    pq.write_table(arrow, sink, compression="zstd")
    return sink.getvalue()


def read_about(path: Path) -> dict[str, Any]:
    """What :func:`write_predictions` kept in the metadata of a Parquet file."""
    import pyarrow.parquet as pq

    found: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_KEY, b"{}"))
    return found
