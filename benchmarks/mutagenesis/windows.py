"""Windows of chosen genes of a store, with as much sequence around them as any embedder looks at."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.windows.window_source import WindowSource, lay_down
from featurestore.inputs.model import Genome, Region, SpeciesData
from featurestore.score.genome import stored_bases
from featurestore.sequence.windows import window_span


@contextmanager
def gene_windows(
    store: Any, species: str, rows: Sequence[int], flank: int
) -> Iterator[WindowSource]:
    """Windows of some genes; gene i of the source is row ``rows[i]`` of the species.

    Of a genome only what the windows reach is read.

    Parameters
    ----------
    store : featurestore.store.reader.Store
    species : str
    rows : sequence of int
    flank : int
        Bases that a model sees on either side of a region.
    """
    facts = store.meta(species, "")["attributes"]["meristem"]
    regions = tuple(Region(**one) for one in facts["regions"])
    genes = store.genes(species, np.asarray(rows, np.int64))
    count, text = len(rows), [str(gene) for gene in genes.gene]
    if store.has(species, "genome/code"):
        pieces, tss, tts = _pieces(store, species, genes, regions, flank)
        length = np.array([len(piece) for piece in pieces], np.int64)
        genome = Genome(
            text, np.cumsum(length) - length, length,
            np.concatenate(pieces) if pieces else np.zeros(0, np.uint8),
        )  # fmt: skip
        data = SpeciesData(
            species,
            "genome",
            text,
            text,
            text,
            genes.strand,
            tss,
            tts,
            [""] * count,
            regions,
            genome,
        )
    else:
        at = np.asarray(rows, np.int64)
        code = store.stored(species, "sequence/code").take(at)
        full = np.array([region.length for region in regions], np.int32)
        if store.has(species, "sequence/region_length"):
            own = store.stored(species, "sequence/region_length").take(at)
        else:
            own = np.tile(full, (count, 1))
        data = sequence_data(text, regions, code, own)
    with laid_down(data, int(store.attrs["meristem"]["bin"])) as source:
        yield source


def sequence_data(
    names: Sequence[str],
    regions: tuple[Region, ...],
    code: NDArray[np.uint8],
    length: NDArray[np.int32],
) -> SpeciesData:
    """Ready-made sequences as a species.

    Parameters
    ----------
    code : uint8 array, shape (gene, region, position)
    length : int32 array, shape (gene, region)
    """
    count, nowhere = len(names), np.full(len(names), -1, np.int64)
    plain = list(names)
    return SpeciesData(
        "sequences", "sequences", plain, plain, [""] * count, np.zeros(count, np.int8), nowhere,
        nowhere, [""] * count, regions, region_code=code, region_length=length,
    )  # fmt: skip


@contextmanager
def laid_down(data: SpeciesData, bin_bp: int) -> Iterator[WindowSource]:
    """A window source over a folder that goes when the context ends."""
    with tempfile.TemporaryDirectory(prefix="meristem-") as folder:
        lay_down(Path(folder), data, bin_bp)
        yield WindowSource(Path(folder))


def _pieces(
    store: Any, species: str, genes: Any, regions: Sequence[Region], flank: int
) -> tuple[list[NDArray[np.uint8]], NDArray[np.int64], NDArray[np.int64]]:
    """The contig around each gene, N beyond its ends, and where TSS and TTS lie in it."""
    bases = stored_bases(store, species)
    pieces, low = [], np.zeros(len(genes.gene), np.int64)
    for i in range(len(genes.gene)):
        spans = [
            window_span(
                int((genes.tss if region.anchor == "tss" else genes.tts)[i]), int(genes.strand[i]),
                region.upstream + flank, region.downstream + flank,
            )
            for region in regions
        ]  # fmt: skip
        low[i] = min(start for start, _ in spans)
        end = max(end for _, end in spans)
        pieces.append(bases.cut(str(genes.contig[i]), int(low[i]), end))
    return pieces, genes.tss - low, genes.tts - low
