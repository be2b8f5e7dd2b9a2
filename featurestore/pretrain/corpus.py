"""What a model is pre-trained on: sequences end to end, each with the group that no split may part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Source:
    """One file or data set that sequences come from.

    Parameters
    ----------
    name : str
        File name or species; never a path.
    kind : str
        What its records are, and what they are grouped by, in words.
    digest : mapping of role to sha256 of the file's bytes
    """

    name: str
    kind: str
    digest: dict[str, str]


@dataclass(frozen=True)
class Corpus:
    """Sequences end to end.

    Parameters
    ----------
    code : uint8 array, shape (bases,)
        IUPAC codes.
    start, length : int64 arrays, shape (n,)
        Place of each record in ``code``.
    group : list of str, length n
        Gene family, else gene, contig or line: records of one group stand on one side of a split.
    source : int64 array, shape (n,)
        Index into ``sources``.
    sources : tuple of Source
    repeat : bool array, shape (bases,), or None
        Soft-masked bases, where they were asked for.
    """

    code: NDArray[np.uint8]
    start: NDArray[np.int64]
    length: NDArray[np.int64]
    group: list[str]
    source: NDArray[np.int64]
    sources: tuple[Source, ...]
    repeat: NDArray[np.bool_] | None = None

    def take(self, rows: NDArray[np.bool_]) -> Corpus:
        """The records where ``rows``, shape (n,), is true; bases are shared, not copied."""
        group = [g for g, kept in zip(self.group, rows.tolist(), strict=True) if kept]
        return replace(
            self, start=self.start[rows], length=self.length[rows], group=group,
            source=self.source[rows],
        )  # fmt: skip

    @property
    def bases(self) -> int:
        """Length of all records."""
        return int(self.length.sum())

    def record(self, i: int) -> NDArray[np.uint8]:
        """Codes of one record."""
        return self.code[self.start[i] : self.start[i] + self.length[i]]

    def compact(self) -> Corpus:
        """The same records with a copy of their own bases only."""
        pieces = [self.record(i) for i in range(len(self.start))]
        code = np.concatenate(pieces) if pieces else np.zeros(0, np.uint8)
        start = np.concatenate([[0], np.cumsum(self.length)[:-1]]).astype(np.int64)
        repeat = None
        if self.repeat is not None:
            spans = zip(self.start.tolist(), self.length.tolist(), strict=True)
            repeat = np.concatenate([self.repeat[s : s + n] for s, n in spans])
        return replace(self, code=code, start=start[: len(self.length)], repeat=repeat)


def join(parts: Sequence[Corpus]) -> Corpus:
    """Several corpora as one."""
    bases = np.cumsum([0, *(len(p.code) for p in parts)])
    sources = np.cumsum([0, *(len(p.sources) for p in parts)])
    repeat = None
    if any(p.repeat is not None for p in parts):
        repeat = np.concatenate(
            [np.zeros(len(p.code), bool) if p.repeat is None else p.repeat for p in parts]
        )
    return Corpus(
        code=np.concatenate([p.code for p in parts]),
        start=np.concatenate([p.start + at for p, at in zip(parts, bases, strict=False)]),
        length=np.concatenate([p.length for p in parts]),
        group=[g for p in parts for g in p.group],
        source=np.concatenate([p.source + at for p, at in zip(parts, sources, strict=False)]),
        sources=tuple(s for p in parts for s in p.sources),
        repeat=repeat,
    )
