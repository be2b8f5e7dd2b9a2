"""Bases of a genome by contig and position: from memory, or from a store block by block."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.inputs.model import Genome
from featurestore.sequence import iupac

if TYPE_CHECKING:
    from featurestore.store.reader import Store

Codes = NDArray[np.uint8]

BLOCK: Final = 1_000_000
"""Bases of one block of a stored genome; the store's own chunks are as long."""
MOST_BLOCKS: Final = 64
"""Blocks held in memory: 64 MB, whatever the genome's size and the order of the variants."""


class Bases(Protocol):
    """Where windows are cut from."""

    @property
    def lengths(self) -> Mapping[str, int]:
        """Length of each contig in bp."""

    def cut(self, contig: str, start: int, end: int) -> Codes:
        """Codes of a span of the forward strand, 0-based half-open; N beyond the contig's ends."""
        ...


class GenomeBases:
    """Contigs end to end behind a function that reads a span of them.

    Parameters
    ----------
    names, starts, lengths : sequences of length c
        Contigs, their offsets and lengths.
    read : called with start and end, 0-based half-open over all contigs
    """

    def __init__(
        self,
        names: Sequence[str],
        starts: Sequence[int],
        lengths: Sequence[int],
        read: Callable[[int, int], Codes],
    ) -> None:
        self.lengths: dict[str, int] = dict(zip(names, lengths, strict=True))
        self._start = dict(zip(names, starts, strict=True))
        self._read = read

    def cut(self, contig: str, start: int, end: int) -> Codes:
        """Codes of a span of the forward strand, 0-based half-open; N beyond the contig's ends."""
        low, high = max(start, 0), min(end, self.lengths[contig])
        codes = np.full(end - start, iupac.N, np.uint8)
        if low < high:
            offset = self._start[contig]
            codes[low - start : high - start] = self._read(offset + low, offset + high)
        return codes


def bases_of(genome: Genome | Mapping[str, str]) -> Bases:
    """Bases of a genome in memory, or of sequences by name.

    Raises
    ------
    InputError
        For letters that are no IUPAC codes.
    """
    if isinstance(genome, Genome):
        code = genome.code
        return GenomeBases(
            genome.contig_id, genome.contig_start.tolist(), genome.contig_length.tolist(),
            lambda low, high: code[low:high],
        )  # fmt: skip
    pieces = {name: iupac.encode(text) for name, text in genome.items()}
    for name, piece in pieces.items():
        if (bad := np.flatnonzero(piece == iupac.UNKNOWN)).size:
            letter = genome[name][int(bad[0])]
            raise InputError(f"contig {name!r}: {letter!r} at base {int(bad[0]) + 1} is no base")
    lengths = [len(piece) for piece in pieces.values()]
    whole = np.concatenate(list(pieces.values())) if pieces else np.zeros(0, np.uint8)
    starts = (np.cumsum(lengths) - lengths).tolist() if lengths else []
    return GenomeBases(list(pieces), starts, lengths, lambda low, high: whole[low:high])


def stored_bases(store: Store, species: str) -> Bases:
    """Bases of a species of a store, read block by block and held against the manifest."""
    array = store.stored(species, "genome/code").opened_by_zarr()
    blocks: OrderedDict[int, Codes] = OrderedDict()
    one_at_a_time = threading.Lock()

    def block(number: int) -> Codes:
        with one_at_a_time:
            if number not in blocks:
                blocks[number] = np.asarray(array[number * BLOCK : (number + 1) * BLOCK], np.uint8)
                if len(blocks) > MOST_BLOCKS:
                    blocks.popitem(last=False)
            blocks.move_to_end(number)
            return blocks[number]

    def read(low: int, high: int) -> Codes:
        first, last = low // BLOCK, (high - 1) // BLOCK
        parts = [
            block(n)[max(low - n * BLOCK, 0) : min(high - n * BLOCK, BLOCK)]
            for n in range(first, last + 1)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    names = store.text(species, "genome/contig_id").tolist()
    starts = store.array(species, "genome/contig_start").tolist()
    return GenomeBases(names, starts, store.array(species, "genome/contig_length").tolist(), read)
