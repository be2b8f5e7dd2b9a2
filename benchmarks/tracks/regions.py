"""Stretches of genomes dealt to folds: where a run learns, validates and is tested."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.inputs.tracks.signals import Signals
from benchmarks.splits.recipes import shuffled
from featurestore.errors import InputError

STRETCH: Final = 1_000_000
"""Bases of a stretch where a genome is large …"""

PER_FOLD: Final = 5
"""… and where it is not, as many as make so many stretches of each species and fold."""

LEAST: Final = 64
"""Bins of a stretch at least."""

VALIDATION: Final = 0.1
TRAIN, VALID, TEST = 0, 1, 2

_SCHEMA: Final = 1
_KEY: Final = b"meristem"


@dataclass(frozen=True)
class Regions:
    """Stretches of all species, each under test in one fold.

    Parameters
    ----------
    table : DataFrame
        ``species, contig, start, end`` (bp, 0-based half-open), ``genes`` (whose TSS lies there),
        ``fold``, ``validates`` (folds in which it validates, as text with commas); in order of the genome.
    recipe : dict
        Plain JSON.
    """

    table: pd.DataFrame
    recipe: dict[str, Any]

    @property
    def count(self) -> int:
        """Number of folds."""
        return int(self.recipe["folds"])

    @cached_property
    def digest(self) -> str:
        """Sha256 of recipe and stretches."""
        sha = hashlib.sha256(json.dumps(self.recipe, sort_keys=True).encode())
        for row in self.table.itertuples(index=False):
            sha.update(("\t".join(map(str, row)) + "\n").encode())
        return sha.hexdigest()

    def side(self, fold: int) -> NDArray[np.int8]:
        """Of each stretch whether it trains (0), validates (1) or is tested (2) in a fold."""
        said = self.table["validates"].str.split(",")
        valid = np.array([str(fold) in one for one in said], bool)
        test = (self.table["fold"] == fold).to_numpy(bool)
        return np.where(test, TEST, np.where(valid, VALID, TRAIN)).astype(np.int8)

    def write(self, path: Path) -> None:
        """Write ``regions.parquet``, recipe and digest in its metadata."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        about = {"schema": _SCHEMA, "recipe": self.recipe, "digest": self.digest}
        table = pa.Table.from_pandas(self.table, preserve_index=False)
        table = table.replace_schema_metadata(
            {**(table.schema.metadata or {}), _KEY: json.dumps(about, sort_keys=True).encode()}
        )
        partial = path.with_name(f".{path.name}.partial")
        pq.write_table(table, partial, compression="zstd")
        partial.replace(path)


def read_regions(path: Path) -> Regions:
    """Read what :meth:`Regions.write` wrote.

    Raises
    ------
    InputError
        If it is no such file, or its rows are not those it was written with.
    """
    from benchmarks.runs.tables import read_parquet
    from benchmarks.splits.artefact import stored_recipe

    about = stored_recipe(path)
    if about is None:
        raise InputError(f"{path}: no recipe in it; it is no regions.parquet of a run")
    found = Regions(read_parquet(path), about["recipe"])
    if found.digest != about["digest"]:
        raise InputError(
            f"{path}: its rows are not those it was written with (digest {found.digest[:8]}, "
            f"written {about['digest'][:8]}); run it again"
        )
    return found


def make_regions(
    signals: Signals, genes: pd.DataFrame, folds: int, repeat: int, stretch: int | None = None
) -> Regions:
    """Cut genomes into stretches and deal them to folds.

    What window a learner sees has no part in it, so runs with long and with short windows share folds.

    Parameters
    ----------
    signals : Signals
        Species with their contigs.
    genes : DataFrame
        ``species, contig, bin`` of the TSS of genes that have a place.
    folds, repeat : int
        The repeat shuffles.
    stretch : int, optional
        Bases of a stretch, about; by default :data:`STRETCH`, or less in small genomes.

    Raises
    ------
    InputError
        If some fold would test nothing.
    """
    tables = []
    lengths: dict[str, int] = {}
    load = np.zeros(folds, np.int64)
    for species in signals.species:
        cut, lengths[species] = _cut(signals, species, genes, folds, stretch)
        cut["fold"] = _dealt(cut, load, repeat)
        tables.append(cut)
    table = pd.concat(tables, ignore_index=True)
    empty = sorted(set(range(folds)) - set(table["fold"]))
    if empty:
        raise InputError(
            f"{len(table)} stretches of the genome make no {folds} folds (fold {empty[0]} tests "
            f"nothing): ask for fewer folds, or shorter stretches than {max(lengths.values()):,} bp "
            "with --stretch"
        )
    table["validates"] = _validating(table, folds, repeat)
    recipe = {
        "name": "stretches", "folds": folds, "repeat": repeat, "stretch": lengths,
        "bin": signals.bin_bp, "validation": VALIDATION,
    }  # fmt: skip
    return Regions(table, recipe)


def _cut(
    signals: Signals, species: str, genes: pd.DataFrame, folds: int, stretch: int | None
) -> tuple[pd.DataFrame, int]:
    """Stretches of one species, and how long they are to be, in bp."""
    here, size = signals.species[species], signals.bin_bp
    bins = {contig: here.bins(contig, size) for contig in here.length}
    if stretch is None:
        wanted = min(STRETCH // size, sum(bins.values()) // (PER_FOLD * folds))
    else:
        wanted = stretch // size
    wanted = max(wanted, LEAST)
    rows = []
    of_species = genes[genes["species"] == species]
    for contig, count in bins.items():
        edges = np.linspace(0, count, max(round(count / wanted), 1) + 1).astype(np.int64)
        at = of_species.loc[of_species["contig"] == contig, "bin"].to_numpy(np.int64)
        inside = np.histogram(at, np.append(edges[:-1], count))[0] if len(at) else edges[1:] * 0
        ends = np.minimum(edges[1:] * size, here.length[contig])
        rows.append(
            pd.DataFrame(
                {"species": species, "contig": contig, "start": edges[:-1] * size, "end": ends,
                 "genes": inside.astype(np.int64)}
            )
        )  # fmt: skip
    return pd.concat(rows, ignore_index=True), wanted * size


def _names(table: pd.DataFrame) -> list[str]:
    return [f"{s}:{c}:{at}" for s, c, at in table[["species", "contig", "start"]].to_numpy()]


def _dealt(table: pd.DataFrame, load: NDArray[np.int64], repeat: int) -> NDArray[np.int64]:
    """A fold for each stretch: of each few in shuffled order that with most genes to where fewest are.

    ``load`` are the genes of each fold so far; they are added to.
    """
    folds = len(load)
    species = table["species"].iloc[0]
    names, genes = _names(table), table["genes"].to_numpy(np.int64)
    place = {name: i for i, name in enumerate(names)}
    order = np.array([place[name] for name in shuffled(names, "stretches", repeat)], np.int64)
    turn = np.array(
        [int(one) for one in shuffled(map(str, range(folds)), "deal", repeat, species)], np.int64
    )
    fold = np.empty(len(table), np.int64)
    for start in range(0, len(order), folds):
        some = order[start : start + folds]
        some = some[np.argsort(-genes[some], kind="stable")]
        to = turn[np.argsort(load[turn], kind="stable")][: len(some)]
        fold[some] = to
        load[to] += genes[some]
    return fold


def _validating(table: pd.DataFrame, folds: int, repeat: int) -> list[str]:
    """Of each stretch the folds in which it validates: a tenth of the training bases of each species."""
    bases = (table["end"] - table["start"]).to_numpy(np.int64)
    names = np.array(_names(table), object)
    found: list[list[str]] = [[] for _ in names]
    for fold in range(folds):
        for species in table["species"].unique():
            rows = np.flatnonzero((table["species"] == species) & (table["fold"] != fold))
            place = {names[i]: i for i in rows.tolist()}
            taken, wanted = 0, VALIDATION * int(bases[rows].sum())
            order = shuffled(place, "validation", repeat, fold)
            for name in order[: len(order) - 1]:  # something must train
                if taken >= wanted:
                    break
                found[place[name]].append(str(fold))
                taken += int(bases[place[name]])
    return [",".join(one) for one in found]


def sides_of_bins(
    regions: Regions, signals: Signals, fold: int
) -> dict[str, NDArray[np.int8]]:  # fmt: skip
    """Side of every bin of each species in a fold, in the order of its signal."""
    side = regions.side(fold)
    found: dict[str, NDArray[np.int8]] = {}
    for name, here in signals.species.items():
        bins = np.full(len(here.values), TEST, np.int8)
        for i in np.flatnonzero(regions.table["species"] == name).tolist():
            low, high = span_in_bins(regions.table.iloc[i], here.first, signals.bin_bp)
            bins[low:high] = side[i]
        found[name] = bins
    return found


def span_in_bins(
    row: Any, first: Mapping[str, int], size: int
) -> tuple[int, int]:  # fmt: skip
    """Rows of the signal of a species that a stretch covers."""
    at = first[row["contig"]]
    return at + int(row["start"]) // size, at + -(-int(row["end"]) // size)
