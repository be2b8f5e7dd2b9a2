"""Reads scores of tracks back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.score.tracks.outputs import NONE, ROW_COLUMNS

if TYPE_CHECKING:
    import pandas as pd


@dataclass
class TrackScores:
    """Scores of tracks in memory.

    Parameters
    ----------
    rows : DataFrame
        ``contig, pos (1-based), id, ref, alt, gene, distance, nearest_tss, status, reason``; whole
        numbers are NaN where there is none.
    tracks : sequence of str
        ``head:name`` of each.
    values : mapping of score (``sad_sum`` …) to float32 array, shape (row, track)
        NaN where a row has none.
    facts : mapping
        How they were made.
    """

    rows: pd.DataFrame
    tracks: Sequence[str]
    values: Mapping[str, NDArray[np.float32]]
    facts: Mapping[str, Any]


def read_scores(path: Path | str) -> TrackScores:
    """What ``fs score`` wrote as ``.zarr`` or ``.parquet``, the components beside it as well.

    Raises
    ------
    InputError
        If it is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: not found; give what fs score --embedder enformer --out wrote")
    if path.is_dir():
        return _from_zarr(path)
    if path.suffix == ".parquet":
        return _from_parquet(path)
    raise InputError(f"{path}: give scores of tracks as .zarr or .parquet")


def _from_zarr(path: Path) -> TrackScores:
    import pandas as pd
    import zarr

    try:
        root: Any = zarr.open_group(path, mode="r")
    except (FileNotFoundError, ValueError) as error:
        raise InputError(f"{path}: is no Zarr group: {error}") from error
    facts = root.attrs.get("meristem_track_scores")
    if not isinstance(facts, dict):
        raise InputError(f"{path}: a Zarr group, but not of scores of tracks")
    columns: dict[str, Any] = {}
    for name in ROW_COLUMNS:
        found = root[name][:]
        if name in {"distance", "nearest_tss"}:
            found = np.where(found == NONE, np.nan, found.astype(np.float64))
        columns[name] = found if found.dtype.kind in "if" else found.astype(object)
    tracks = [f"{h}:{t}" for h, t in zip(root["head"][:], root["track"][:], strict=True)]
    values = {name: root[name][:] for name in facts["scores"]}
    return TrackScores(pd.DataFrame(columns), tracks, values, facts)


def _from_parquet(path: Path) -> TrackScores:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: is no Parquet file: {error}") from error
    about = (table.schema.metadata or {}).get(b"meristem_track_scores")
    if about is None:
        raise InputError(f"{path}: a Parquet file, but not of scores of tracks")
    facts = json.loads(about)
    label = [
        "" if track is None else f"{head}:{track}"
        for head, track in zip(
            table.column("head").to_pylist(), table.column("track").to_pylist(), strict=True
        )
    ]
    tracks = list(dict.fromkeys(t for t in label if t))
    number = {track: i for i, track in enumerate(tracks)}
    column = np.array([number.get(t, -1) for t in label], np.int64)
    # A row's lines stand together, its tracks in one order, so a row begins at the first or at none.
    starts = column <= 0
    row = np.cumsum(starts) - 1
    rows = table.select(list(ROW_COLUMNS)).take(pa.array(np.flatnonzero(starts))).to_pandas()
    values = {}
    for name in facts["scores"]:
        cells = np.full((len(rows), len(tracks)), np.nan, np.float32)
        own = table.column(name).to_numpy(zero_copy_only=False)
        known = column >= 0
        cells[row[known], column[known]] = own[known]
        values[name] = cells
    return TrackScores(rows, tracks, values, facts)
