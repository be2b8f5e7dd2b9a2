"""Contributions on disk: bigWig on the genome, Zarr by gene, a table of genes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.long_range.contributions import Contribution
from benchmarks.long_range.genes import Gene
from featurestore.errors import InputError, MissingDependencyError

ZARR: Final = "contributions.zarr"
Floats = NDArray[np.float32]


def safe_name(name: str) -> str:
    """A gene's name as that of a file."""
    return re.sub(r"[^0-9A-Za-z_.-]", "_", name) or "_"


def check_folder(out: Path) -> None:
    """Refuse a folder that holds something else.

    Raises
    ------
    InputError
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: is a file; --out names a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "about.json").is_file():
        raise InputError(f"{out}: holds other files; give --out an empty folder")


def on_genome(gene: Gene, bases: Floats) -> tuple[int, Floats]:
    """Start on the forward strand, and values in its direction."""
    start, _ = gene.span(len(bases))
    return start, bases if gene.strand >= 0 else bases[::-1]


def spans_of(one: Contribution, bin_bp: int) -> Iterator[tuple[int, int, float]]:
    """What a gene's bigWig holds, in order: bases, bins of attention, or elements."""
    gene = one.gene
    if one.bases is not None:
        start, values = on_genome(gene, one.bases)
        yield from ((start + i, start + i + 1, float(v)) for i, v in enumerate(values))
    elif one.bins is not None:
        start, values = on_genome(gene, np.repeat(one.bins, bin_bp))
        for i in range(0, len(values), bin_bp):
            yield start + i, start + i + bin_bp, float(values[i])
    else:
        last = -1
        for element, score in sorted(one.elements, key=lambda e: (e[0].start, e[0].end)):
            # A base of a bigWig has one value: of elements that overlap the first keeps it.
            if (low := max(element.start, last)) < element.end:
                yield low, element.end, score
                last = element.end


def write_bigwig(
    path: Path, contigs: Mapping[str, int], one: Contribution, bin_bp: int
) -> None:  # fmt: skip
    """The contributions to one gene, on the forward strand's coordinates.

    Raises
    ------
    MissingDependencyError
        Without pyBigWig.
    """
    try:
        import pyBigWig
    except ImportError as error:
        raise MissingDependencyError(
            "bigWig files are written with pyBigWig: pip install 'meristem[tracks]'"
        ) from error
    length = contigs[one.gene.contig]
    kept = [
        (max(low, 0), min(high, length), value)
        for low, high, value in spans_of(one, bin_bp) if low < length and high > 0
    ]  # fmt: skip
    part = path.with_name(f".{path.name}.part")
    file = pyBigWig.open(str(part), "w")
    try:
        file.addHeader([(one.gene.contig, length)])
        if one.bases is not None and kept:
            values = np.array([v for _, _, v in kept], np.float64)
            file.addEntries(one.gene.contig, kept[0][0], values=values, span=1, step=1)
        elif kept:
            file.addEntries(
                [one.gene.contig] * len(kept), [k[0] for k in kept], ends=[k[1] for k in kept],
                values=[k[2] for k in kept],
            )  # fmt: skip
    finally:
        file.close()
    part.replace(path)


class ContributionStore:
    """Contributions by gene and position, written as they come.

    ``contribution (gene, position)`` in transcript orientation with ``position`` in bp from the TSS
    (0 is the first transcribed base), ``bin_contribution (gene, bin)`` with ``bin_start`` likewise:
    the mean of |contribution|, or attention; ``gene``, ``species``, ``contig``, ``strand``, ``tss``
    (0-based boundary), ``output (gene)``.

    Parameters
    ----------
    path : Path
        A Zarr group, made anew.
    genes : sequence of Gene
    facts : mapping
        Plain JSON types.
    length, bin_bp : int
        Of a window, of a bin of it.
    dtype : {"float16", "float32"}
    per_base : bool
        Whether there are contributions of bases; of attention there are none.
    """

    def __init__(
        self, path: Path, genes: Sequence[Gene], facts: Mapping[str, Any], length: int,
        bin_bp: int, *, dtype: str = "float32", per_base: bool = True,
    ) -> None:  # fmt: skip
        import zarr

        root: Any = zarr.open_group(path, mode="w")
        root.attrs["meristem_contributions"] = dict(facts)
        write_labels(
            root, "gene", gene=[g.name for g in genes], species=[g.species for g in genes],
            contig=[g.contig for g in genes],
        )  # fmt: skip
        for name, numbers in (
            ("strand", np.array([g.strand for g in genes], np.int8)),
            ("tss", np.array([g.tss for g in genes], np.int64)),
        ):
            root.create_array(name, data=numbers, dimension_names=["gene"])
        self._output = root.create_array(
            "output", shape=(len(genes),), dtype="float64", fill_value=float("nan"),
            dimension_names=["gene"],
        )  # fmt: skip
        self._dtype, self._arrays = dtype, []
        kinds = [("bin_contribution", "bin_start", "bin", bin_bp)]
        if per_base:
            kinds.insert(0, ("contribution", "position", "position", 1))
        for name, axis, dimension, step in kinds:
            count = length // step
            self._arrays.append(root.create_array(
                name, shape=(len(genes), count), chunks=(1, count), dtype=dtype,
                fill_value=float("nan"), dimension_names=["gene", dimension],
            ))  # fmt: skip
            starts = np.arange(count, dtype=np.int64) * step - length // 2
            root.create_array(axis, data=starts, dimension_names=[dimension])

    def add(self, index: int, one: Contribution) -> None:
        """Write one gene."""
        rows = [row for row in (one.bases, one.bins) if row is not None]
        for array, row in zip(self._arrays, rows, strict=True):
            array[index] = row.astype(self._dtype)
        self._output[index] = one.output


def write_labels(root: Any, dimension: str, **columns: Sequence[str]) -> None:
    """Arrays of text of one dimension."""
    for name, values in columns.items():
        array = root.create_array(
            name, shape=(len(values),), dtype=str, chunks=(max(len(values), 1),),
            dimension_names=(dimension,),
        )  # fmt: skip
        array[:] = np.array(values, object)


def write_about(out: Path, facts: Mapping[str, Any]) -> None:
    """``about.json``: how it was made."""
    from featurestore.plain_json import plain

    text = json.dumps(plain(dict(facts)), indent=1, sort_keys=True)
    (out / "about.json").write_text(text + "\n", encoding="utf-8")
