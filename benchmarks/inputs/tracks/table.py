"""The table that names tracks: a bigWig file each, or all of their values in tidy form."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd

from featurestore.errors import InputFileNotFoundError, did_you_mean
from featurestore.inputs.problems import Problems, examples
from featurestore.inputs.tables import MISSING, Table, read_table

COLUMNS: Final = ("track", "species", "file")
OPTIONAL: Final = ("unit", "strand", "pair", "scale", "clip", "missing")
TIDY: Final = ("species", "contig", "start", "end", "track", "value")
TIDY_OPTIONAL: Final = ("unit", "strand", "pair", "missing")

_STRANDS: Final = {"+": 1, "-": -1, "−": -1, ".": 0, "": 0}
_OF_STRAND: Final = re.compile(
    r"[._-]?(plus|minus|forward|reverse|fwd|rev|pos|neg|\+|-)$", re.IGNORECASE
)


@dataclass(frozen=True)
class TrackSpec:
    """One track of one species.

    Parameters
    ----------
    track, species : str
    strand : {1, -1, 0}
        Of the transcripts that it measures; 0 for both or neither.
    pair : str
        What it shares with the track of the other strand; empty where it has no strand.
    unknown : bool
        Whether bases without a value are unknown, not 0.
    file : Path or None
        A bigWig file; None where the values stand in the table.
    place : str
        Line of the table, for messages.
    """

    track: str
    species: str
    unit: str = ""
    strand: int = 0
    pair: str = ""
    scale: float = 1.0
    clip: float | None = None
    unknown: bool = False
    file: Path | None = None
    place: str = ""

    def identity(self) -> dict[str, Any]:
        """What decides how its values are read, but for the values."""
        return {
            "track": self.track, "species": self.species, "unit": self.unit,
            "strand": self.strand, "scale": self.scale, "clip": self.clip,
            "missing": "nan" if self.unknown else "zero",
        }  # fmt: skip


@dataclass(frozen=True)
class TrackTable:
    """Tracks in the order of the table; ``values`` are the rows of a tidy one."""

    path: Path
    specs: tuple[TrackSpec, ...]
    values: pd.DataFrame | None = None


def read_track_table(path: Path, problems: Problems) -> TrackTable | None:
    """Read a table of tracks; what is wrong joins ``problems``, None where nothing can be made of it.

    Raises
    ------
    InputFileNotFoundError
        If there is no such file.
    """
    if not path.is_file():
        raise InputFileNotFoundError(f"--tracks {path}: no such file")
    if path.suffix == ".parquet":
        from benchmarks.runs.tables import read_parquet

        return _tidy(path, read_parquet(path), problems)
    header = _header(path)
    if "value" in header and "file" not in header:
        return _tidy(path, _read_text(path), problems)
    table = read_table(path, problems)
    return None if table is None else _files(table, problems)


def _header(path: Path) -> list[str]:
    import gzip

    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
    with gzip.open(path, "rt") if packed else path.open() as text:
        for line in text:
            if line.strip() and not line.startswith("##"):
                return [cell.strip().lstrip("#") for cell in re.split(r"[\t,;]", line.strip())]
    return []


def _read_text(path: Path) -> pd.DataFrame:
    from featurestore.errors import InputError

    try:
        found: pd.DataFrame = pd.read_csv(
            path, sep="\t", dtype=dict.fromkeys((*TIDY[:2], "track", *TIDY_OPTIONAL), str),
            keep_default_na=False, na_values={"value": ["", "NA", "nan", "NaN"]},
        )  # fmt: skip
    except (pd.errors.ParserError, UnicodeDecodeError, OSError, EOFError) as error:
        raise InputError(f"{path}: not a readable table with tabs ({error})") from error
    return found


def _lacking(path: Path, needed: Sequence[str], have: Sequence[str], problems: Problems) -> bool:
    """Tell of columns that are not there."""
    lacking = [name for name in needed if name not in have]
    if lacking:
        problems.add(
            path,
            f"no column {', '.join(lacking)}; the header is {examples(map(repr, have), 8)}."
            f"{did_you_mean(lacking[0], have)}",
            f"name the columns {', '.join(COLUMNS)} (bigWig files) or {', '.join(TIDY)} (values)",
            "header",
        )
    return bool(lacking)


def _files(table: Table, problems: Problems) -> TrackTable | None:
    names = [name.strip().lstrip("#") for name in table.header]
    if _lacking(table.path, COLUMNS, names, problems):
        return None
    strange = [name for name in names if name not in (*COLUMNS, *OPTIONAL)]
    for name in strange:
        problems.add(
            table.path,
            f"column {name!r} says nothing to this task.{did_you_mean(name, [*COLUMNS, *OPTIONAL])}",
            f"columns are {', '.join((*COLUMNS, *OPTIONAL))}; leave others out",
            "header",
        )
    specs = []
    for line, cells in zip(table.line, table.rows(), strict=True):
        row = dict(zip(names, (cell.strip() for cell in cells), strict=True))
        spec = _spec(table.path, f"line {line}", row, problems)
        if spec is not None:
            specs.append(spec)
    return _whole(table.path, specs, None, problems)


def _spec(
    path: Path, place: str, row: Mapping[str, str], problems: Problems
) -> TrackSpec | None:  # fmt: skip
    """One row of the table, None where it is not to be used."""
    before = len(problems.items)
    for name in ("track", "species"):
        if not row[name]:
            problems.add(path, f"no {name}", "give each track its name and species", place)
    if "/" in row["track"]:
        problems.add(path, f"track {row['track']!r} has a /", "leave it out of the name", place)
    strand = _strand(path, place, row.get("strand", ""), problems)
    scale = _number(path, place, "scale", row.get("scale", ""), problems)
    clip = _number(path, place, "clip", row.get("clip", ""), problems)
    if clip is not None and clip <= 0:
        problems.add(path, f"clip {clip:g}", "give the largest value, above 0, or nothing", place)
    if scale == 0:
        problems.add(path, "scale 0 leaves nothing", "give another multiplier, or nothing", place)
    unknown = _unknown(path, place, row.get("missing", ""), problems)
    file = None
    if "file" in row:
        file = path.parent / row["file"]
        if not row["file"] or not file.is_file():
            problems.add(
                path, f"no file {row['file']!r}", f"it is looked for as {file}, beside the table",
                place,
            )  # fmt: skip
    if len(problems.items) > before:
        return None
    pair = row.get("pair", "") or _OF_STRAND.sub("", row["track"])
    return TrackSpec(
        row["track"], row["species"], row.get("unit", ""), strand, pair if strand else "",
        1.0 if scale is None else scale, clip, unknown, file, place,
    )  # fmt: skip


def _strand(path: Path, place: str, text: str, problems: Problems) -> int:
    if text not in _STRANDS:
        problems.add(path, f"strand {text!r}", "write +, - or . (both or neither)", place)
    return _STRANDS.get(text, 0)


def _unknown(path: Path, place: str, text: str, problems: Problems) -> bool:
    if text.lower() not in ("", "zero", "0", "nan"):
        problems.add(
            path, f"missing {text!r}",
            "write zero (bases without a value count as 0) or nan (they are not known)", place,
        )  # fmt: skip
    return text.lower() == "nan"


def _number(
    path: Path, place: str, name: str, text: str, problems: Problems
) -> float | None:  # fmt: skip
    if text in MISSING:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        problems.add(path, f"{name} {text!r} is no number", "give a number, or nothing", place)
        return None
    return value


def _tidy(path: Path, values: pd.DataFrame, problems: Problems) -> TrackTable | None:
    values = values.rename(columns=lambda name: str(name).strip().lstrip("#"))
    if _lacking(path, TIDY, list(values.columns), problems):
        return None
    specs = []
    values = values.assign(_row=range(len(values)))
    more = [name for name in TIDY_OPTIONAL if name in values]
    for (species, track), part in values.groupby(["species", "track"], sort=False, dropna=False):
        first = part.iloc[0]
        place = f"line {int(first['_row']) + 2}"
        row = {"species": str(species), "track": str(track), **{n: str(first[n]) for n in more}}
        for name in more:
            if part[name].nunique(dropna=False) > 1:
                told = examples(map(repr, part[name].unique()))
                problems.add(
                    path, f"track {track!r} of {species} has several {name}: {told}",
                    f"give all of its rows one {name}", place,
                )  # fmt: skip
        spec = _spec(path, place, row, problems)
        if spec is not None:
            specs.append(spec)
    return _whole(path, specs, values, problems)


def _whole(
    path: Path, specs: Sequence[TrackSpec], values: pd.DataFrame | None, problems: Problems
) -> TrackTable:
    """Hold the tracks against one another."""
    if not specs and not problems.items:
        problems.add(path, "no track", "give one row for each track of each species")
    first: dict[tuple[str, str], TrackSpec] = {}
    for spec in specs:
        known = first.setdefault((spec.species, spec.track), spec)
        if known is not spec:
            problems.add(
                path,
                f"track {spec.track!r} of {spec.species} stands in {known.place} as well",
                "give each track of a species its own name",
                spec.place,
            )
    for spec in specs:
        partners = [
            one for one in specs
            if spec.strand and one.species == spec.species and one.pair == spec.pair
            and one.strand == -spec.strand
        ]  # fmt: skip
        if spec.strand and len(partners) != 1:
            problems.add(
                path,
                f"track {spec.track!r} of {spec.species} has a strand and {len(partners)} tracks of the "
                f"other strand named {spec.pair!r}; turned windows exchange the two",
                "name both alike but for plus and minus, or give both the same cell in a column pair",
                spec.place,
            )
    return TrackTable(path, tuple(specs), values)
