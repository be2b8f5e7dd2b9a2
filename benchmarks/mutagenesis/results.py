"""The table of scored changes: its columns, and the files it lies in.

mutagenesis.parquet   one row per change and learner (and target)
measured.parquet      measured effects beside them, where there are any
agreement.parquet     correlations per element, with intervals
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.predict.output import write_predictions
from benchmarks.runs.tables import read_parquet
from featurestore.errors import InputError
from featurestore.sequence.iupac import LETTERS

COLUMNS: Final = (
    "element", "species", "region", "position", "contig", "contig_position", "ref", "alt", "learner",
    "delta", "sd", "folds", "unit", "note",
)  # fmt: skip
"""``element`` a gene or an element; ``position`` bp from the anchor of the region in transcript
direction, of an element the 0-based offset; ``contig_position`` 0-based on the forward strand, −1 where
unknown; ``ref``, ``alt`` in transcript orientation; ``delta`` prediction less that for the reference, in
``unit``; ``sd`` of delta over the folds. ``target`` joins them where a run has several."""

TABLE: Final = "mutagenesis.parquet"
MEASURED: Final = "measured.parquet"
AGREEMENT: Final = "agreement.parquet"

_NEEDED: Final = {
    "mutagenesis": ("element", "region", "position", "ref", "alt", "learner", "delta"),
    "measured": ("element", "position", "ref", "alt"),
    "agreement": (
        "learner", "condition", "variants", "scope", "metric", "value", "ci_low", "ci_high", "n",
    ),
}  # fmt: skip
_NUMBERS: Final = frozenset({"position", "delta", "sd", "value", "ci_low", "ci_high", "n"})


def letters(codes: NDArray[np.uint8]) -> NDArray[np.object_]:
    """Base letters of codes, shape (n,)."""
    return np.array(list(LETTERS), object)[codes]


def with_scores(
    places: pd.DataFrame,
    each: NDArray[np.float64],
    *,
    learner: str,
    unit: str,
    folds: Sequence[int],
    note: str,
    targets: Sequence[str] = ("y",),
) -> pd.DataFrame:
    """Changes with their scores, columns COLUMNS.

    Parameters
    ----------
    places : DataFrame, n rows
        element … alt.
    each : float64 array, shape (fold, n, t)
        Delta by the model of each fold.
    """
    several = len(targets)
    table = places.loc[places.index.repeat(several)].reset_index(drop=True)
    if several > 1:
        table["target"] = np.tile(np.array(targets, object), len(places))
    nothing = np.full(each.shape[1:], np.nan)
    sd = each.std(axis=0, ddof=1) if len(each) > 1 else nothing
    return table.assign(
        learner=learner, delta=each.mean(axis=0).ravel(), sd=sd.ravel(),
        folds=" ".join(map(str, folds)), unit=unit, note=note,
    )  # fmt: skip


def write_results(
    folder: Path,
    table: pd.DataFrame,
    about: Mapping[str, Any],
    measured: pd.DataFrame | None = None,
    agreement: pd.DataFrame | None = None,
) -> None:
    """Write the tables of a folder; those that are not given are taken away."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, found in ((TABLE, table), (MEASURED, measured), (AGREEMENT, agreement)):
        if found is None:
            (folder / name).unlink(missing_ok=True)
        else:
            write_predictions(folder / name, found, about)


def read_results(folder: Path) -> dict[str, pd.DataFrame]:
    """Tables of a folder by name without suffix; empty where nothing was scored.

    Raises
    ------
    InputError
        If a table is damaged, or lacks a column.
    """
    found = {}
    for name in (TABLE, MEASURED, AGREEMENT):
        path = folder / name
        if path.exists():
            found[path.stem] = _checked(read_parquet(path), path)
    return found


def _checked(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """A table that somebody else may have written, its columns there and of their types."""
    lacking = [name for name in _NEEDED[path.stem] if name not in table]
    if lacking:
        raise InputError(f"{path}: lacks the columns {', '.join(lacking)}; score again")
    for name in _NEEDED[path.stem]:
        column = table[name]
        if isinstance(column, pd.DataFrame):
            raise InputError(f"{path}: column {name} is given twice; score again")
        number = column.dtype.kind in "iuf"
        if name == "position" and not (column.dtype.kind in "iu" or column.empty):
            raise InputError(f"{path}: column position holds {column.dtype}, not whole numbers")
        if name in _NUMBERS and not (number or column.isna().all()):
            raise InputError(f"{path}: column {name} holds {column.dtype} where numbers belong")
        if name not in _NUMBERS and not column.map(lambda x: isinstance(x, str)).all():
            raise InputError(f"{path}: column {name} holds {column.dtype} where text belongs")
    return table
