"""Sequence mode: gene-centred sequences given ready-made, in one table or one file a region.

A record is a row of the table or an entry of a file; several may belong to one gene. Sequences
are in transcript orientation and kept as given: base 0 of a sequence is position 0 of its
region, and what the longest sequence has more is filled with N on the right. A sequence that is
shorter than its declared region is therefore *not* moved towards the anchor; declare the
region that the sequences really cover.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import did_you_mean
from featurestore.inputs.dataset import DatasetConfig, SpeciesConfig
from featurestore.inputs.findings import MOST_EXAMPLES, Findings
from featurestore.inputs.model import Region
from featurestore.inputs.problems import Problems, few
from featurestore.sequence import iupac

_ALWAYS_HELD: Final = 1 << 28
_MOST_PADDING: Final = 64
"""Bases that are laid out at most: 268 million, or 64 for each that is given."""
_DEFAULT_ANCHOR: Final = {"promoter": "tss", "terminator": "tts"}


@dataclass
class Given:
    """Sequences of one region file, or of one table, before they are coded.

    Parameters
    ----------
    record, gene, contig : list of str, length n
    strand : int8 array, shape (n,)
    tss, tts : int64 arrays, shape (n,)
    sequence : mapping of region name to n sequences; empty where there is none
    line : mapping of region name to (file, line of each record)
    family, fold : list of str or None
    median_tpm : list of str or None
        PhytoExpr's column of expression, as written.
    notes : list of str
    """

    record: list[str]
    gene: list[str]
    contig: list[str]
    strand: NDArray[np.int8]
    tss: NDArray[np.int64]
    tts: NDArray[np.int64]
    sequence: dict[str, list[bytes]]
    line: dict[str, tuple[Path, list[int]]]
    family: list[str] | None = None
    fold: list[str] | None = None
    median_tpm: list[str] | None = None
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sequences:
    """Records with their codes.

    Parameters
    ----------
    given : Given
    regions : tuple of Region
    code : uint8 array, shape (record, region, position)
    length : int32 array, shape (record, region)
    """

    given: Given
    regions: tuple[Region, ...]
    code: NDArray[np.uint8]
    length: NDArray[np.int32]


def read_sequences(
    config: DatasetConfig, name: str, species: SpeciesConfig, problems: Problems
) -> Sequences | None:
    """Read the sequences of a species.

    Regions are those declared in ``[regions]`` that the files have; where none are declared,
    those of the files, each as long as its longest sequence: wholly upstream of the TSS for a
    promoter, wholly downstream of the TTS for a terminator.

    Returns
    -------
    Sequences in the order of the files, or None; ``problems`` then says why.
    """
    from featurestore.inputs.sequence_files import read_region_files
    from featurestore.inputs.sequence_tables import read_sequence_table

    if isinstance(species.sequences, Mapping):
        if not _known_regions(config, name, species.sequences, problems):
            return None
        given = read_region_files(species.sequences, problems)
    elif species.sequences is not None:
        declared = [region.name for region in config.regions]
        given = read_sequence_table(species.sequences, declared, name, species, problems)
    else:
        return None
    return None if given is None else encode_regions(given, config, problems)


def _known_regions(
    config: DatasetConfig, name: str, files: Mapping[str, Path], problems: Problems
) -> bool:
    known = [region.name for region in config.regions]
    unknown = [region for region in files if region not in known]
    for region in unknown:
        problems.add(
            config.path,
            f"species {name} gives sequences of a region {region!r} that is not declared."
            f"{did_you_mean(region, known)}",
            f'add {region} = {{ anchor = "tss", upstream = …, downstream = … }} to [regions]',
        )
    return not unknown


def encode_regions(given: Given, config: DatasetConfig, problems: Problems) -> Sequences | None:
    """Code the sequences and lay them out by region."""
    named = [region for region in config.regions if region.name in given.sequence]
    for region in config.regions:
        if region.name not in given.sequence and config.regions_declared:
            given.notes.append(
                f"sequences: the declared region {region.name!r} is not among the sequences."
            )
    if not named:
        mend = 'name a file for each, such as sequences = { promoter = "promoter.fa" }'
        problems.add(config.path, "sequences of no region are given", mend)
        return None
    pieces = [_encode(given, region.name, problems) for region in named]
    if any(piece is None for piece in pieces):
        return None
    coded = [piece for piece in pieces if piece is not None]
    lengths = np.stack([length for _, length in coded], axis=1).astype(np.int32)
    regions: list[Region] = []
    fits = True
    for i, region in enumerate(named):
        longest = int(lengths[:, i].max(initial=0))
        if config.regions_declared:
            fits &= _tell_long(given, region, lengths[:, i], problems)
            regions.append(region)
        else:
            anchor = _DEFAULT_ANCHOR.get(region.name, region.anchor)
            before, after = (longest, 0) if anchor == "tss" else (0, longest)
            regions.append(Region(region.name, region.anchor, before, after))
    if not fits:
        return None
    _note_short(given, regions, lengths)
    width = max((region.length for region in regions), default=0)
    if _mostly_padding(given, regions, width, int(lengths.sum()), problems):
        return None
    code = np.full((len(given.record), len(regions), width), iupac.N, np.uint8)
    for i, (flat, length) in enumerate(coded):
        code[:, i][np.arange(width) < length[:, None]] = flat
    return Sequences(given, tuple(regions), code, lengths)


def _mostly_padding(
    given: Given, regions: Sequence[Region], width: int, bases: int, problems: Problems
) -> bool:
    """Whether next to nothing of records × regions × width would hold bases; told if so.

    All sequences are laid out as wide as the longest: one of a chromosome's length among many
    short ones would take all memory.
    """
    size = len(given.record) * len(regions) * width
    if size <= max(_ALWAYS_HELD, _MOST_PADDING * bases):
        return False
    file, _ = given.line[regions[0].name]
    what = (
        f"{bases:,} bases in {len(given.record):,} records would be laid out in {size:,}, all as "
        f"wide as the longest region of {width:,} bp"
    )
    problems.add(file, what, "take out the longest, or declare shorter regions in [regions]")
    return True


def _encode(
    given: Given, region: str, problems: Problems
) -> tuple[NDArray[np.uint8], NDArray[np.int64]] | None:
    """Codes of one region end to end, and the length of each sequence."""
    sequences = given.sequence[region]
    length = np.fromiter(map(len, sequences), np.int64, len(sequences))
    flat = iupac.encode(b"".join(sequences))
    bad = np.flatnonzero(flat == iupac.UNKNOWN)
    if not bad.size:
        return flat, length
    file, lines = given.line[region]
    findings = Findings(file, problems)
    ends = np.cumsum(length)
    kind = "no IUPAC nucleotide letter"
    for at in bad[:MOST_EXAMPLES].tolist():
        i = int(np.searchsorted(ends, at, side="right"))
        position = at - int(ends[i] - length[i])
        letter = chr(sequences[i][position])
        what = f"{letter!r} at base {position + 1:,} of {region} of {given.record[i]}"
        mend = "this must be DNA; replace unknown bases by N and take out gaps and stops"
        findings.add(kind, mend, lines[i], what)
    findings.kinds[kind].count = int(bad.size)
    findings.report()
    return None


def _tell_long(given: Given, region: Region, length: NDArray[np.int32], problems: Problems) -> bool:
    file, lines = given.line[region.name]
    findings = Findings(file, problems)
    for i in np.flatnonzero(length > region.length).tolist():
        what = f"{given.record[i]} has {length[i]:,} bp of {region.name}"
        mend = f"declare {region.name} in [regions] as long as its sequences, or cut these"
        kind = f"a sequence longer than its region of {region.length:,} bp"
        findings.add(kind, mend, lines[i], what)
    good = not findings.kinds
    findings.report()
    return good


def _note_short(given: Given, regions: Sequence[Region], lengths: NDArray[np.int32]) -> None:
    for i, region in enumerate(regions):
        absent = [given.record[j] for j in np.flatnonzero(lengths[:, i] == 0)]
        short = np.flatnonzero((lengths[:, i] > 0) & (lengths[:, i] < region.length))
        if absent:
            given.notes.append(
                f"sequences: {len(absent):,} of {len(lengths):,} records have no {region.name}, "
                f"for example {few(absent)}."
            )
        if short.size:
            given.notes.append(
                f"sequences: {short.size:,} records have a {region.name} shorter than "
                f"{region.length:,} bp, for example {few(given.record[j] for j in short)}; "
                "they begin at its most upstream base."
            )
