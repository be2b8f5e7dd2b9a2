"""What the readers hand to the build: plain arrays in memory, nothing about files or Zarr.

Coordinates everywhere in this project are 0-based and half-open. ``tss`` and ``tts`` are
*boundaries between bases* on the forward strand of the contig: on the + strand the TSS is
the 0-based start of the transcript and the TTS its half-open end; on the − strand the TSS
is the half-open end and the TTS the 0-based start.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

UNKNOWN_POSITION = -1
"""``tss`` or ``tts`` of a gene whose position the data set does not give."""

Anchor = Literal["tss", "tts"]
InputKind = Literal["genome", "sequences", "positions"]
Heterozygous = Literal["iupac", "haplotypes"]


@dataclass(frozen=True)
class Region:
    """A window relative to an anchor, in transcript direction.

    ``upstream`` bases before the boundary and ``downstream`` bases after it, so
    ``length = upstream + downstream``; position 0 is the most upstream base.
    """

    name: str
    anchor: Anchor
    upstream: int
    downstream: int

    @property
    def length(self) -> int:
        """Length of the region in bp."""
        return self.upstream + self.downstream


@dataclass(frozen=True)
class Genome:
    """All contigs of a species end to end, in the order of the FASTA.

    Parameters
    ----------
    contig_id : list of str, length c
    contig_start : int64 array, shape (c,)
        Offset of each contig in ``code``.
    contig_length : int64 array, shape (c,)
    code : uint8 array, shape (sum of lengths,)
        IUPAC codes 0 … 14 in the order ``A C G T N R Y S W K M B D H V``.
    """

    contig_id: list[str]
    contig_start: NDArray[np.int64]
    contig_length: NDArray[np.int64]
    code: NDArray[np.uint8]


@dataclass(frozen=True)
class Expression:
    """A genes × samples table, aligned with the genes of its :class:`SpeciesData`.

    Parameters
    ----------
    value : float32 array, shape (gene, sample)
        NaN where the gene has no row in the table or the value is missing.
    unit : str
        As declared: ``TPM``, ``FPKM``, ``CPM``, ``counts``, ``log2`` or free text.
    sample : list of str
    tissue, genotype, line, control : list of str or None, length sample
        From the sample table; ``control`` holds ``"1"`` or ``"0"``. None where not given.
    labelled : bool array, shape (gene,)
        True where the gene has a row in the table.
    """

    value: NDArray[np.float32]
    unit: str
    sample: list[str]
    labelled: NDArray[np.bool_]
    tissue: list[str] | None = None
    genotype: list[str] | None = None
    line: list[str] | None = None
    control: list[str] | None = None


@dataclass(frozen=True)
class HaplotypeSet:
    """The haplotypes of the lines of one VCF around the genes of a species.

    A haplotype is what one copy of the windows of one gene reads in one line or more: the
    variants in it, none of which is empty. The reference itself is no haplotype; −1 stands for it.

    Parameters
    ----------
    heterozygous : {"iupac", "haplotypes"}
        How heterozygous calls are written, see ``docs/variants.md``.
    line : list of str, length l
        Sample names of the VCF.
    haplotype : list of str, length h
        ``gene:`` and twelve digits of the digest of its variants; in order of gene, then variants.
    gene : int32 array, shape (h,)
        The gene whose windows it stands in.
    variants : list of str, length h
        ``contig:pos:REF>ALT`` joined by commas, positions 1-based as in the VCF.
    edit_start : int64 array, shape (h + 1,)
        Where the edits of each haplotype begin in the two arrays that follow.
    edit_low, edit_high : int64 arrays, shape (e,)
        Bases of the contig that the edit replaces, 0-based half-open, in order within a haplotype.
    edit_alt_start : int64 array, shape (e + 1,)
        Where the bases of each edit begin in ``edit_alt``.
    edit_alt : uint8 array
        IUPAC codes put there, forward strand.
    carrier_line, carrier_gene, carrier_haplotype : int32 arrays, shape (c,)
        In order of gene, line, copy. A line without a row for a gene reads the reference there.
    carrier_copy : int8 array, shape (c,)
        0: both copies read this haplotype; 1, 2: that copy alone, the other has a row of its own.
    carrier_zygosity : int8 array, shape (c,)
        Of the calls of the line in the windows of the gene: 0 all homozygous, 1 all
        heterozygous, 2 both kinds.
    told : list of {"reason", "count", "examples"}
        What could not be used as it stands.
    """

    heterozygous: Heterozygous
    line: list[str]
    haplotype: list[str]
    gene: NDArray[np.int32]
    variants: list[str]
    edit_start: NDArray[np.int64]
    edit_low: NDArray[np.int64]
    edit_high: NDArray[np.int64]
    edit_alt_start: NDArray[np.int64]
    edit_alt: NDArray[np.uint8]
    carrier_line: NDArray[np.int32]
    carrier_gene: NDArray[np.int32]
    carrier_haplotype: NDArray[np.int32]
    carrier_copy: NDArray[np.int8]
    carrier_zygosity: NDArray[np.int8]
    told: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class SkippedGene:
    """A gene that an input names and that does not reach the store, with its reason.

    ``stage`` is where in the funnel it fell out: ``annotated``, ``windowed``, ``labelled`` …
    """

    gene: str
    stage: str
    reason: str


@dataclass(frozen=True)
class SpeciesData:
    """Everything known of one species, genes in order of contig, start, id.

    Parameters
    ----------
    name : str
    kind : {"genome", "sequences", "positions"}
    gene : list of str, length n
        Unique. In sequence mode a *record* (several may belong to one locus).
    locus : list of str, length n
        The gene that a record belongs to; equal to ``gene`` everywhere but in such tables.
    contig : list of str, length n
        Empty string where unknown.
    strand : int8 array, shape (n,)
        +1, −1, or 0 where unknown.
    tss, tts : int64 arrays, shape (n,)
        Boundaries on the forward strand of the contig; −1 where unknown.
    family : list of str, length n
        Empty string where the gene has none (a singleton).
    regions : tuple of Region
        In genome mode those declared; in sequence mode one per sequence column or file, with
        the declared bounds, or length = the longest sequence where none are declared (then
        wholly upstream of a TSS anchor, wholly downstream of a TTS anchor). Empty in positions
        mode.
    genome : Genome or None
        In genome mode.
    region_code : uint8 array, shape (gene, region, position), or None
        In sequence mode: the sequences as given (transcript orientation), padded with N on
        the right to the longest region.
    region_length : int32 array, shape (gene, region), or None
        In sequence mode: the true lengths, 0 where the gene lacks the region.
    fold : list of str or None
        In sequence mode: the fold column of the table, for a split of the user's.
    expression : Expression or None
    variants : mapping of set name to VCF path
    haplotypes : mapping of set name to HaplotypeSet
    skipped : list of SkippedGene
    notes : list of str
        What the user should be told and is not an error (partial meetings of tables, genes
        without family, stripped suffixes …), each one sentence.
    input_digest : mapping of role ("genome", "annotation", …) to the sha256 of the file's bytes
    settings_digest : str
        Sha256 of the settings by which the files were read.
    """

    name: str
    kind: InputKind
    gene: list[str]
    locus: list[str]
    contig: list[str]
    strand: NDArray[np.int8]
    tss: NDArray[np.int64]
    tts: NDArray[np.int64]
    family: list[str]
    regions: tuple[Region, ...] = ()
    genome: Genome | None = None
    region_code: NDArray[np.uint8] | None = None
    region_length: NDArray[np.int32] | None = None
    fold: list[str] | None = None
    expression: Expression | None = None
    variants: dict[str, Path] = field(default_factory=dict)
    haplotypes: dict[str, HaplotypeSet] = field(default_factory=dict)
    skipped: list[SkippedGene] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    input_digest: dict[str, str] = field(default_factory=dict)
    settings_digest: str = ""
