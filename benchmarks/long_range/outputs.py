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


def write_zarr(
    path: Path, found: Sequence[Contribution], bin_bp: int, facts: Mapping[str, Any],
    dtype: str = "float32",
) -> None:  # fmt: skip
    """Contributions by gene and position.

    ``contribution (gene, position)`` in transcript orientation with ``position`` in bp from the TSS
    (0 is the first transcribed base), ``bin_contribution (gene, bin)`` with ``bin_start`` likewise:
    the mean of |contribution|, or attention; ``gene``, ``species``, ``contig``, ``strand``, ``tss``
    (0-based boundary), ``output (gene)``.
    """
    import zarr

    root: Any = zarr.open_group(path, mode="w")
    genes = [one.gene for one in found]
    root.attrs["meristem_contributions"] = dict(facts)
    write_labels(
        root, "gene", gene=[g.name for g in genes], species=[g.species for g in genes],
        contig=[g.contig for g in genes],
    )  # fmt: skip
    for name, numbers in (
        ("strand", np.array([g.strand for g in genes], np.int8)),
        ("tss", np.array([g.tss for g in genes], np.int64)),
        ("output", np.array([one.output for one in found])),
        ("gap", np.array([one.gap for one in found])),
    ):
        root.create_array(name, data=numbers, dimension_names=["gene"])
    _stack(root, "contribution", "position", [one.bases for one in found], 1, dtype)
    _stack(root, "bin_contribution", "bin_start", [one.bins for one in found], bin_bp, dtype)


def write_labels(root: Any, dimension: str, **columns: Sequence[str]) -> None:
    """Arrays of text of one dimension."""
    for name, values in columns.items():
        array = root.create_array(
            name, shape=(len(values),), dtype=str, chunks=(max(len(values), 1),),
            dimension_names=(dimension,),
        )  # fmt: skip
        array[:] = np.array(values, object)


def _stack(
    root: Any, name: str, axis: str, rows: Sequence[Floats | None], step: int, dtype: str
) -> None:
    known = [row for row in rows if row is not None]
    if not known or len(known) < len(rows):
        return
    length = len(known[0])
    place = "position" if step == 1 else "bin"
    array = root.create_array(
        name, shape=(len(known), length), chunks=(1, length), dtype=dtype,
        dimension_names=["gene", place],
    )  # fmt: skip
    for index, row in enumerate(known):
        array[index] = row.astype(dtype)
    starts = (np.arange(length, dtype=np.int64) - length // 2) * step
    root.create_array(axis, data=starts, dimension_names=[place])


def write_about(out: Path, facts: Mapping[str, Any]) -> None:
    """``about.json``: how it was made."""
    from featurestore.plain_json import plain

    text = json.dumps(plain(dict(facts)), indent=1, sort_keys=True)
    (out / "about.json").write_text(text + "\n", encoding="utf-8")
