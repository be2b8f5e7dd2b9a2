"""Cuts the windows of a species from what the plan laid down in the work area, by range of genes.

The arrays are memory-mapped, so any number of threads or processes share one copy.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.shards.scratch import Lend
from featurestore.build.windows.mapped import let_go, mapped
from featurestore.build.windows.window_kernels import Spans, kernels
from featurestore.embedders.base import is_gene_centred
from featurestore.inputs.model import Anchor, Region, SpeciesData
from featurestore.sequence.iupac import N
from featurestore.sequence.windows import bin_count, cut_window, window_span


def lay_down(folder: Path, data: SpeciesData, bin_bp: int) -> None:
    """Write what :class:`WindowSource` reads: genome or sequences, and where the windows lie."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(data.gene)
    arrays: dict[str, NDArray[Any]] = {"strand": data.strand, "tss": data.tss, "tts": data.tts}
    if data.kind == "genome" and data.genome is not None:
        order = {name: i for i, name in enumerate(data.genome.contig_id)}
        contig = np.array([order[c] for c in data.contig], np.int64) if n else np.zeros(0, np.int64)
        arrays |= {
            "code": data.genome.code,
            "contig_start": data.genome.contig_start[contig],
            "contig_length": data.genome.contig_length[contig],
            "anchor": np.stack(
                [data.tss if r.anchor == "tss" else data.tts for r in data.regions], axis=1
            ),
            "region_length": np.tile(np.array([r.length for r in data.regions], np.int32), (n, 1)),
        }
    elif (
        data.kind == "sequences" and data.region_code is not None and data.region_length is not None
    ):
        arrays |= {"region_code": data.region_code, "region_length": data.region_length}
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    settings = {"kind": data.kind, "bin": bin_bp, "regions": [asdict(r) for r in data.regions]}
    (folder / "windows.json").write_text(json.dumps(settings))


def inputs_name(identity: Mapping[str, Any]) -> str:
    """Name of the kind of model input that an embedder of this identity reads."""
    around = f"{identity['anchor']}_" if is_gene_centred(identity) else ""
    return f"{around}{identity['input_bp'] or 'bin'}"


def source_for(source: WindowSource, identity: Mapping[str, Any]) -> WindowSource:
    """The windows that an embedder of this identity reads: of the bins, or one a gene."""
    if not is_gene_centred(identity):
        return source
    return source.centred(str(identity["anchor"]), int(identity["input_bp"]))


class WindowSource:
    """Windows of one species.

    Attributes
    ----------
    regions : list of Region
    bin_bp : int
    region_length : int32 array, shape (gene, region)
        0 where the gene lacks the region.
    """

    def __init__(self, folder: Path) -> None:
        settings = json.loads((folder / "windows.json").read_text())
        self.regions = [Region(**r) for r in settings["regions"]]
        self.bin_bp: int = settings["bin"]
        self.from_genome = settings["kind"] == "genome"
        # As plain arrays over the mapped files: picking single numbers from a memmap is slow.
        self._array = {p.stem: np.asarray(mapped(p)) for p in folder.glob("*.npy")}
        self.region_length: NDArray[np.int32] = self._array["region_length"]
        self._centred: dict[tuple[str, int], WindowSource] = {}

    def centred(self, anchor: str, length: int) -> WindowSource:
        """One window a gene in place of the regions: ``length`` bp centred on the anchor.

        It has one region, named after the anchor, and in it one bin as long as the window.

        Raises
        ------
        ValueError
            Without a genome.
        """
        if not self.from_genome:
            raise ValueError("windows around an anchor are cut from a genome")
        if (anchor, length) not in self._centred:
            one = copy(self)
            upstream = length // 2
            around: Anchor = "tss" if anchor == "tss" else "tts"
            one.regions = [Region(anchor, around, upstream, length - upstream)]
            one.bin_bp = length
            one._array = {**self._array, "anchor": self._array[anchor][:, None]}
            one.region_length = np.full((self.genes, 1), length, np.int32)
            self._centred[anchor, length] = one
        return self._centred[anchor, length]

    @property
    def genes(self) -> int:
        """Number of genes."""
        return len(self.region_length)

    @property
    def positions(self) -> int:
        """Length of the longest region."""
        return max(r.length for r in self.regions)

    @property
    def bins(self) -> int:
        """Most bins of any region."""
        return max(bin_count(r.length, self.bin_bp) for r in self.regions)

    @property
    def ragged(self) -> bool:
        """Whether any region of any gene is shorter than the longest."""
        return bool((self.region_length != self.positions).any())

    def _window(
        self, gene: int, region: int, flank: int, length: int
    ) -> tuple[NDArray[np.uint8], int]:
        """Bases from ``flank`` before the region's start, ``length`` in all, and bases off the contig."""
        if not self.from_genome:
            codes = np.full(length, N, np.uint8)
            own = self.region_code(gene, region)[: length - flank]
            codes[flank : flank + len(own)] = own
            return codes, 0
        settings, strand = self.regions[region], self.strand(gene)
        low, high = window_span(
            self.anchor(gene, region), strand, settings.upstream + flank,
            length - flank - settings.upstream,
        )  # fmt: skip
        return cut_window(self.contig(gene), low, high, strand)

    def region_code(self, gene: int, region: int) -> NDArray[np.uint8]:
        """Codes of a region as given; in sequence mode."""
        length = int(self.region_length[gene, region])
        codes: NDArray[np.uint8] = self._array["region_code"][gene, region, :length]
        return codes

    def let_go(self) -> None:
        """Keep nothing of the bases in memory; they are read again when wanted."""
        for name in ("code", "region_code"):
            if name in self._array:
                let_go(self._array[name])

    def contig(self, gene: int) -> NDArray[np.uint8]:
        """Codes of the contig of a gene, forward strand; in genome mode."""
        start = int(self._array["contig_start"][gene])
        codes: NDArray[np.uint8] = self._array["code"][
            start : start + int(self._array["contig_length"][gene])
        ]
        return codes

    def strand(self, gene: int) -> int:
        """Strand of a gene, +1 or −1."""
        return int(self._array["strand"][gene])

    def anchor(self, gene: int, region: int) -> int:
        """Boundary that a region of a gene is cut around; in genome mode."""
        return int(self._array["anchor"][gene, region])

    def region_codes(self, first: int, last: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
        """Bases of the regions of genes ``first`` … ``last`` − 1.

        Returns
        -------
        codes : uint8 array, shape (gene, region, position), padded with N
        padded : int32 array, shape (gene, region), bases that lie off the contig
        """
        codes = np.full((last - first, len(self.regions), self.positions), N, np.uint8)
        padded = np.zeros(codes.shape[:2], np.int32)
        for i, gene in enumerate(range(first, last)):
            for j in range(len(self.regions)):
                length = int(self.region_length[gene, j])
                codes[i, j, :length], padded[i, j] = self._window(gene, j, 0, length)
        return codes, padded

    def _bases(self) -> NDArray[np.uint8]:
        """All bases as one array."""
        return self._array["code" if self.from_genome else "region_code"].reshape(-1)

    def _spans(self, first: int, last: int, width: int, *, whole: bool) -> Spans:
        """Where the inputs of all bins lie in :meth:`_bases`; ``whole``: bins without context.

        Position p of the region of a gene on the − strand is the base at anchor + upstream − 1 − p.
        """
        regions, bins = len(self.regions), np.arange(self.bins, dtype=np.int64)
        shape = (last - first, regions, self.bins)
        length = np.asarray(self.region_length[first:last], np.int64)[..., None]
        limit = np.clip(length - bins * self.bin_bp, 0, width) if whole else np.int64(width)
        offset = bins * self.bin_bp - (0 if whole else (width - self.bin_bp) // 2)
        if self.from_genome:
            strand = self._array["strand"][first:last, None, None]
            anchor = self._array["anchor"][first:last, :, None]
            upstream = np.array([r.upstream for r in self.regions], np.int64)[:, None]
            low = np.where(strand >= 0, anchor - upstream + offset, anchor + upstream - offset - width)  # fmt: skip
            start = self._array["contig_start"][first:last, None, None]
            contig = self._array["contig_length"][first:last, None, None]
        else:
            strand, low, contig = np.ones(1, np.int8), offset, length
            cell = np.arange(first * regions, last * regions, dtype=np.int64)
            start = cell.reshape(-1, regions, 1) * self._array["region_code"].shape[2]
        return Spans(
            *(np.broadcast_to(a, shape).reshape(-1) for a in (start, contig, low, strand, limit))
        )

    def bin_inputs(
        self, first: int, last: int, input_bp: int | None, lend: Lend = np.empty
    ) -> NDArray[np.uint8]:
        """Model input of every bin, shape (gene, region, bin, input_bp).

        With ``input_bp`` None an input is the bin's own bases, N beyond the region's end; else a
        window of that length centred on the bin, with the genome's bases as context (N where
        there are none). ``lend`` makes the array.
        """
        width = self.bin_bp if input_bp is None else input_bp
        out = lend((last - first, len(self.regions), self.bins, width), np.dtype(np.uint8))
        if (compiled := kernels(out.nbytes)) is not None:
            spans = self._spans(first, last, width, whole=input_bp is None)
            compiled.windows(self._bases(), spans, out.reshape(-1, width))
            return out
        for i, gene in enumerate(range(first, last)):
            for j in range(len(self.regions)):
                out[i, j] = self.gene_inputs(gene, j, input_bp)
        return out

    def whole_inputs(self, genes: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Model inputs of some genes of a source of one window a gene, shape (n, length)."""
        if len(genes) and genes[-1] - genes[0] + 1 == len(genes):
            found = self.bin_inputs(int(genes[0]), int(genes[-1]) + 1, self.bin_bp)
            return found.reshape(len(genes), -1)
        out = np.empty((len(genes), self.bin_bp), np.uint8)
        for row, gene in zip(out, genes.tolist(), strict=True):
            row[...] = self._window(gene, 0, 0, self.bin_bp)[0]
        return out

    def off_contig(self, first: int, last: int) -> NDArray[np.int32]:
        """Bases that lie off the contig, of a source of one window a gene, shape (gene,)."""
        spans = self._spans(first, last, self.bin_bp, whole=False)
        inside = np.minimum(spans.low + self.bin_bp, spans.length) - np.maximum(spans.low, 0)
        found: NDArray[np.int32] = (self.bin_bp - np.maximum(inside, 0)).astype(np.int32)
        return found

    def gene_inputs(self, gene: int, region: int, input_bp: int | None) -> NDArray[np.uint8]:
        """Model input of every bin of one region of one gene, shape (bin, input_bp)."""
        return self.split(
            lambda flank, length: self._window(gene, region, flank, length)[0],
            int(self.region_length[gene, region]), input_bp,
        )  # fmt: skip

    def one_input(
        self, gene: int, region: int, bin_: int, input_bp: int | None
    ) -> NDArray[np.uint8]:
        """Model input of one bin, shape (input_bp,)."""
        codes: NDArray[np.uint8] = self.gene_inputs(gene, region, input_bp)[bin_]
        return codes

    def split(
        self, cut: Callable[[int, int], NDArray[np.uint8]], length: int, input_bp: int | None
    ) -> NDArray[np.uint8]:
        """Model inputs of the bins of a region, shape (bin, input_bp).

        Parameters
        ----------
        cut : called with (flank, length)
            Gives that many bases from ``flank`` before the region's start.
        length : int
            Length of the region in bp.
        input_bp : int or None
            As for :meth:`bin_inputs`.
        """
        if input_bp is None:
            own = np.full(self.bins * self.bin_bp, N, np.uint8)
            own[:length] = cut(0, length)
            return own.reshape(self.bins, self.bin_bp)
        wide = cut((input_bp - self.bin_bp) // 2, (self.bins - 1) * self.bin_bp + input_bp)
        view = np.lib.stride_tricks.sliding_window_view(wide, input_bp)
        bins: NDArray[np.uint8] = view[:: self.bin_bp][: self.bins]
        return bins

    def ranges(self, size: int) -> Iterator[tuple[int, int]]:
        """Gene ranges of the shards."""
        for first in range(0, self.genes, size):
            yield first, min(first + size, self.genes)
