"""``fs query``: which genes, and their features, as tables other tools read."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.cells import safe_row
from featurestore.errors import InputError
from featurestore.plain_json import plain
from featurestore.store.reader import GeneTable, Store

FORMATS: Final = ("csv", "npz", "parquet", "json")
_REGION: Final = re.compile(r"(?P<contig>.+):(?P<start>[0-9][0-9,]*)-(?P<end>[0-9][0-9,]*)")
_MOST_DIGITS: Final = 18


@dataclass(frozen=True)
class Selection:
    """Genes that a query found in one species, and their features if asked for.

    ``rows`` (gene,) in the store, ``table`` those rows alone; ``values``: shape (gene, …) of the
    feature, stored dtype; ``columns``: a name for each flat column.
    """

    species: str
    rows: NDArray[np.int64]
    table: GeneTable
    values: NDArray[Any] | None
    columns: list[str]


def parse_region(text: str) -> tuple[str, int, int]:
    """``chr:start-end`` as samtools writes it (1-based, inclusive) → contig, 0-based half-open span."""
    match = _REGION.fullmatch(text)
    if match is None or max(len(match["start"]), len(match["end"])) > _MOST_DIGITS:
        raise InputError(
            f"region {text[:100]!r}: write it as contig:start-end, 1-based and inclusive, e.g. Chr1:10000-20000"
        )
    start, end = (int(match[name].replace(",", "")) for name in ("start", "end"))
    if not 1 <= start <= end:
        raise InputError(
            f"region {text!r}: start {start} and end {end} must be 1 or more and in order"
        )
    return match["contig"], start - 1, end


def _rows(
    store: Store, species: str, genes: Sequence[str], region: str | None, family: str | None
) -> NDArray[np.int64]:
    """Rows that meet every condition; of each column only what a condition needs is looked at."""
    chosen: list[NDArray[np.int64]] = []
    if genes:
        columns = [c for c in ("gene", "locus") if store.has(species, c)]
        named = [store.stored(species, c).text().rows_of(genes) for c in columns]
        chosen.append(np.unique(np.concatenate(named)))
    if region is not None:
        contig, start, end = parse_region(region)
        tss, tts = store.array(species, "tss"), store.array(species, "tts")
        low, high = np.minimum(tss, tts), np.maximum(tss, tts)
        here = np.flatnonzero((low < end) & (high > start) & (low >= 0)).astype(np.int64)
        on = store.stored(species, "contig").text()
        chosen.append(here[np.array([c == contig for c in on.at(here)], bool)])
    if family is not None:
        chosen.append(store.stored(species, "family").text().rows_of([family]))
    return reduce(np.intersect1d, chosen)


def select(
    store: Store, species: Sequence[str], *, genes: Sequence[str] = (), region: str | None = None,
    family: str | None = None, embedder: str | None = None,
) -> list[Selection]:  # fmt: skip
    """Find genes by id, by overlap of their transcript with a region, or by family.

    Raises
    ------
    InputError
        If nothing was asked for, or nothing found.
    """
    if not (genes or region or family):
        raise InputError("say which genes: --gene ID, --region contig:start-end or --family NAME")
    found = []
    for name in species:
        rows = _rows(store, name, genes, region, family)
        if len(rows):
            values, columns = _features(store, name, embedder, rows)
            found.append(Selection(name, rows, store.genes(name, rows), values, columns))
    missing = set(genes) - {
        g for s in found for g in [*s.table.gene.tolist(), *s.table.locus.tolist()]
    }
    if missing or not found:
        ids = store.stored(species[0], "gene").text()
        known = ids.at(np.arange(min(len(ids), 3)))
        what = ", ".join(sorted(missing)) if missing else f"{region or ''} {family or ''}".strip()
        raise InputError(
            f"{store.path}: no gene found for {what}. Ids look like {', '.join(known)}"
        )
    return found


def _features(
    store: Store, species: str, embedder: str | None, rows: NDArray[np.int64]
) -> tuple[NDArray[Any] | None, list[str]]:
    if embedder is None:
        return None, []
    source = store.feature_source(species, embedder)
    values = source.read(rows)
    labels = [
        [str(x) for x in source.coords[dim].tolist()]
        if dim in source.coords
        else [str(i) for i in range(size)]
        for dim, size in zip(source.dims, source.shape, strict=True)
    ]
    columns = [""]
    for axis in labels:
        columns = [f"{left}.{right}" if left else right for left in columns for right in axis]
    return values, columns


def as_records(found: Sequence[Selection], embedder: str | None) -> list[dict[str, Any]]:
    """One record a gene: species, gene, place, family, and the feature as nested lists."""
    records = []
    for one in found:
        table = one.table
        for i in range(len(one.rows)):
            record = {
                "species": one.species, "gene": str(table.gene[i]), "contig": str(table.contig[i]),
                "strand": int(table.strand[i]), "tss": int(table.tss[i]), "tts": int(table.tts[i]),
                "family": str(table.family[i]),
            }  # fmt: skip
            if one.values is not None and embedder is not None:
                record[embedder] = one.values[i].tolist()
            records.append(record)
    return records


def write(found: Sequence[Selection], embedder: str | None, form: str, out: Path | None) -> str:
    """Render a query.

    Parameters
    ----------
    form : {"csv", "npz", "parquet", "json"}
    out : Path, optional
        File to write; npz and parquet need one.

    Returns
    -------
    str
        Text for stdout; empty if a file was written.
    """
    if form in {"npz", "parquet"} and out is None:
        raise InputError(f"--format {form} is binary: give a file with --out")
    if form == "json":
        text = json.dumps(plain(as_records(found, embedder)), indent=1, allow_nan=False)
    elif form == "csv":
        text = _csv(found, embedder)
    else:
        assert out is not None  # noqa: S101 - checked above
        _binary(found, embedder, form, out)
        return ""
    if out is None:
        return text
    out.write_text(text)
    return ""


def _flat(found: Sequence[Selection], embedder: str | None) -> tuple[list[str], list[list[Any]]]:
    base = ["species", "gene", "contig", "strand", "tss", "tts", "family"]
    columns = found[0].columns if embedder else []
    rows = []
    for one in found:
        records = as_records([one], None)
        for i, record in enumerate(records):
            flat = [] if one.values is None else one.values[i].ravel().tolist()
            rows.append([*(record[k] for k in base), *flat])
    return [*base, *columns], rows


def _csv(found: Sequence[Selection], embedder: str | None) -> str:
    header, rows = _flat(found, embedder)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(safe_row(header))
    writer.writerows(safe_row(row) for row in rows)
    return buffer.getvalue()


def _binary(found: Sequence[Selection], embedder: str | None, form: str, out: Path) -> None:
    if form == "npz":
        arrays: dict[str, Any] = {
            "species": np.concatenate([np.full(len(s.rows), s.species) for s in found]),
            "gene": np.concatenate([s.table.gene for s in found]),
        }
        if embedder is not None:
            arrays[embedder] = np.concatenate([s.values for s in found if s.values is not None])
        np.savez(out, **arrays)
        return
    import pandas as pd

    header, rows = _flat(found, embedder)
    pd.DataFrame(rows, columns=header).to_parquet(out, index=False)
