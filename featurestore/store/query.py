"""``fs query``: which genes, and their features, as tables other tools read."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.plain_json import plain
from featurestore.store.reader import GeneTable, Store

FORMATS: Final = ("csv", "npz", "parquet", "json")
_REGION: Final = re.compile(r"(?P<contig>.+):(?P<start>[\d,]+)-(?P<end>[\d,]+)$")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True)
class Selection:
    """Genes that a query found in one species, and their features if asked for.

    ``values``: shape (gene, …) of the feature, stored dtype; ``columns``: a name for each flat column.
    """

    species: str
    rows: NDArray[np.int64]
    table: GeneTable
    values: NDArray[Any] | None
    columns: list[str]


def parse_region(text: str) -> tuple[str, int, int]:
    """``chr:start-end`` as samtools writes it (1-based, inclusive) → contig, 0-based half-open span."""
    match = _REGION.match(text)
    if match is None:
        raise InputError(
            f"region {text!r}: write it as contig:start-end, 1-based and inclusive, e.g. Chr1:10000-20000"
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
    table = store.genes(species)
    keep = np.ones(len(table.gene), bool)
    if genes:
        keep &= np.isin(table.gene, list(genes)) | np.isin(table.locus, list(genes))
    if region is not None:
        contig, start, end = parse_region(region)
        low, high = np.minimum(table.tss, table.tts), np.maximum(table.tss, table.tts)
        keep &= (table.contig == contig) & (low < end) & (high > start) & (low >= 0)
    if family is not None:
        keep &= table.family == family
    return np.flatnonzero(keep).astype(np.int64)


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
            found.append(Selection(name, rows, store.genes(name), values, columns))
    missing = set(genes) - {
        g for s in found for g in [*s.table.gene[s.rows], *s.table.locus[s.rows]]
    }
    if missing or not found:
        known = store.genes(species[0]).gene[:3].tolist()
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
        for i, row in enumerate(one.rows.tolist()):
            record = {
                "species": one.species, "gene": str(table.gene[row]), "contig": str(table.contig[row]),
                "strand": int(table.strand[row]), "tss": int(table.tss[row]), "tts": int(table.tts[row]),
                "family": str(table.family[row]),
            }  # fmt: skip
            if one.values is not None and embedder is not None:
                record[embedder] = one.values[i].tolist()
            records.append(record)
    return records


def safe_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


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
    writer.writerow([safe_cell(h) for h in header])
    for row in rows:
        writer.writerow([safe_cell(x) if isinstance(x, str) else x for x in row])
    return buffer.getvalue()


def _binary(found: Sequence[Selection], embedder: str | None, form: str, out: Path) -> None:
    if form == "npz":
        arrays: dict[str, Any] = {
            "species": np.concatenate([np.full(len(s.rows), s.species) for s in found]),
            "gene": np.concatenate([s.table.gene[s.rows] for s in found]),
        }
        if embedder is not None:
            arrays[embedder] = np.concatenate([s.values for s in found if s.values is not None])
        np.savez(out, **arrays)
        return
    import pandas as pd

    header, rows = _flat(found, embedder)
    pd.DataFrame(rows, columns=header).to_parquet(out, index=False)
