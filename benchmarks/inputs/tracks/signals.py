"""Binned tracks of several species, held in memory, or in a temporary file where they are large."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs.tracks.binning import UNKNOWN, Told, bin_count, read_bigwig, read_tidy
from benchmarks.inputs.tracks.table import TrackSpec, TrackTable, read_track_table
from featurestore.errors import InputError, did_you_mean
from featurestore.inputs.problems import Problems, examples

Means = NDArray[np.float32]

LARGE: Final = 1 << 28
"""Bytes of one species from which on its bins lie in a temporary file and not in memory."""

_ROWS: Final = 1 << 20
"""Bins that are digested at a time."""


@dataclass(frozen=True)
class SpeciesSignal:
    """All tracks of one species.

    Parameters
    ----------
    length : mapping of contig to bp, in the order of the bins
    first : mapping of contig to the row of its first bin
    values : float32 array, shape (bin, track)
        Means; −1 where the value is not known.
    columns : slice
        Place of the tracks among those of all species.
    """

    length: Mapping[str, int]
    first: Mapping[str, int]
    values: Means
    columns: slice

    def bins(self, contig: str, size: int) -> int:
        """Bins of a contig."""
        return bin_count(self.length[contig], size)


@dataclass(frozen=True)
class Signals:
    """Tracks of several species over bins.

    Parameters
    ----------
    bin_bp : int
    tracks : tuple of TrackSpec
        Those of one species stand together.
    species : mapping of species to SpeciesSignal
    notes : tuple of str
        What a reader of scores has to know of the values.
    """

    bin_bp: int
    tracks: tuple[TrackSpec, ...]
    species: Mapping[str, SpeciesSignal]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each track; one name may stand for tracks of several species."""
        return tuple(spec.track for spec in self.tracks)

    @property
    def head_of(self) -> tuple[str, ...]:
        """Species of each track."""
        return tuple(spec.species for spec in self.tracks)

    @property
    def strand_of(self) -> NDArray[np.int64]:
        """Strand of each track: 1, −1, 0."""
        return np.array([spec.strand for spec in self.tracks], np.int64)

    @cached_property
    def opposite(self) -> tuple[int, ...]:
        """Of each track the one that it becomes where the sequence is turned; itself without strand."""
        place = {(s.species, s.pair, s.strand): i for i, s in enumerate(self.tracks) if s.strand}
        return tuple(
            place[s.species, s.pair, -s.strand] if s.strand else i
            for i, s in enumerate(self.tracks)
        )

    def read(self, species: str, contig: str, start: int, bins: int) -> Means:
        """Bins of a stretch, all tracks.

        Parameters
        ----------
        start : int
            First bin; may lie off the contig, as may the last.

        Returns
        -------
        float32 array, shape (bins, track), a new one
            −1 off the contig, and in tracks of other species.
        """
        out = np.full((bins, len(self.tracks)), UNKNOWN, np.float32)
        here = self.species[species]
        low, high = max(start, 0), min(start + bins, here.bins(contig, self.bin_bp))
        if low < high:
            at = here.first[contig]
            out[low - start : high - start, here.columns] = here.values[at + low : at + high]
        return out

    @cached_property
    def digest(self) -> str:
        """Sha256 of tracks, contigs and values."""
        sha = hashlib.sha256(str(self.bin_bp).encode())
        for name, one in self.species.items():
            specs = [spec.identity() for spec in self.tracks[one.columns]]
            sha.update(json.dumps([name, specs, dict(one.length)], sort_keys=True).encode())
            for start in range(0, len(one.values), _ROWS):
                sha.update(one.values[start : start + _ROWS].astype("<f4").tobytes())
        return sha.hexdigest()

    def identity(self) -> dict[str, Any]:
        """What the values add to the identity of a run."""
        return {
            "digest": self.digest, "bin": self.bin_bp,
            "names": [f"{spec.species}:{spec.track}" for spec in self.tracks],
        }  # fmt: skip


def read_signals(
    path: Path,
    contigs: Mapping[str, Mapping[str, int]],
    known: Sequence[str],
    bin_bp: int = 128,
) -> Signals:
    """Read a table of tracks and all values it names.

    Parameters
    ----------
    path : Path
        See :mod:`benchmarks.inputs.tracks.table`.
    contigs : mapping of species to lengths of its contigs in bp
        Of the species that are asked for.
    known : sequence of str
        All species of the store: tracks of those that are not asked for are left out.
    bin_bp : int

    Raises
    ------
    DataSetError
        With everything that is wrong.
    InputError
        If no species that is asked for has a track.
    """
    problems, told = Problems(), Told()
    table = read_track_table(path, problems)
    if table is None:
        problems.raise_if_any()
        raise InputError(f"{path}: no track")
    _check_species(table, known, problems)
    specs = [spec for name in contigs for spec in table.specs if spec.species == name]
    held = _empty(specs, contigs, bin_bp)
    place = {(spec.species, spec.track): i for i, spec in enumerate(specs)}
    if table.values is not None:
        for spec, contig, means in read_tidy(
            specs, table.values, table.path, contigs, bin_bp, problems
        ):
            _put(held, place, spec, contig, means)
    else:
        for spec in specs:
            for contig, means in read_bigwig(spec, contigs[spec.species], bin_bp, problems, told):
                _put(held, place, spec, contig, means)
    problems.raise_if_any()
    if not specs:
        raise InputError(
            f"{path}: names no track of {', '.join(contigs)}; it has tracks of "
            f"{', '.join(sorted({spec.species for spec in table.specs}))}"
        )
    return Signals(bin_bp, tuple(specs), held, tuple(_notes(table, contigs, told)))


def _check_species(table: TrackTable, known: Sequence[str], problems: Problems) -> None:
    for name in dict.fromkeys(spec.species for spec in table.specs):
        if name not in known:
            first = next(spec for spec in table.specs if spec.species == name)
            problems.add(
                table.path, f"species {name!r} is not in the store.{did_you_mean(name, known)}",
                f"name one of {', '.join(known)}, or leave the row out", first.place,
            )  # fmt: skip


def _empty(
    specs: Sequence[TrackSpec], contigs: Mapping[str, Mapping[str, int]], size: int
) -> dict[str, SpeciesSignal]:
    """Room for the values of each species that has tracks, filled with what a missing value is."""
    held: dict[str, SpeciesSignal] = {}
    column = 0
    for name, length in contigs.items():
        here = [spec for spec in specs if spec.species == name]
        if not here:
            continue
        counts = np.array([bin_count(one, size) for one in length.values()], np.int64)
        first = dict(zip(length, (np.cumsum(counts) - counts).tolist(), strict=True))
        values = _room(int(counts.sum()), len(here))
        values[:] = [UNKNOWN if spec.unknown else 0.0 for spec in here]
        held[name] = SpeciesSignal(dict(length), first, values, slice(column, column + len(here)))
        column += len(here)
    return held


def _room(bins: int, tracks: int) -> Means:
    if bins * tracks * 4 < LARGE:
        return np.empty((bins, tracks), np.float32)
    # The file goes when the last reference to the array does.
    with tempfile.TemporaryFile(prefix="meristem-tracks-") as file:
        file.truncate(bins * tracks * 4)
        return np.memmap(file, np.float32, "r+", shape=(bins, tracks))


def _put(
    held: Mapping[str, SpeciesSignal], place: Mapping[tuple[str, str], int], spec: TrackSpec,
    contig: str, means: Means,
) -> None:  # fmt: skip
    here = held[spec.species]
    at = here.first[contig]
    here.values[at : at + len(means), place[spec.species, spec.track] - here.columns.start] = means


def _notes(table: TrackTable, contigs: Mapping[str, Mapping[str, int]], told: Told) -> list[str]:
    bare = [name for name in contigs if not any(spec.species == name for spec in table.specs)]
    notes = [f"{', '.join(bare)}: no tracks, so its genome is not read"] if bare else []
    others = sorted({spec.species for spec in table.specs} - set(contigs))
    if others:
        notes.append(f"tracks of {', '.join(others)} are left out: the species is not asked for")
    for name, absent in told.lacking.items():
        species = name.partition(" ")[0]
        bases = sum(contigs[species][contig] for contig in absent)
        notes.append(
            f"{name}: the file lacks {len(absent):,} contigs of the genome with {bases:,} bp "
            f"({examples(absent)}); they count as bases without a value"
        )
    return notes
