"""Saturation mutagenesis of elements: every single-base change, by what it does at the TSS of a gene.

Windows that differ in a base share their convolutions; what is computed is kept in a journal, so
that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.long_range.genes import Element, Gene, GeneWindows, Reading, near
from benchmarks.long_range.models import WindowModel, for_species
from benchmarks.long_range.outputs import write_labels
from benchmarks.long_range.responses import Replacement, Responses
from benchmarks.long_range.session import Session
from featurestore.errors import InputError
from featurestore.score.journal import Journal
from featurestore.sequence.iupac import LETTERS, N, reverse_complement

Tell = Callable[[int, int], None]
Codes = NDArray[np.uint8]

AT_ONCE: Final = 48
"""Changes of one step: 16 positions."""
ZARR: Final = "mutagenesis.zarr"


@dataclass(frozen=True)
class Asked:
    """What is computed.

    Parameters
    ----------
    tracks, heads : sequence of str
        Their sum is told.
    readings : sequence of Reading
        Shifts and strands that are averaged.
    """

    tracks: tuple[str, ...] = ()
    heads: tuple[str, ...] = ()
    readings: tuple[Reading, ...] = (Reading(),)


@dataclass(frozen=True)
class Saturated:
    """All changes of an element by their effect on one gene.

    Parameters
    ----------
    gene : Gene
    element : Element
    codes : uint8 array, shape (length,)
        Of the element, on the strand of the transcript and in its direction.
    delta : float64 array, shape (length, 4)
        Response of the changed window less that of the window, by the base on the transcript's
        strand; 0 for the reference's own base, NaN where that is N or ambiguous.
    output : float
        Response of the window.
    """

    gene: Gene
    element: Element
    codes: Codes
    delta: NDArray[np.float64]
    output: float


def changes(codes: Codes, start: int) -> list[tuple[int, int, Replacement]]:
    """Every single-base change of a span: offset, new base, edit, on the forward strand."""
    return [
        (offset, base, Replacement(start + offset, start + offset + 1, bytes([base])))
        for offset, ref in enumerate(codes.tolist()) if ref < N
        for base in range(4) if base != ref
    ]  # fmt: skip


def forward_codes(windows: GeneWindows, species: str, element: Element) -> Codes:
    """Bases of an element on the forward strand."""
    length = element.end - element.start
    return windows.genome(species).read(element.contig, element.start + length // 2, 1, length)


def strength(responses: Responses, windows: GeneWindows, element: Element) -> float:
    """Mean over positions of the largest |effect| of a change there."""
    codes = forward_codes(windows, responses.gene.species, element)
    wanted = changes(codes, element.start)
    if not wanted:
        return 0.0
    found = _effects(responses, [edit for _, _, edit in wanted])
    delta = np.zeros((len(codes), 4))
    for (offset, base, _), value in zip(wanted, found, strict=True):
        delta[offset, base] = abs(value)
    return float(delta.max(axis=1)[codes < N].mean())


def _effects(responses: Responses, edits: Sequence[Replacement]) -> NDArray[np.float64]:
    reference = responses.reference.sum()
    parts = [
        responses.replaced(edits[i : i + AT_ONCE]).sum(axis=1) - reference
        for i in range(0, len(edits), AT_ONCE)
    ]
    return np.concatenate(parts) if parts else np.zeros(0)


def saturate(
    session: Session, elements: Sequence[Element], asked: Asked, out: Path,
    tell: Tell | None = None,
) -> list[Saturated]:  # fmt: skip
    """All changes of all elements that lie in the windows of the genes.

    Writes ``mutagenesis.zarr`` and ``mutagenesis.parquet`` into ``out``.

    Raises
    ------
    InputError
        If no element lies in the window of any gene.
    """
    work = list(_work(session, elements, asked))
    if not work:
        raise InputError("no element lies in the window of any gene: " + " ".join(session.tally.sentences()))  # fmt: skip
    facts = _facts(session, asked)
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / ".mutagenesis.journal", facts, width=2, dtype="<f8")
    total = sum(3 * (e.end - e.start) for _, _, own in work for e in own)
    found: list[Saturated] = []
    done = 0
    finished = False
    try:
        for gene, model, own in work:
            responses = Responses(model, session.windows, gene, asked.readings)
            for element in own:
                found.append(_one(session.windows, responses, element, journal))
                done += 3 * (element.end - element.start)
                if tell:
                    tell(done, total)
        _write(out, found, facts, session)
        finished = True
    finally:
        journal.close(remove=finished)
    return found


def _work(
    session: Session, elements: Sequence[Element], asked: Asked
) -> Iterator[tuple[Gene, WindowModel, list[Element]]]:
    for gene in session.genes:
        model = for_species(session.model, gene.species, asked.tracks, asked.heads)
        own = near(gene, elements, model.input_bp, session.tally)
        if own:
            yield gene, model, own


def _facts(session: Session, asked: Asked) -> dict[str, Any]:
    return {
        **session.facts(), "tracks": list(asked.tracks), "heads": list(asked.heads),
        "shifts": sorted({r.shift for r in asked.readings}),
        "rc": any(r.reverse for r in asked.readings),
    }  # fmt: skip


def _one(
    windows: GeneWindows, responses: Responses, element: Element, journal: Journal
) -> Saturated:
    gene = responses.gene
    codes = forward_codes(windows, gene.species, element)
    wanted = changes(codes, element.start)
    window = hashlib.blake2b(
        windows.window(gene, responses.model.input_bp).tobytes(), digest_size=16
    )
    window.update(repr((gene, responses.readings)).encode())
    delta, output = np.full((len(codes), 4), np.nan), float("nan")
    for first in range(0, len(wanted), AT_ONCE):
        step = wanted[first : first + AT_ONCE]
        keys = []
        for _, _, edit in step:
            own = window.copy()
            own.update(repr(edit).encode())
            keys.append(own.digest())
        rows = list(journal.replay(keys))
        if len(rows) < len(step):
            output = float(responses.reference.sum())
            # The whole step, so that what goes together, and so rounding, is as in one run.
            new = _effects(responses, [edit for _, _, edit in step])[len(rows) :]
            values = np.stack([new, np.full(len(new), output)], axis=1)
            journal.append(keys[len(rows) :], values)
            rows += list(values)
        for (offset, base, _), row in zip(step, rows, strict=True):
            delta[offset, base], output = row[0], float(row[1])
    known = np.flatnonzero(codes < N)
    delta[known, codes[known]] = 0.0
    if gene.strand < 0:
        codes, delta = reverse_complement(codes), delta[::-1, ::-1]
    return Saturated(gene, element, codes, delta, output)


def _write(out: Path, found: Sequence[Saturated], facts: dict[str, Any], session: Session) -> None:
    from benchmarks.mutagenesis.results import write_results

    _write_zarr(out / ZARR, found, facts)
    write_results(out, result_table(found, session.opened.unit), facts)


def _write_zarr(path: Path, found: Sequence[Saturated], facts: dict[str, Any]) -> None:
    """``delta (element, position, base)`` padded with NaN, ``reference`` codes, names, places."""
    import zarr

    root: Any = zarr.open_group(path, mode="w")
    root.attrs["meristem_element_mutagenesis"] = {**facts, "bases": "ACGT"}
    longest = max(len(one.codes) for one in found)
    delta = np.full((len(found), longest, 4), np.nan, np.float32)
    codes = np.full((len(found), longest), N, np.uint8)
    for index, one in enumerate(found):
        delta[index, : len(one.codes)] = one.delta
        codes[index, : len(one.codes)] = one.codes
    root.create_array(
        "delta", data=delta, chunks=(1, longest, 4), dimension_names=["element", "position", "base"]
    )
    root.create_array("reference", data=codes, dimension_names=["element", "position"])
    write_labels(
        root, "element", gene=[one.gene.name for one in found],
        element=[one.element.name for one in found], contig=[one.element.contig for one in found],
    )  # fmt: skip
    for name, numbers in (
        ("start", np.array([one.element.start for one in found], np.int64)),
        ("end", np.array([one.element.end for one in found], np.int64)),
        ("strand", np.array([one.gene.strand for one in found], np.int8)),
        ("output", np.array([one.output for one in found])),
    ):
        root.create_array(name, data=numbers, dimension_names=["element"])


def result_table(found: Sequence[Saturated], unit: str) -> pd.DataFrame:
    """One row per change, columns as of ``bench mutagenesis``, and ``gene``.

    ``position`` is bp from the TSS in transcript direction; ``ref`` and ``alt`` stand on its strand.
    """
    several = len({one.gene.name for one in found}) > 1
    tables = []
    for one in found:
        gene, element = one.gene, one.element
        place, base = np.nonzero(_changed(one))
        first, _ = gene.inside(element.start, element.end, 0)
        forward = element.start + place if gene.strand >= 0 else element.end - 1 - place
        tables.append(pd.DataFrame({
            "element": f"{gene.name}:{element.name}" if several else element.name,
            "species": gene.species, "region": "tss", "position": first + place,
            "contig": element.contig, "contig_position": forward,
            "ref": [LETTERS[one.codes[p]] for p in place], "alt": [LETTERS[b] for b in base],
            "learner": "enformer", "delta": one.delta[place, base], "sd": np.nan, "folds": "",
            "unit": unit, "note": "", "gene": gene.name,
        }))  # fmt: skip
    return pd.concat(tables, ignore_index=True)


def _changed(one: Saturated) -> NDArray[np.bool_]:
    """Where a base other than the reference's stands, and the reference is known."""
    known = one.codes < N
    return np.asarray(known[:, None] & (np.arange(4)[None] != one.codes[:, None]))
