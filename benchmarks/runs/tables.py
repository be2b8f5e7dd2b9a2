"""Reads Parquet tables that somebody else may have written: size, columns and types are held first."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pandas as pd

from featurestore.errors import InputError
from featurestore.untrusted import open_file

LARGEST_TABLE: Final = 1 << 28
"""Bytes that a Parquet file may always unfold to …"""

LARGEST_RATIO: Final = 1000
"""… and how many times its own size beyond that: a run-length code of one value has no bound."""

_TEXT: Final = (
    "gene", "species", "family", "metric", "scope", "state", "params", "error",
    "line", "haplotype", "feature", "region", "pretrained_species",
)  # fmt: skip
_NUMBERS: Final = (
    "y_true", "y_pred", "repeat", "fold", "value", "ci_low", "ci_high", "n", "n_families", "step",
    "train", "valid", "trial", "best", "seconds", "last_step", "delta_obs", "delta_pred",
    "bin", "bin_start", "mean_abs_shap",
)  # fmt: skip
_NEEDED: Final = {
    "predictions": ("gene", "species", "family", "repeat", "fold", "y_true", "y_pred"),
    "metrics": ("metric", "scope", "value"),
    "learning": ("repeat", "fold", "step", "train", "valid"),
    "importance": ("target", "feature", "region", "bin", "bin_start", "mean_abs_shap", "n"),
    "trials": ("repeat", "fold", "trial", "state", "value", "best", "params"),
}
COMPACT: Final = ("gene", "species", "family", "contig", "sample", "mask")
"""Texts of a table of imputed entries."""

_WIDTH: Final = 16
"""Bytes of a value in memory, at least: a text in pandas takes more."""


def read_parquet(path: Path, *, compact: bool = False) -> pd.DataFrame:
    """A Parquet file as a table.

    ``compact`` gives the texts of a table of imputed entries as categories: it has millions of rows.

    Raises
    ------
    InputError
        If it is no Parquet file, is damaged, or would take far more memory than its size says.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with open_file(path) as stream:
            size = path.stat().st_size
            file = pq.ParquetFile(stream)
            _check_size(path, size, file.metadata)
            if compact and set(COMPACT) <= set(file.schema_arrow.names):
                file = pq.ParquetFile(stream, read_dictionary=list(COMPACT))
            table: pd.DataFrame = file.read().to_pandas()
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        told = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(f"{path}: not a readable Parquet file ({told[:300]})") from error
    return table


def _check_size(path: Path, size: int, metadata: object) -> None:
    rows, columns = int(metadata.num_rows), int(metadata.num_columns)  # type: ignore[attr-defined]
    memory = rows * columns * _WIDTH
    if memory > max(LARGEST_TABLE, LARGEST_RATIO * size):
        raise InputError(
            f"{path}: its {size:,} bytes stand for {rows:,} rows of {columns:,} columns, over "
            f"{LARGEST_RATIO} times as much, which no real table does"
        )


def read_result(path: Path, name: str) -> pd.DataFrame:
    """A table of a run, its columns there and of their types.

    Raises
    ------
    InputError
        Naming the column.
    """
    table = read_parquet(path, compact=name == "predictions")
    if repeated := sorted({str(c) for c in table.columns[table.columns.duplicated()]}):
        raise InputError(f"{path}: columns given twice: {', '.join(repeated)[:200]}")
    lacking = [column for column in _NEEDED[name] if column not in table]
    if lacking:
        raise InputError(f"{path}: lacks the columns {', '.join(lacking)}; run it again")
    for column in table.columns:
        kind = table[column].dtype
        if column in _NUMBERS and not (kind.kind in "iuf" or table[column].isna().all()):
            raise InputError(f"{path}: column {column} holds {kind} where numbers belong")
        if column in _TEXT and not _all_text(table[column]):
            raise InputError(f"{path}: column {column} holds {kind} where text belongs")
    return table


def _all_text(column: pd.Series[Any]) -> bool:
    """Whether a column holds text or nothing; each category of a categorical is looked at once."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return all(map(_is_text, column.cat.categories))
    return isinstance(column.dtype, pd.StringDtype) or bool(column.map(_is_text).all())


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str) or value != value
