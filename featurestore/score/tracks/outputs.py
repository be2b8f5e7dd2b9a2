"""Scores of tracks as Zarr, Parquet or VCF; each appears whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.score.outputs import number, whole_file
from featurestore.score.records import open_vcf
from featurestore.score.tracks.plan import Row

if TYPE_CHECKING:
    from featurestore.embedders.enformer.track_model import Track

ROW_COLUMNS: Final = (
    "contig", "pos", "id", "ref", "alt", "gene", "distance", "nearest_tss", "status", "reason",
)  # fmt: skip
"""What stands beside the scores of a row; ``reason`` may be a remark on a row that has some."""

NONE: Final = np.iinfo(np.int64).min
"""In the whole-number columns of Zarr: there is none."""

AT_ONCE: Final = 4_000_000
"""Values in memory while an output is written."""


@dataclass
class Result:
    """Everything that was computed.

    Parameters
    ----------
    rows : list of Row
        In the order of the output.
    order : int array, shape (lines,)
        Row of each line of ``values``.
    values : float32 array, shape (lines, arrays · tracks)
        Perhaps on disk.
    arrays : sequence of str
    tracks : sequence of Track
    facts : mapping
    """

    rows: list[Row]
    order: NDArray[np.int64]
    values: NDArray[np.float32]
    arrays: Sequence[str]
    tracks: Sequence[Track]
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._line = np.full(len(self.rows), -1, np.int64)
        self._line[self.order] = np.arange(len(self.order))

    def of(self, start: int, stop: int) -> NDArray[np.float32]:
        """Values of rows, shape (rows, arrays, tracks); NaN where there are none."""
        lines = self._line[start:stop]
        shape = (len(lines), len(self.arrays), len(self.tracks))
        out = np.full((shape[0], shape[1] * shape[2]), np.nan, np.float32)
        out[lines >= 0] = self.values[lines[lines >= 0]]
        return out.reshape(shape)

    @property
    def step(self) -> int:
        """Rows to take at a time."""
        return max(1, AT_ONCE // (len(self.arrays) * len(self.tracks)))

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Rows by pieces that fit the memory."""
        for start in range(0, len(self.rows), self.step):
            yield start, min(start + self.step, len(self.rows))

    def column(self, name: str, start: int = 0, stop: int | None = None) -> list[Any]:
        """One of :data:`ROW_COLUMNS`; None where there is nothing."""
        rows = self.rows[start:stop]
        if name == "status":
            return ["not_scored" if row.reason else "scored" for row in rows]
        if name == "reason":
            return [row.reason or row.remark for row in rows]
        return [getattr(row, name) for row in rows]


def write(result: Result, target: Path, form: str, variants: Path, components: int) -> str:
    """Write the output, and components beside it; gives the file of the latter, or nothing."""
    beside = ""
    if components:
        from featurestore.score.tracks.components import write_components

        beside = str(write_components(result, target, components))
    if form == "zarr":
        _write_zarr(result, target)
    elif form == "parquet":
        _write_parquet(result, target)
    else:
        _write_vcf(result, target, variants)
    return beside


def _write_zarr(result: Result, target: Path) -> None:
    import zarr

    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        root = zarr.open_group(partial, mode="w", zarr_format=3)
        root.attrs["meristem_track_scores"] = dict(result.facts)
        _write_labels(root, result)
        shape = (len(result.rows), len(result.tracks))
        chunks = (max(1, min(result.step, shape[0], 4096)), max(1, min(shape[1], 1024)))
        for name in result.arrays:
            root.create_array(
                name, shape=shape, chunks=chunks, dtype="float32", fill_value=float("nan"),
                dimension_names=("row", "track"),
            )  # fmt: skip
        step = max(chunks[0], result.step // chunks[0] * chunks[0])
        for start in range(0, shape[0], step):
            values = result.of(start, min(start + step, shape[0]))
            for index, name in enumerate(result.arrays):
                root[name][start : start + step] = values[:, index]  # type: ignore[index]
        _take_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_labels(root: Any, result: Result) -> None:
    def add(name: str, values: Any, dimension: str) -> None:
        made = root.create_array(
            name, shape=values.shape, dtype=values.dtype, dimension_names=(dimension,),
            chunks=(max(len(values), 1),),
        )  # fmt: skip
        if len(values):
            made[:] = values

    for name in ROW_COLUMNS:
        column = result.column(name)
        if name in {"pos", "distance", "nearest_tss"}:
            add(name, np.array([NONE if v is None else v for v in column], np.int64), "row")
        else:
            add(name, np.array(column, np.dtypes.StringDType()), "row")
    text = np.dtypes.StringDType()
    add("track", np.array([t.name for t in result.tracks], text), "track")
    add("head", np.array([t.head for t in result.tracks], text), "track")


def _take_place(partial: Path, target: Path) -> None:
    """A folder takes the name of one that may be there."""
    old = target.with_name(f".{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        os.replace(target, old)
    os.replace(partial, target)
    shutil.rmtree(old, ignore_errors=True)


def _write_parquet(result: Result, target: Path) -> None:
    """Long form: a line for each row and track; one without a track for a row without scores."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = parquet_schema(result.arrays, result.facts)
    count = len(result.tracks)
    heads, names = [t.head for t in result.tracks], [t.name for t in result.tracks]
    with whole_file(target) as stream, pq.ParquetWriter(stream, schema, compression="zstd") as out:
        for start, stop in result.pieces():
            values = result.of(start, stop)
            has = np.array([not row.reason for row in result.rows[start:stop]])
            times = np.where(has, count, 1)
            at = np.repeat(np.arange(stop - start), times)
            first = np.cumsum(times) - times
            track = np.arange(len(at)) - first[at]
            columns: dict[str, Any] = {}
            for name in ROW_COLUMNS:
                own = pa.array(result.column(name, start, stop), schema.field(name).type)
                columns[name] = own.take(pa.array(at))
            known = has[at]
            for name, label in (("head", heads), ("track", names)):
                indices = pa.array(track, mask=~known)
                columns[name] = pa.array(label, pa.string()).take(indices)
            for index, name in enumerate(result.arrays):
                columns[name] = pa.array(values[at, index, track], mask=~known)
            out.write_table(pa.table(columns, schema=schema))


def parquet_schema(arrays: Sequence[str], facts: Mapping[str, Any]) -> Any:
    """Columns of the long form."""
    import pyarrow as pa

    whole = {"pos", "distance", "nearest_tss"}
    fields = [(n, pa.int64() if n in whole else pa.string()) for n in ROW_COLUMNS]
    fields += [("head", pa.string()), ("track", pa.string())]
    fields += [(name, pa.float32()) for name in arrays]
    return pa.schema(fields, metadata={"meristem_track_scores": json.dumps(dict(facts), sort_keys=True)})  # fmt: skip


PREFIX: Final = "MERISTEM_TRACK_"
_OURS: Final = re.compile(rb"##(?:meristem_tracks=|INFO=<ID=MERISTEM_TRACK_)")


def info_keys(result: Result) -> list[list[str]]:
    """Key of each array and track: ``MERISTEM_TRACK_SAD_SUM_`` and the track's name."""
    names = [re.sub(r"[^0-9A-Za-z_.]", "_", t.name) for t in result.tracks]
    if len(set(names)) < len(names):
        names = [re.sub(r"[^0-9A-Za-z_.]", "_", t.label) for t in result.tracks]
    if len(set(names)) < len(names):
        names = [f"{i + 1}_{name}" for i, name in enumerate(names)]
    return [[f"{PREFIX}{array.upper()}_{name}" for name in names] for array in result.arrays]


def _write_vcf(result: Result, target: Path, variants: Path) -> None:
    keys = info_keys(result)
    by_gene = any(row.gene for row in result.rows) or bool(result.facts.get("window") == "gene")
    with open_vcf(variants) as vcf, whole_file(target) as stream:
        stream.write(_header(vcf.header, result, keys, by_gene=by_gene))
        at = 0
        for index, record in enumerate(vcf.records):
            start = at
            while at < len(result.rows) and result.rows[at].record == index:
                at += 1
            added = _info(result, keys, start, at, by_gene=by_gene)
            kept = [f for f in record.info.split(b";") if not f.startswith(PREFIX.encode())]
            fields = [*(f for f in kept if f not in {b".", b""}), *added]
            stream.write(record.with_info(b";".join(fields) or b"."))


def _header(
    lines: Sequence[bytes], result: Result, keys: Sequence[Sequence[str]], *, by_gene: bool
) -> bytes:
    kept = [line for line in lines[:-1] if not _OURS.match(line)]
    ending = lines[-1][len(lines[-1].rstrip(b"\r\n")) :] or b"\n"
    if not kept or not kept[0].startswith(b"##fileformat="):
        kept.insert(0, b"##fileformat=VCFv4.2" + ending)
    count = "." if by_gene else "A"
    own = [
        f"##INFO=<ID={PREFIX}NOTE,Number=.,Type=String,"
        'Description="Why an allele has no score, or a remark: allele number, |, gene if any, |, word">'
    ]
    if by_gene:
        own.append(
            f"##INFO=<ID={PREFIX}ROW,Number=.,Type=String,"
            'Description="Allele number, |, gene: what the values of the scores belong to, in order">'
        )
    for array, names in zip(result.arrays, keys, strict=True):
        for track, key in zip(result.tracks, names, strict=True):
            label = track.label.replace("\\", "\\\\").replace('"', '\\"')
            own.append(
                f'##INFO=<ID={key},Number={count},Type=Float,Description="{array} of track {label}">'
            )
    facts = json.dumps(dict(result.facts), sort_keys=True).replace("\\", "\\\\").replace('"', '\\"')
    own.append(f'##meristem_tracks=<ID=scores,Facts="{facts}">')
    return b"".join([*kept, *(line.encode() + ending for line in own), lines[-1]])


def _info(
    result: Result, keys: Sequence[Sequence[str]], start: int, stop: int, *, by_gene: bool
) -> list[bytes]:
    """INFO fields of one record."""
    rows, values = result.rows[start:stop], result.of(start, stop)
    shown = [i for i, row in enumerate(rows) if not by_gene or not row.reason]
    found = []
    if any(not row.reason for row in rows):
        if by_gene:
            labels = ",".join(f"{rows[i].allele + 1}|{_plain(rows[i].gene)}" for i in shown)
            found.append(f"{PREFIX}ROW={labels}")
        for index, names in enumerate(keys):
            for track, key in enumerate(names):
                cells = (values[i, index, track] for i in shown)
                told = ",".join("." if np.isnan(v) else number(float(v)) for v in cells)
                found.append(f"{key}={told}")
    notes = [
        f"{row.allele + 1}|{_plain(row.gene)}|{row.reason or row.remark}"
        for row in rows if row.reason or row.remark
    ]  # fmt: skip
    if notes:
        found.append(f"{PREFIX}NOTE={','.join(notes)}")
    return [field.encode() for field in found]


def _plain(name: str) -> str:
    """A gene's name without what INFO gives a meaning."""
    return re.sub(r"[;,=|\s]", "_", name)
