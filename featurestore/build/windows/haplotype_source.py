"""Cuts the windows of haplotypes, and finds the model inputs that differ from the reference's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse.digests import input_digests
from featurestore.build.windows.mapped import mapped
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.windows.window_source import WindowSource, inputs_name
from featurestore.inputs.model import HaplotypeSet
from featurestore.sequence.edits import Edit, cut_edited, reached
from featurestore.sequence.iupac import N
from featurestore.sequence.windows import bin_count

_ARRAYS: Final = ("gene", "edit_start", "edit_low", "edit_high", "edit_alt_start", "edit_alt")
PLACE: Final = ("haplotype_index", "gene_index", "region_index", "bin_index")
"""Columns of :attr:`ChangedInputs.place`."""


def lay_down_haplotypes(folder: Path, found: HaplotypeSet) -> None:
    """Write what :class:`HaplotypeSource` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(found, name))
    (folder / "haplotypes.json").write_text(json.dumps({"haplotypes": len(found.haplotype)}))


@dataclass(frozen=True)
class ChangedInputs:
    """Model inputs that differ from the reference's, in order of gene, haplotype, region, bin.

    ``place`` (row, 4) int32: haplotype, gene, region, bin; ``digest`` (row, 16) of each input,
    ``countable`` (row,) whether it holds a base that counts.
    """

    place: NDArray[np.int32]
    digest: NDArray[np.uint8]
    countable: NDArray[np.bool_]

    def save(self, folder: Path, name: str) -> None:
        """Write as ``<name>.*.npy``."""
        for part in ("place", "digest", "countable"):
            np.save(folder / f"{name}.{part}.npy", getattr(self, part))

    @classmethod
    def load(cls, folder: Path, name: str) -> ChangedInputs:
        """Read what :meth:`save` wrote, memory-mapped."""
        parts = ("place", "digest", "countable")
        return cls(*(mapped(folder / f"{name}.{part}.npy") for part in parts))


REGIONS: Final = "regions"
"""Name under which :class:`ChangedInputs` of whole regions lie in the work area."""


def rows_name(identity: Mapping[str, Any]) -> str:
    """Name under which those of an embedder lie."""
    return f"inputs_{inputs_name(identity)}"


class HaplotypeSource:
    """Windows of the haplotypes of one set.

    Parameters
    ----------
    source : WindowSource
        The windows of the reference.
    folder : Path
        Where :func:`lay_down_haplotypes` wrote.
    """

    def __init__(self, source: WindowSource, folder: Path) -> None:
        self.source, self.folder = source, folder
        self._array: dict[str, NDArray[Any]] = {
            # As plain arrays over the mapped file: picking single numbers from a memmap is slow.
            name: np.asarray(mapped(folder / f"{name}.npy"))
            for name in _ARRAYS
        }
        self.gene: NDArray[np.int32] = self._array["gene"]
        # Haplotypes of a gene follow each other.
        self._reference = lru_cache(maxsize=4)(self._reference_inputs)
        self._reference_region = lru_cache(maxsize=1)(self._reference_regions)

    @property
    def haplotypes(self) -> int:
        """Number of haplotypes."""
        return len(self.gene)

    def edits(self, haplotype: int) -> list[Edit]:
        """The edits of a haplotype, in order of position."""
        first, last = self._array["edit_start"][haplotype : haplotype + 2].tolist()
        begin = self._array["edit_alt_start"]
        return [
            Edit(
                int(self._array["edit_low"][e]), int(self._array["edit_high"][e]),
                self._array["edit_alt"][begin[e] : begin[e + 1]].tobytes(), "",
            )
            for e in range(first, last)
        ]  # fmt: skip

    def _window(self, haplotype: int, region: int, flank: int, length: int) -> NDArray[np.uint8]:
        gene, settings = int(self.gene[haplotype]), self.source.regions[region]
        return cut_edited(
            self.source.contig(gene), self.edits(haplotype), self.source.anchor(gene, region),
            self.source.strand(gene), settings.upstream + flank, length - flank - settings.upstream,
        )  # fmt: skip

    def region_code(self, haplotype: int, region: int) -> NDArray[np.uint8]:
        """Bases of one region, shape (position,), padded with N."""
        codes = np.full(self.source.positions, N, np.uint8)
        length = self.source.regions[region].length
        codes[:length] = self._window(haplotype, region, 0, length)
        return codes

    def inputs(self, haplotype: int, region: int, input_bp: int | None) -> NDArray[np.uint8]:
        """Model input of every bin of one region, shape (bin, input_bp)."""
        return self.source.split(
            lambda flank, length: self._window(haplotype, region, flank, length),
            self.source.regions[region].length, input_bp,
        )  # fmt: skip

    def one_input(
        self, haplotype: int, region: int, bin_: int, input_bp: int | None
    ) -> NDArray[np.uint8]:
        """Model input of one bin, shape (input_bp,)."""
        codes: NDArray[np.uint8] = self.inputs(haplotype, region, input_bp)[bin_]
        return codes

    def _reference_inputs(self, gene: int, region: int, input_bp: int | None) -> NDArray[np.uint8]:
        codes: NDArray[np.uint8] = self.source.gene_inputs(gene, region, input_bp)
        return codes

    def _reference_regions(self, gene: int) -> NDArray[np.uint8]:
        codes: NDArray[np.uint8] = self.source.region_codes(gene, gene + 1)[0][0]
        return codes

    def changed_inputs(self, input_bp: int | None) -> ChangedInputs:
        """The inputs of all bins that a haplotype changes."""
        parts = []
        # The last bin may be short, so its window reaches further beyond the region.
        flank = 0 if input_bp is None else input_bp
        for haplotype, gene, region in self._touched(flank):
            codes = self.inputs(haplotype, region, input_bp)
            bins = bin_count(self.source.regions[region].length, self.source.bin_bp)
            changed = (codes != self._reference(gene, region, input_bp)).any(axis=1)[:bins]
            at = np.flatnonzero(changed)
            parts.append(_rows(haplotype, gene, region, at, codes[at]))
        return _joined(parts)

    def changed_regions(self) -> ChangedInputs:
        """The regions that a haplotype changes, whole; their bin is 0."""
        parts = []
        for haplotype, gene, region in self._touched(0):
            codes = self.region_code(haplotype, region)
            if (codes != self._reference_region(gene)[region]).any():
                parts.append(_rows(haplotype, gene, region, np.zeros(1, np.int64), codes[None]))
        return _joined(parts)

    def _touched(self, flank: int) -> Iterator[tuple[int, int, int]]:
        """Haplotype, gene, region where an edit reaches into the region or its flanks."""
        for haplotype, gene in enumerate(self.gene.tolist()):
            edits, forward = self.edits(haplotype), self.source.strand(gene) >= 0
            for region, settings in enumerate(self.source.regions):
                arms = settings.upstream + flank, settings.downstream + flank
                left, right = arms if forward else arms[::-1]
                if reached(edits, self.source.anchor(gene, region), left, right):
                    yield haplotype, gene, region


def _rows(
    haplotype: int, gene: int, region: int, bins: NDArray[np.int64], codes: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.bool_]]:
    place = np.empty((len(bins), len(PLACE)), np.int32)
    place[:, :3], place[:, 3] = (haplotype, gene, region), bins
    countable = np.atleast_1d((codes < N).any(axis=1))
    return place, input_digests(codes, np.ones(len(bins), bool)), countable


def _joined(
    parts: list[tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.bool_]]],
) -> ChangedInputs:
    empty = (
        np.zeros((0, len(PLACE)), np.int32), np.zeros((0, DIGEST_BYTES), np.uint8), np.zeros(0, bool),
    )  # fmt: skip
    columns = zip(*[empty, *parts], strict=True)
    place, digest, countable = (np.concatenate(column) for column in columns)
    return ChangedInputs(place, digest, countable)
