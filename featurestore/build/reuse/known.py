"""Vectors that lie on disk already, found by the digest of their model input and read when wanted.

Two places hold them: the store that a build is about to replace, and shards that an unfinished
build of other inputs left. Only digests are indexed; the vectors stay where they are.

    known/<pool>/<source>/
      source.json   where the arrays lie, and the digest of the store they belong to
      keys.npy      digests, sorted; memory-mapped, so that all tasks of a machine share them
      place.npy     where in the grid of the arrays each of them stands
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse.digests import KnownBins
from featurestore.build.reuse.pool import Pool
from featurestore.build.windows.mapped import mapped
from featurestore.build.work_area import WorkArea
from featurestore.errors import DamagedStoreError, StoreError
from featurestore.store.arrays import StoredArray
from featurestore.store.files import LocalFiles
from featurestore.store.manifest import Manifest
from featurestore.store.reader import open_store

Found = tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]
READ_BYTES: Final = 64 << 20
"""About as much of the arrays as is read at once."""


@dataclass(frozen=True)
class Source:
    """Arrays of one embedder, one vector or one scalar a bin.

    Parameters
    ----------
    root : str
        A store, or a folder of shards.
    digest : str
        Digest of the store; empty for a folder of shards.
    arrays : mapping of output to path within the root
    shapes : mapping of output to the shape of one vector
    bins : int
        Bins in one row of the arrays: regions × bins of a gene, 1 in a variant set.
    """

    root: str
    digest: str
    arrays: Mapping[str, str]
    shapes: Mapping[str, Sequence[int]]
    bins: int


def write_index(
    work: WorkArea, pool: str, source: Source, digests: NDArray[np.uint8], usable: NDArray[np.bool_]
) -> int:
    """Index the vectors of a source under the pool of their embedder.

    Parameters
    ----------
    digests : uint8 array, shape (…, 16)
    usable : bool array, shape (…)

    Returns
    -------
    int
        Distinct inputs.
    """
    known = KnownBins.of(digests, usable & digests.any(axis=-1))
    if not len(known.place):
        return 0
    target = _folder(work, pool, source)
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    np.save(partial / "keys.npy", known.keys)
    np.save(partial / "place.npy", known.place)
    (partial / "source.json").write_text(json.dumps(asdict(source)))
    partial.rename(target)
    return len(known.place)


def indexed(work: WorkArea, pool: str, source: Source) -> int | None:
    """Distinct inputs of a source that has been indexed, or None."""
    folder = _folder(work, pool, source)
    return len(mapped(folder / "place.npy")) if folder.is_dir() else None


def _folder(work: WorkArea, pool: str, source: Source) -> Path:
    identity = json.dumps(asdict(source), sort_keys=True).encode()
    return work.known(pool) / hashlib.sha256(identity).hexdigest()[:24]


class StoredBins:
    """The indexed vectors of one source; arrays are opened when the first is wanted."""

    def __init__(self, folder: Path) -> None:
        self.source = Source(**json.loads((folder / "source.json").read_text()))
        self.known = KnownBins(mapped(folder / "keys.npy"), mapped(folder / "place.npy"))

    @cached_property
    def arrays(self) -> dict[str, StoredArray] | None:
        """The arrays by output; None where they are not what was indexed."""
        root = Path(self.source.root)
        try:
            if not self.source.digest:
                return {n: plain_array(root, p) for n, p in self.source.arrays.items()}
            store = open_store(root)
            if store.digest != self.source.digest:
                return None
            paths = {n: p.split("/", 1) for n, p in self.source.arrays.items()}
            return {n: store.stored(species, path) for n, (species, path) in paths.items()}
        except (StoreError, OSError):
            return None  # what cannot be read is computed

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which digests are indexed, shape (n,)."""
        found: NDArray[np.bool_] = self.known.find(digests) >= 0
        return found

    def __call__(self, digests: NDArray[np.uint8]) -> Found:
        """Which digests are known, and their vectors; those that turn out damaged are not."""
        place = self.known.find(digests)
        have = place >= 0
        if not have.any() or self.arrays is None:
            return np.zeros(len(place), bool), {}
        row, bin_ = np.divmod(place[have], self.source.bins)
        found: dict[str, NDArray[Any]] = {}
        sound = np.ones(len(row), bool)
        for name, stored in self.arrays.items():
            shape = (self.source.bins, *self.source.shapes[name])
            found[name], fine = _pick(stored, row, bin_, shape)
            sound &= fine
        have[have] = sound
        return have, {name: values[sound] for name, values in found.items()}


def plain_array(root: Path, path: str) -> StoredArray:
    """An array of a folder that is no store, without a manifest: its checksums are its own."""
    files = LocalFiles(root)
    metadata = json.loads(files.read(f"{path}/zarr.json"))
    return StoredArray(files, path, metadata, Manifest({}, {}))


def _pick(
    stored: StoredArray, row: NDArray[np.int64], bin_: NDArray[np.int64], shape: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Vectors at (row, bin), and which of them could be read; each row is read once, verified.

    ``shape`` is that of a row: bins, then the shape of a vector.
    """
    out = np.zeros((len(row), *shape[1:]), stored.dtype)
    sound = np.zeros(len(row), bool)
    rows, of = np.unique(row, return_inverse=True)
    order = np.argsort(of, kind="stable")
    starts = np.searchsorted(of[order], np.arange(len(rows) + 1))
    size = max(1, READ_BYTES // max(int(np.prod(stored.shape[1:])) * stored.dtype.itemsize, 1))
    for first in range(0, len(rows), size):
        last = min(first + size, len(rows))
        values, fine = _take(stored, rows[first:last])
        at = order[starts[first] : starts[last]]
        grid = values.reshape(len(values), *shape)
        out[at] = grid[of[at] - first, bin_[at]]
        sound[at] = fine[of[at] - first]
    return out, sound


def _take(stored: StoredArray, rows: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows, and which of them are intact."""
    try:
        return stored.take(rows), np.ones(len(rows), bool)
    except DamagedStoreError:
        values = np.zeros((len(rows), *stored.shape[1:]), stored.dtype)
        fine = np.zeros(len(rows), bool)
    for i in range(len(rows)):
        try:
            values[i] = stored.take(rows[i : i + 1])[0]
            fine[i] = True
        except DamagedStoreError:
            continue
    return values, fine


class Indexed(Protocol):
    """Something that tells which inputs it knows."""

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which digests (n, 16) are known, shape (n,)."""


class Place(Indexed, Protocol):
    """Somewhere vectors lie."""

    def __call__(self, digests: NDArray[np.uint8]) -> Found:
        """Which digests are known, and by output their vectors."""


class Known:
    """Everything that is known of the inputs of an embedder: several places, asked in turn."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which digests are known, shape (n,); nothing else is read."""
        found = np.zeros(len(digests), bool)
        for place in self._places:
            found[~found] = place.has(digests[~found])
        return found

    def __call__(self, digests: NDArray[np.uint8]) -> Found:
        """Which digests (n, 16) are known, shape (n,), and by output their vectors (k, …)."""
        have = np.zeros(len(digests), bool)
        full: dict[str, NDArray[Any]] = {}
        for place in self._places:
            at = np.flatnonzero(~have)
            if not len(at):
                break
            more, found = place(digests[at])
            for name, values in found.items():
                if name not in full:
                    full[name] = np.empty((len(digests), *values.shape[1:]), values.dtype)
                full[name][at[more]] = values
            have[at[more]] = True
        return have, {name: values[have] for name, values in full.items()}


@lru_cache(maxsize=32)
def _opened(folder: str, _stamp: tuple[str, ...]) -> list[StoredBins]:
    return [StoredBins(p) for p in sorted(Path(folder).glob("[!.]*"))]


def known_of(work: WorkArea, pool: str) -> Known | None:
    """What is known of the inputs of an embedder, or None if nothing is.

    Parameters
    ----------
    pool : str
        :attr:`GroupPlan.pool` of the embedder.
    """
    places: list[Place] = []
    if (computed := Pool(work.shared(pool)).pieces()) is not None:
        places.append(computed)
    places += stored_bins(work, pool)
    return Known(places) if places else None


def stored_bins(work: WorkArea, pool: str) -> list[StoredBins]:
    """What was indexed for an embedder."""
    folder = work.known(pool)
    stamp = tuple(sorted(p.name for p in folder.glob("[!.]*"))) if folder.is_dir() else ()
    return _opened(str(folder), stamp) if stamp else []


def forget() -> None:
    """Close the stores that were opened to look vectors up."""
    _opened.cache_clear()
