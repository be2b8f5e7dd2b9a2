"""Simulated tracks: accessibility, a mark of enhancers, and counts of transcription starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import MissingDependencyError
from featurestore.sample.long_range.genome import World
from featurestore.sample.long_range.grammar import Scores
from featurestore.sample.long_range.settings import ELEMENT, TRACKS, LongRangeSettings
from featurestore.sample.settings import stream

Floats = NDArray[np.float64]

BIN = 32
"""Bases of a bin of the bigWig files."""

CAGE_SPAN = 128
"""Bases around a TSS over which its starts are spread evenly."""

CAGE_SCALE = 2.5
"""Expected starts per bin of 32 bp and unit of expression, inside the span."""

WIDTH = {"accessibility": 120.0, "enhancer_mark": 250.0}
"""Standard deviation of a peak in bp."""

LEANS = 128.0
"""Bases by which the peaks of an element stand off its middle, to where it points."""

BACKGROUND = {"accessibility": 0.3, "enhancer_mark": 0.3, "cage": 0.01}
"""Expected value of a bin where nothing is."""


def expected_tracks(world: World, contig: int, scores: Scores) -> dict[str, Floats]:
    """Expected values of every track of a contig, shape (bin,) each; the last bin may be short."""
    landscape = world.landscapes[contig]
    bins = -(-landscape.code.size // BIN)
    state, promoter = scores.elements, scores.promoter
    middle = landscape.start + ELEMENT / 2 + LEANS * state.direction
    peaks = {
        "accessibility": (
            np.concatenate([8.0 * (state.activators + state.openers), 12.0 + 6.0 * promoter.sites])
        ),
        "enhancer_mark": np.concatenate([3.0 * state.activators**2, 4.0 + 2.0 * promoter.sites]),
    }
    places = np.concatenate([middle, landscape.tss.astype(np.float64)])
    tracks = {}
    for name in TRACKS[world.name]:
        values = np.full(bins, BACKGROUND[name])
        if name == "cage":
            _add_starts(values, landscape.tss, CAGE_SCALE * scores.expression)
        else:
            _add_peaks(values, places, peaks[name], WIDTH[name])
        tracks[name] = values
    return tracks


def measure_tracks(
    settings: LongRangeSettings, world: World, scores: list[Scores]
) -> dict[str, list[NDArray[np.float32]]]:
    """Poisson counts per bin: track → values of each contig, shape (bin,)."""
    measured: dict[str, list[NDArray[np.float32]]] = {name: [] for name in TRACKS[world.name]}
    for contig, score in enumerate(scores):
        label = world.species.contigs[contig].name
        for name, expected in expected_tracks(world, contig, score).items():
            rng = stream(settings.seed, "long-range track", name, label)
            measured[name].append(rng.poisson(expected).astype(np.float32))
    return measured


def _add_peaks(values: Floats, middles: Floats, heights: Floats, width: float) -> None:
    """Add Gaussian peaks, cut at four standard deviations."""
    reach = int(4 * width / BIN) + 1
    for middle, height in zip(middles.tolist(), heights.tolist(), strict=True):
        at = int(middle // BIN)
        low, high = max(at - reach, 0), min(at + reach + 1, values.size)
        x = (np.arange(low, high) + 0.5) * BIN - middle
        values[low:high] += height * np.exp(-0.5 * (x / width) ** 2)


def _add_starts(values: Floats, tss: NDArray[np.int64], height: Floats) -> None:
    """Spread starts over the bases around each TSS; bins at its edges get their part."""
    for boundary, rate in zip(tss.tolist(), height.tolist(), strict=True):
        start, end = boundary - CAGE_SPAN // 2, boundary + CAGE_SPAN // 2
        for at in range(start // BIN, -(-end // BIN)):
            covered = min(end, (at + 1) * BIN) - max(start, at * BIN)
            values[at] += rate * covered / BIN


def require_bigwig() -> Any:
    """The module pyBigWig.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import pyBigWig
    except ImportError as error:
        raise MissingDependencyError(
            "bigWig files are written with pyBigWig: pip install 'meristem[tracks]'"
        ) from error
    return pyBigWig


def write_bigwig(path: Path, world: World, values: list[NDArray[np.float32]]) -> None:
    """Write one track of a species; every base has a value."""
    sizes = [(contig.name, contig.code.size) for contig in world.species.contigs]
    with require_bigwig().open(str(path), "w") as out:
        out.addHeader(sizes)
        for (name, size), track in zip(sizes, values, strict=True):
            _add_contig(out, name, size, track)


def _add_contig(out: Any, name: str, size: int, track: NDArray[np.float32]) -> None:
    """Runs of equal values become one entry: a third of the bytes of one entry per bin."""
    first = np.flatnonzero(np.diff(track, prepend=np.float32(np.nan)) != 0)
    starts = first * BIN
    ends = np.append(starts[1:], size)
    out.addEntries(
        np.full(starts.size, name),
        starts.astype(np.int64),
        ends=ends.astype(np.int64),
        values=track[first].astype(np.float64),
    )


def tidy_rows(
    world: World, measured: dict[str, list[NDArray[np.float32]]], bins: int = 4
) -> Iterator[tuple[str, str, int, int, str, float]]:
    """The same as rows species, contig, start, end, track, value: means over ``bins`` bins.

    Rows of zero are left out.
    """
    for name, values in measured.items():
        for contig, track in zip(world.species.contigs, values, strict=True):
            whole = track.size // bins * bins
            means = track[:whole].reshape(-1, bins).mean(axis=1, dtype=np.float64)
            for at in np.flatnonzero(means).tolist():
                start = at * bins * BIN
                yield (
                    *(world.name, contig.name, start, start + bins * BIN),
                    *(name, float(means[at])),
                )
