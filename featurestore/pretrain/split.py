"""Holds sequence out, by gene family or contig, and takes its copies out of the rest."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.pretrain.corpus import Corpus
from featurestore.sequence.iupac import N

WORD: Final = 24
"""bp: a word this long that two sequences share, on either strand, is no accident in 10⁹ bases
(4²⁴ ≈ 3 × 10¹⁴)."""

_PIECE: Final = 1 << 18
_TABLE_BITS: Final = 26
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Split:
    """Two sides that share neither a group nor a word of :data:`WORD` bases.

    Parameters
    ----------
    train, held_out : Corpus
        In ``train`` every base of a shared word reads N.
    facts : mapping
        Counts of both sides, for the card.
    """

    train: Corpus
    held_out: Corpus
    facts: dict[str, Any]


def split_corpus(
    corpus: Corpus, *, held_out: float, seed: int, exclude: Collection[str] = ()
) -> Split:
    """Hold out a share of each source by group, and keep its copies out of training.

    Groups are taken in the order of a hash of their name and ``seed``, so a family stands on the
    same side in every source and on every machine.

    Parameters
    ----------
    held_out : float
        Share of the bases, 0 … 0.5.
    seed : int
    exclude : collection of str
        Families that neither side may hold, such as the test families of a later comparison.

    Raises
    ------
    InputError
        Where there are too few groups to hold one out.
    """
    if not 0 <= held_out <= 0.5:
        raise InputError(f"held-out share {held_out}: give one from 0 to 0.5")
    unwanted = {f"family {name}" for name in exclude}
    missing = sorted(unwanted - set(corpus.group))
    chosen = _chosen(corpus, held_out, seed, unwanted)
    side = np.array([2 if g in unwanted else int(g in chosen) for g in corpus.group], np.int64)
    kept, test = corpus.take(side == 0).compact(), corpus.take(side == 1).compact()
    if not len(kept.start) or (held_out and not len(test.start)):
        groups = len(set(corpus.group))
        raise InputError(
            f"{groups} group(s) of sequence (families, contigs or lines): too few to hold any out; "
            "give more sequence, or cut long contigs apart"
        )
    away = corpus.take(side > 0)
    kept, blanked = _without_words(kept, _words(away))
    facts = {
        "seed": seed, "share": held_out, "word_bp": WORD, "blanked_bases": blanked,
        "excluded_families": len(unwanted) - len(missing),
        "train": _facts(kept), "held_out": _facts(test),
    }  # fmt: skip
    return Split(kept, test, facts)


def _rank(group: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{group}".encode()).digest()


def _chosen(corpus: Corpus, share: float, seed: int, unwanted: Collection[str]) -> set[str]:
    """Groups to hold out: in the order of their hash until each source has given its share."""
    chosen: set[str] = set()
    for number in range(len(corpus.sources)):
        size: dict[str, int] = {}
        for i in np.flatnonzero(corpus.source == number).tolist():
            if corpus.group[i] not in unwanted:
                group = corpus.group[i]
                size[group] = size.get(group, 0) + int(corpus.length[i])
        wanted = share * sum(size.values())
        have = sum(size[g] for g in size if g in chosen)
        order = sorted(size, key=lambda g: _rank(g, seed))
        for group in order:
            if have >= wanted or len(size) < 2:
                break
            # One long contig must not take the whole side with it.
            if group not in chosen and have + size[group] <= 2 * wanted:
                chosen.add(group)
                have += size[group]
        if share and not have and len(size) > 1:
            chosen.add(min(order, key=lambda g: size[g]))
    return chosen


def _facts(corpus: Corpus) -> dict[str, Any]:
    rows = []
    for number, source in enumerate(corpus.sources):
        here = corpus.source == number
        groups = {corpus.group[i] for i in np.flatnonzero(here).tolist()}
        rows.append(
            {"source": source.name, "kind": source.kind, "records": int(here.sum()),
             "groups": len(groups), "bases": int(corpus.length[here].sum()), "digest": source.digest}
        )  # fmt: skip
    return {"bases": corpus.bases, "sources": rows}


def words(code: NDArray[np.uint8]) -> NDArray[np.int64]:
    """The number of the word at each position or its reverse complement's, whichever is smaller.

    Returns
    -------
    int64 array, shape (length - WORD + 1,); −1 where the word holds a base other than A C G T
    """
    if len(code) < WORD:
        return np.zeros(0, np.int64)
    base = (code & 3).astype(np.int64)
    one = (base, 3 - base, code >= N)
    two = _longer(one, one, 1, 1)
    four = _longer(two, two, 2, 2)
    eight = _longer(four, four, 4, 4)
    sixteen = _longer(eight, eight, 8, 8)
    forward, reverse, bad = _longer(sixteen, eight, 16, 8)
    result = np.minimum(forward, reverse)
    result[bad] = -1
    return result


_Words = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]


def _longer(first: _Words, second: _Words, size: int, more: int) -> _Words:
    """Words of ``size`` bases, each joined with the one of ``more`` bases that follows it."""
    forward, reverse, bad = second[0][size:], second[1][size:], second[2][size:]
    count = len(forward)
    return (
        (first[0][:count] << (2 * more)) | forward,
        first[1][:count] | (reverse << (2 * size)),
        first[2][:count] | bad,
    )


def _pieces(corpus: Corpus) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Stretches of the code of a compact corpus that overlap by a word less one."""
    for at in range(0, max(len(corpus.code), 1), _PIECE):
        yield at, corpus.code[at : at + _PIECE + WORD - 1]


def _words(corpus: Corpus) -> NDArray[np.int64]:
    found = [words(corpus.record(i)) for i in range(len(corpus.start))]
    # Sorted alone: numpy's unique hashes, which takes many times as long on this many.
    every = np.sort(np.concatenate(found)) if found else np.zeros(0, np.int64)
    return every[every >= 0]


def _without_words(corpus: Corpus, taken: NDArray[np.int64]) -> tuple[Corpus, int]:
    """Put N wherever a word of ``taken`` stands; how many bases that were."""
    if not len(taken):
        return corpus, 0
    code = corpus.code.copy()
    # A look into a table of hashes spares nearly all words the search.
    marked = np.zeros(1 << _TABLE_BITS, bool)
    marked[_hash(taken)] = True
    for at, piece in _pieces(corpus):
        here = words(piece)
        maybe = np.flatnonzero(marked[_hash(here)])
        place = np.searchsorted(taken, here[maybe]).clip(max=len(taken) - 1)
        # A word across two records may be blanked too: harmless, and rare.
        starts = at + maybe[taken[place] == here[maybe]]
        for shift in range(WORD):
            code[starts + shift] = N
    return replace(corpus, code=code), int((code != corpus.code).sum())


def _hash(word: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The top bits of a product with an odd number (Fibonacci hashing)."""
    hashed: NDArray[np.uint64] = (word.astype(np.uint64) * _GOLDEN) >> np.uint64(64 - _TABLE_BITS)
    return hashed
