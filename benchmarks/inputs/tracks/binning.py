"""Values of intervals as means over bins: bins of one size from base 0 of each contig on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.tracks.table import TrackSpec
from featurestore.errors import MissingDependencyError
from featurestore.inputs.problems import Problems, examples

Floats = NDArray[np.float64]
Means = NDArray[np.float32]

UNKNOWN: Final = -1.0
"""Where a bin has no value that is known."""

_AT_ONCE: Final = 1 << 22
"""Bases of a bigWig file that are held at a time, about."""


@dataclass
class Told:
    """What is to be said of the files: contigs of the genome that they lack, values that were cut."""

    lacking: dict[str, list[str]] = field(default_factory=dict)


def bin_count(length: int, size: int) -> int:
    """Bins of a contig; the last may be short."""
    return -(-length // size)


def read_bigwig(
    spec: TrackSpec, contigs: Mapping[str, int], size: int, problems: Problems, told: Told
) -> Iterator[tuple[str, Means]]:
    """Means of a bigWig file over bins, contig by contig, for those that it has."""
    assert spec.file is not None  # noqa: S101 - what the caller looks at
    with _opened(spec.file, problems) as found:
        if found is None:
            return
        lengths: dict[str, int] = dict(found.chroms())
        if not _meet(spec.file, spec, lengths, contigs, problems):
            return
        absent = [name for name in contigs if name not in lengths]
        if absent:
            told.lacking[f"{spec.species} {spec.track}"] = absent
        for name, length in contigs.items():
            if name in lengths:
                yield name, _contig_means(found, spec, name, length, size, problems)


class _opened:  # noqa: N801 - reads as what it does
    """An open bigWig file, None where it is none."""

    def __init__(self, path: Path, problems: Problems) -> None:
        try:
            import pyBigWig
        except ImportError as error:
            raise MissingDependencyError(
                "bigWig files are read with pyBigWig: pip install 'meristem[tracks]'"
            ) from error
        self._file: Any = None
        try:
            self._file = pyBigWig.open(str(path))
            good = bool(self._file is not None and self._file.isBigWig())
        except RuntimeError:
            good = False
        if not good:
            problems.add(path, "not a readable bigWig file", "write it again, or leave its row out")
            self._close()

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> Any:
        return self._file

    def __exit__(self, *_: object) -> None:
        self._close()


def _meet(
    file: Path, spec: TrackSpec, lengths: Mapping[str, int], contigs: Mapping[str, int],
    problems: Problems,
) -> bool:  # fmt: skip
    """Whether the contigs of a file are those of the genome; tells where they are not."""
    strange = [name for name in lengths if name not in contigs]
    if strange:
        problems.add(
            file,
            f"contigs {examples(map(repr, strange))} are not in the genome of {spec.species}, which "
            f"has {examples(map(repr, contigs))}",
            "name contigs as the genome does, and leave out those that it lacks",
        )
    other = [
        f"{name} ({length:,} bp, in the genome {contigs[name]:,})"
        for name, length in lengths.items()
        if name in contigs and contigs[name] != length
    ]
    if other:
        problems.add(
            file,
            f"contigs of other length than in the genome of {spec.species}: {examples(other)}",
            "use tracks of this assembly",
        )
    return not strange and not other


def _contig_means(
    found: Any, spec: TrackSpec, name: str, length: int, size: int, problems: Problems
) -> Means:
    """Means of one contig, read a few million bases at a time."""
    out = np.empty(bin_count(length, size), np.float32)
    step = max(_AT_ONCE // size, 1) * size
    for start in range(0, length, step):
        end = min(start + step, length)
        values = np.asarray(found.values(name, start, end, numpy=True), np.float64)
        known = ~np.isnan(values)
        if not _good(values[known] * spec.scale):
            _tell_bad(spec, name, start, values, problems)
            values[:] = 0
        count = bin_count(end - start, size)
        padded = np.zeros((2, count * size))
        padded[0, : len(values)] = np.where(known, values, 0.0)
        padded[1, : len(values)] = known if spec.unknown else 1.0
        sums = padded.reshape(2, count, size).sum(axis=2)
        out[start // size : start // size + count] = finished(sums[0], sums[1], spec)
    return out


def finished(total: Floats, bases: Floats, spec: TrackSpec) -> Means:
    """Sums over bins as means: scaled, then clipped; −1 where no base has a known value."""
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = spec.scale * total / bases
    if spec.clip is not None:
        mean = np.minimum(mean, spec.clip)
    return np.where(bases > 0, mean, UNKNOWN).astype(np.float32)


def _good(values: Floats) -> bool:
    return bool(np.isfinite(values).all() and (values >= 0).all())


def _tell_bad(spec: TrackSpec, contig: str, start: int, values: Floats, problems: Problems) -> None:
    at = int(
        np.flatnonzero(~(np.isnan(values) | ((values * spec.scale) >= 0)) | np.isinf(values))[0]
    )
    scaled = f" (times scale {spec.scale:g})" if spec.scale != 1 else ""
    problems.add(
        spec.file,
        f"value {values[at]:g}{scaled} at base {start + at + 1:,}; tracks are amounts, finite and not "
        "negative",
        "write amounts, not logarithms or differences; for a reverse strand kept as negative numbers "
        "give scale -1",
        f"contig {contig}",
    )


def read_tidy(
    specs: Sequence[TrackSpec], values: pd.DataFrame, path: Path,
    contigs: Mapping[str, Mapping[str, int]], size: int, problems: Problems,
) -> Iterator[tuple[TrackSpec, str, Means]]:  # fmt: skip
    """Means of the rows of a tidy table over bins: track, contig, values, for contigs that have rows."""
    by_name = {(spec.species, spec.track): spec for spec in specs}
    line = values["_row"].to_numpy(np.int64) + 2
    start, end, value = (
        pd.to_numeric(values[name], errors="coerce").to_numpy(np.float64)
        for name in ("start", "end", "value")
    )

    def tell(bad: NDArray[np.bool_], what: Callable[[int], str], mend: str) -> bool:
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            more = int(bad.sum()) - 1
            and_more = f" and {more:,} more" if more else ""
            problems.add(path, what(i), mend, f"line {line[i]}{and_more}")
        return not bad.any()

    fine = tell(
        ~((start >= 0) & (end > start) & np.isfinite(end) & (start % 1 == 0) & (end % 1 == 0)),
        lambda i: f"start {values['start'].iloc[i]} and end {values['end'].iloc[i]}",
        "give whole numbers, 0-based and half-open: 0 ≤ start < end",
    )
    fine &= tell(
        ~(np.isfinite(value) & (value >= 0)),
        lambda i: f"value {values['value'].iloc[i]}",
        "tracks are amounts: give finite numbers that are not negative, and leave out rows without one",
    )
    if not fine:
        return
    keys = ["species", "track", "contig"]
    for name, rows in values.groupby(keys, sort=False).indices.items():
        species, track, contig = map(str, cast("tuple[Any, ...]", name))
        spec, known = by_name.get((species, track)), contigs.get(species, {})
        if spec is None or not known:
            continue
        if contig not in known:
            problems.add(
                path, f"contig {contig!r} is not in the genome of {species}, which has "
                f"{examples(map(repr, known))}",
                "name contigs as the genome does, and leave out those that it lacks",
                f"line {line[rows[0]]}",
            )  # fmt: skip
            continue
        order = rows[np.argsort(start[rows], kind="stable")]
        low, high = start[order].astype(np.int64), end[order].astype(np.int64)
        length = known[contig]
        if _placed(path, track, contig, length, low, high, line[order], problems):
            yield spec, contig, interval_means(low, high, value[order], length, size, spec)


def _placed(
    path: Path, track: str, contig: str, length: int, low: NDArray[np.int64],
    high: NDArray[np.int64], line: NDArray[np.int64], problems: Problems,
) -> bool:  # fmt: skip
    """Whether sorted intervals lie on their contig, apart from one another; tells where not."""
    over = np.flatnonzero(high > length)
    if len(over):
        i = int(over[0])
        problems.add(
            path, f"end {high[i]:,} lies off {contig}, which has {length:,} bp",
            "use tracks of this assembly", f"line {line[i]}",
        )  # fmt: skip
    close = np.flatnonzero(low[1:] < high[:-1])
    if len(close):
        i = int(close[0])
        problems.add(
            path,
            f"track {track!r}: {contig}:{low[i + 1]:,}-{high[i + 1]:,} overlaps "
            f"{low[i]:,}-{high[i]:,} of line {line[i]}",
            "give each base of a track one value at most",
            f"line {line[i + 1]}",
        )
    return not len(over) and not len(close)


def interval_means(
    low: NDArray[np.int64], high: NDArray[np.int64], value: Floats, length: int, size: int,
    spec: TrackSpec,
) -> Means:  # fmt: skip
    """Means over bins of intervals that do not overlap."""
    count = bin_count(length, size)
    first, last = low // size, (high - 1) // size
    spans = last - first + 1
    of = np.repeat(np.arange(len(low)), spans)
    at = np.arange(len(of)) - np.repeat(np.cumsum(spans) - spans, spans) + first[of]
    covered = np.minimum(high[of], (at + 1) * size) - np.maximum(low[of], at * size)
    total = np.bincount(at, covered * value[of], minlength=count).astype(np.float64)
    if spec.unknown:
        bases = np.bincount(at, covered, minlength=count).astype(np.float64)
    else:
        bases = np.minimum(size, length - np.arange(count) * size).astype(np.float64)
    return finished(total, bases, spec)
