"""Contributions from end to end: genes to a folder of bigWig, Zarr, tables and logos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.long_range.contributions import (
    METHODS,
    PER_BASE,
    Asked,
    Contribution,
    contributions,
    element_table,
)
from benchmarks.long_range.genes import read_elements
from benchmarks.long_range.logo import strongest, write_logo
from benchmarks.long_range.outputs import (
    ZARR,
    ContributionStore,
    check_folder,
    safe_name,
    write_about,
    write_bigwig,
)
from benchmarks.long_range.session import Session
from featurestore.errors import InputError

Tell = Callable[[int, int], None]
Span = tuple[str, int, int]


def parse_region(text: str) -> Span:
    """``CONTIG:START-END``, 0-based half-open.

    Raises
    ------
    InputError
    """
    contig, _, span = text.rpartition(":")
    start, _, end = span.replace(",", "").partition("-")
    if not contig or not start.isdigit() or not end.isdigit() or int(start) >= int(end):
        raise InputError(f"--region {text!r}: write CONTIG:START-END, 0-based with START < END")
    return contig, int(start), int(end)


def explain(
    session: Session, asked: Asked, out: Path, *, element_file: Path | None = None,
    region: Span | None = None, logo_width: int = 100, zarr_dtype: str = "float32",
    bigwig: bool = True, tell: Tell | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compute and write the contributions of a session's genes.

    Writes into ``out``: ``about.json``, ``genes.tsv``, for methods that know bases or bins
    ``contributions.zarr`` and logos, ``GENE.METHOD.bw``, and ``elements.tsv`` where elements are given.

    Parameters
    ----------
    region : (contig, start, end), optional
        What the logos show; the strongest stretch of ``logo_width`` bases unless told.

    Returns
    -------
    dict
        What ``about.json`` says.
    """
    check_folder(out)
    elements = read_elements(element_file) if element_file is not None else []
    facts: dict[str, Any] = {**session.facts(), **asked.facts()}
    out.mkdir(parents=True, exist_ok=True)
    write_about(out, facts)
    found: list[Contribution] = []
    bin_bp = session.model.bin_bp
    held = None
    if asked.method in METHODS[:3]:
        held = ContributionStore(
            out / ZARR, session.genes, facts, session.model.input_bp, bin_bp, dtype=zarr_dtype,
            per_base=asked.method in PER_BASE,
        )  # fmt: skip
    for one in contributions(
        session.model, session.windows, session.genes, asked, elements, session.tally, tell
    ):
        _check_finite(one)
        name = safe_name(one.gene.name)
        if bigwig:
            contigs = session.windows.genome(one.gene.species).contigs
            write_bigwig(out / f"{name}.{asked.method}.bw", contigs, one, bin_bp)
        if one.bases is not None and logo_width:
            _logo(session, out / f"{name}.{asked.method}.svg", one, region, logo_width)
        if held is not None:
            held.add(len(found), one)
        # What is on disk does not stay in memory.
        found.append(replace(one, bases=None, bins=None))
    _gene_table(found).to_csv(out / "genes.tsv", sep="\t", index=False)
    if elements:
        table = element_table(found, asked.method)
        table.to_csv(out / "elements.tsv", sep="\t", index=False)
        facts["elements"] = len(table)
    facts |= {"left_out": session.tally.facts(), "notes": _notes(found), "out": str(out)}
    write_about(out, facts)
    return facts


def _check_finite(one: Contribution) -> None:
    values = one.bases if one.bases is not None else one.bins
    if values is not None and not np.isfinite(values).all():
        raise InputError(
            f"{one.gene.name}: contributions are no numbers; use --dtype fp32, or see to the weights"
        )


def _logo(session: Session, path: Path, one: Contribution, region: Span | None, width: int) -> None:
    assert one.bases is not None  # noqa: S101 - what the caller looks at
    length = len(one.bases)
    low, high = strongest(one.bases, width)
    if region is not None:
        contig, start, end = region
        low, high = one.gene.inside(start, end, length)
        if contig != one.gene.contig or low < 0 or high > length:
            session.tally.add("gene whose window does not hold the region of the logo", one.gene.name)  # fmt: skip
            return
    codes = session.windows.window(one.gene, length)
    label = f"{one.gene.name}  {one.gene.contig}  strand {'+' if one.gene.strand >= 0 else '−'}"
    if session.simulated:
        label += "  SIMULATED"
    write_logo(path, codes[low:high], one.bases[low:high], low - length // 2, label)


def _gene_table(found: Sequence[Contribution]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            (one.gene.species, one.gene.name, one.gene.contig, one.gene.tss, one.gene.strand,
             one.output, one.total, one.difference, one.gap)
            for one in found
        ],
        columns=["species", "gene", "contig", "tss", "strand", "output", "sum", "difference", "gap"],
    )  # fmt: skip


def _notes(found: Sequence[Contribution]) -> list[str]:
    """How well integrated gradients add up."""
    shares = [abs(c.gap) / abs(c.difference) for c in found if abs(c.difference) > 0]
    if not shares:
        return []
    return [
        f"integrated gradients miss the difference of the responses by {np.median(shares):.2%} in the "
        f"median, {max(shares):.2%} at most: more --steps bring them nearer"
    ]
