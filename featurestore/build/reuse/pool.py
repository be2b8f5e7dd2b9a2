"""Vectors on disk by the digest of their model input, in pieces that are each committed whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse.digests import KnownBins
from featurestore.build.shards.compute import Lookup
from featurestore.build.windows.mapped import ONE_PARSE
from featurestore.build.windows.window_kernels import DIGEST_BYTES


@dataclass(frozen=True)
class Pieces:
    """The content of a pool: vectors by output, shape (n, …), and where each digest stands."""

    known: KnownBins
    vectors: Mapping[str, NDArray[Any]]

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which digests (n, 16) are known, shape (n,)."""
        found: NDArray[np.bool_] = self.known.find(digests) >= 0
        return found

    def __call__(
        self, digests: NDArray[np.uint8]
    ) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
        """Which digests are known, and by output their vectors."""
        place = self.known.find(digests)
        have = place >= 0
        return have, {n: v[place[have]] for n, v in self.vectors.items()}


@dataclass(frozen=True)
class Pool:
    """A folder of pieces; any process may add one at any time.

    Parameters
    ----------
    folder : Path
        Made with the first piece.
    """

    folder: Path

    def put(self, digests: NDArray[np.uint8], vectors: dict[str, NDArray[Any]]) -> None:
        """Commit a piece.

        Parameters
        ----------
        digests : uint8 array, shape (n, 16)
        vectors : by output, shape (n, …); stored as float16
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{hashlib.sha256(digests.tobytes()).hexdigest()[:24]}.npz"
        partial = path.with_name(f".{path.stem}.partial.npz")
        with np.errstate(over="ignore"):  # infinities are reported when the bin is written
            stored = {f"output_{k}": v.astype("<f2") for k, v in vectors.items()}
        with partial.open("wb") as file:
            np.savez(file, digest=digests, **stored)  # type: ignore[arg-type] # its stub takes names for flags
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)

    def pieces(self) -> Pieces | None:
        """What the pieces hold that are there now, or None if there are none."""
        there = self.folder.is_dir()
        stamp = tuple(sorted(p.name for p in self.folder.glob("[!.]*.npz"))) if there else ()
        return _read(str(self.folder), stamp) if stamp else None

    def digests(self) -> NDArray[np.uint8]:
        """Digests of all inputs whose vectors lie here, shape (n, 16); no vector is read."""
        found = [np.zeros((0, DIGEST_BYTES), np.uint8)]
        for path in sorted(self.folder.glob("[!.]*.npz")):
            with (
                contextlib.suppress(zipfile.BadZipFile, OSError, ValueError, EOFError, KeyError),
                ONE_PARSE,
                np.load(path, allow_pickle=False) as piece,
            ):
                found.append(piece["digest"])
        return np.concatenate(found)

    def lookup(self) -> Lookup | None:
        """Look-up over the pieces that are there now, or None if there are none."""
        return self.pieces()

    def take_in(self, other: Pool) -> None:
        """Move the pieces of another pool of the same embedder into this one."""
        for piece in sorted(other.folder.glob("[!.]*.npz")):
            self.folder.mkdir(parents=True, exist_ok=True)
            piece.replace(self.folder / piece.name)
        other.remove()

    def remove(self) -> None:
        """Delete all pieces."""
        shutil.rmtree(self.folder, ignore_errors=True)


@lru_cache(maxsize=8)
def _read(folder: str, _stamp: tuple[str, ...]) -> Pieces | None:
    digests: list[NDArray[np.uint8]] = []
    vectors: dict[str, list[NDArray[Any]]] = {}
    for path in sorted(Path(folder).glob("[!.]*.npz")):
        try:
            with ONE_PARSE, np.load(path, allow_pickle=False) as piece:
                read = {key: piece[key] for key in piece.files}
        except (zipfile.BadZipFile, OSError, ValueError, EOFError):
            path.unlink(missing_ok=True)  # cut short: its inputs are computed again
            continue
        digests.append(read.pop("digest"))
        for key, values in read.items():
            vectors.setdefault(key.removeprefix("output_"), []).append(values)
    if not digests:
        return None
    joined = np.concatenate(digests)
    known = KnownBins.of(joined, np.ones(len(joined), bool))
    return Pieces(known, {name: np.concatenate(parts) for name, parts in vectors.items()})


def either(first: Lookup | None, second: Lookup | None) -> Lookup | None:
    """Look up in the first, then in the second what the first does not know."""
    if first is None or second is None:
        return first or second
    one, other = first, second

    def find(digests: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], dict[str, NDArray[Any]]]:
        have, found = one(digests)
        if have.all():
            return have, found
        more, further = other(digests[~have])
        both = have.copy()
        both[~have] = more
        joined = {}
        for name, like in {**found, **further}.items():
            full = np.empty((len(digests), *like.shape[1:]), like.dtype)
            if have.any():
                full[have] = found[name]
            if more.any():
                full[np.flatnonzero(~have)[more]] = further[name]
            joined[name] = full[both]
        return both, joined

    return find
