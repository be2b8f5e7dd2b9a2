"""The one registry of what a store holds: writer, reader, verifier and ``docs/format.md`` follow it.

Paths are relative to a species group. ``<embedder>`` stands for the name of a configured
embedder of bins or regions, ``<gene-embedder>`` for that of one that reads one window a gene
(``context="gene"``), ``<set>`` for the name of a variant set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, Literal

from featurestore.sequence.iupac import LETTERS

SCHEMA_VERSION: Final = "1.0.0"
"""Its major part rises only when old stores can no longer be read right."""

CONVENTION: Final = {
    "uuid": "6b3f0d1e-3c7a-4f0c-9a55-0f3f6c1f7c11",
    "name": "meristem",
    "spec_url": "https://github.com/meristem-project/meristem/blob/main/docs/format.md",
    "description": "Embedding feature store for sequence-to-expression research",
}

Layout = Literal["rows", "packed", "block", "whole", "bases"]
"""How an array is cut on disk.

``rows``   sharded along gene, inner chunk one gene, ``bytes`` + ``crc32c``, index at the end
``packed`` sharded along row, inner chunk 64 rows, otherwise as ``rows``
``block``  one chunk per shard of genes, ``bytes`` + ``crc32c``
``whole``  one chunk, ``crc32c``
``bases``  chunks of 1,000,000 bases, ``bytes`` + ``zstd`` + ``crc32c``
"""

BASES_CHUNK: Final = 1_000_000
"""Bases in one chunk of ``genome/code``."""

SHARD_BYTES: Final = 64 * 2**20
"""A shard holds at most this much of its largest array …"""

SHARD_GENES: Final = 1024
"""… and at most this many genes."""


SHARD_WINDOWS: Final = 128
"""Genes in a shard of an embedder of one window a gene: each takes a model seconds, and shards go side by side."""

PACKED_ROWS: Final = 64
"""Rows in one inner chunk of ``packed`` layout."""

SHARD_ROWS: Final = 65_536
"""A shard of ``packed`` layout holds at most this many rows, and :data:`SHARD_BYTES`."""


class Status(IntEnum):
    """State of one region of one gene under one embedder."""

    OK = 0
    ABSENT = 1
    NO_SEQUENCE = 2
    FAILED = 3


STATUS_MEANINGS: Final = {
    Status.OK: "ok",
    Status.ABSENT: "absent",
    Status.NO_SEQUENCE: "no_sequence",
    Status.FAILED: "failed",
}


@dataclass(frozen=True)
class ArraySpec:
    """One array of the store.

    Parameters
    ----------
    path : str
        Below the species group.
    dims : tuple of str
    dtype : str
        NumPy name; ``string`` is variable-length UTF-8; ``as computed`` is the embedder's.
    layout : Layout
    doc : str
    fill : value of a chunk that is not there
        Never seen in a whole store: a missing chunk is damage, not a value.
    attrs : further attributes (CF)
    when : str
        Condition under which the array is there; empty: always.
    """

    path: str
    dims: tuple[str, ...]
    dtype: str
    layout: Layout
    doc: str
    fill: Any = 0
    attrs: tuple[tuple[str, Any], ...] = ()
    when: str = ""

    @property
    def name(self) -> str:
        """Last part of the path."""
        return self.path.rsplit("/", 1)[-1]


_CODE_FLAGS = (("flag_values", list(range(len(LETTERS)))), ("flag_meanings", " ".join(LETTERS)))
_STATUS_FLAGS = (
    ("flag_values", [int(s) for s in STATUS_MEANINGS]),
    ("flag_meanings", " ".join(STATUS_MEANINGS.values())),
)
SPECIES: Final = (
    ArraySpec("gene", ("gene",), "string", "whole", "gene id, unique; in sequence mode the record id", ""),
    ArraySpec("locus", ("gene",), "string", "whole", "gene that a record belongs to", "",
              when="sequence tables in which records and genes differ"),
    ArraySpec("contig", ("gene",), "string", "whole", "contig; empty where unknown", ""),
    ArraySpec("strand", ("gene",), "int8", "whole", "+1, −1; 0 where unknown"),
    ArraySpec("tss", ("gene",), "int64", "whole",
              "boundary before the first transcribed base, 0-based on the forward strand; −1 where unknown", -1),
    ArraySpec("tts", ("gene",), "int64", "whole",
              "boundary after the last transcribed base, 0-based on the forward strand; −1 where unknown", -1),
    ArraySpec("family", ("gene",), "string", "whole", "gene family; empty for a singleton", ""),
    ArraySpec("fold", ("gene",), "string", "whole", "fold given by the data set", "",
              when="the sequence table has a fold column"),
)  # fmt: skip

GENOME: Final = (
    ArraySpec("genome/code", ("base",), "uint8", "bases", "all contigs end to end, IUPAC codes", 4, _CODE_FLAGS),
    ArraySpec("genome/contig_id", ("contig",), "string", "whole", "contig, in the order of the FASTA", ""),
    ArraySpec("genome/contig_start", ("contig",), "int64", "whole", "offset of the contig in code"),
    ArraySpec("genome/contig_length", ("contig",), "int64", "whole", "length of the contig in bp"),
)  # fmt: skip

SEQUENCE: Final = (
    ArraySpec("sequence/code", ("gene", "region", "position"), "uint8", "rows",
              "bases of each region in transcript orientation, position 0 the most upstream; padded with N",
              4, _CODE_FLAGS),
    ArraySpec("sequence/status", ("gene", "region"), "uint8", "block", "state of each region", 0, _STATUS_FLAGS),
    ArraySpec("sequence/padded", ("gene", "region"), "int32", "block",
              "bases of the window that lie off the contig and read N"),
    ArraySpec("sequence/region", ("region",), "string", "whole", "name of the region", ""),
    ArraySpec("sequence/region_length", ("gene", "region"), "int32", "block", "length of the region in bp",
              when="regions differ in length"),
)  # fmt: skip

EXPRESSION: Final = (
    ArraySpec("expression/value", ("gene", "sample"), "float32", "block",
              "expression as given; NaN where the gene or the value is missing", float("nan")),
    ArraySpec("expression/labelled", ("gene",), "bool", "whole", "the gene has a row in the table", False),
    ArraySpec("expression/sample", ("sample",), "string", "whole", "sample", ""),
    *(
        ArraySpec(f"expression/{name}", ("sample",), "string", "whole", doc, "", when="given by a sample table")
        for name, doc in (
            ("tissue", "tissue of the sample"), ("genotype", "genotype of the sample"),
            ("line", "line of the sample: a sample name of the VCF"), ("control", "1 for a control sample, else 0"),
        )
    ),
)  # fmt: skip

_PROVENANCE_FLAGS = (("flag_values", [0, 1, 2]), ("flag_meanings", "measured imputed missing"))
_WHERE_IMPUTED = "written by bench predict --into-store"
IMPUTED: Final = (
    ArraySpec("imputed/value", ("gene", "tissue", "genotype"), "float32", "block",
              "completed table in the unit of expression: measured, or imputed; without genotype where there is one",
              float("nan"), when=_WHERE_IMPUTED),
    ArraySpec("imputed/low", ("gene", "tissue", "genotype"), "float32", "block",
              "lower end of the 90 % interval of an imputed value; NaN where measured, or none is known",
              float("nan"), when=_WHERE_IMPUTED),
    ArraySpec("imputed/high", ("gene", "tissue", "genotype"), "float32", "block",
              "upper end of that interval", float("nan"), when=_WHERE_IMPUTED),
    ArraySpec("imputed/provenance", ("gene", "tissue", "genotype"), "uint8", "block",
              "where a value is from; missing: nothing to learn the tissue from", 2, _PROVENANCE_FLAGS,
              when=_WHERE_IMPUTED),
    ArraySpec("imputed/tissue", ("tissue",), "string", "whole", "tissue", "", when=_WHERE_IMPUTED),
    ArraySpec("imputed/genotype", ("genotype",), "string", "whole", "genotype", "",
              when="the table has several genotypes"),
)  # fmt: skip
"""The completed table of a species; see ``docs/imputation.md``."""

SCALE: Final = "_scale"
"""What the scale of an output is called after it."""

EMBEDDING: Final = (
    ArraySpec("<embedder>/<output>", ("gene", "region", "bin", "channel"), "float16", "rows",
              "vectors of each bin; without channel where the output is one number per bin, with position_in_bin "
              "before channel where a recipe keeps every base", float("nan")),
    ArraySpec("<embedder>/<output>_scale", ("channel",), "float32", "whole",
              "step of each channel of an output stored as int8: value = code · step; code −128 is NaN",
              when="exported with --profile int8"),
    ArraySpec("<embedder>/status", ("gene", "region"), "uint8", "block", "state of each region", 0, _STATUS_FLAGS),
    ArraySpec("<embedder>/input_digest", ("gene", "region", "bin", "byte"), "uint8", "block",
              "BLAKE2b-128 of the exact model input of each bin (its codes); zeros where there is none"),
    ArraySpec("<embedder>/region", ("region",), "string", "whole", "name of the region", ""),
    ArraySpec("<embedder>/channel", ("channel",), "string", "whole", "name of the channel", "",
              when="the embedder names its channels"),
    ArraySpec("<embedder>/state_map", ("channel_out", "channel"), "float32", "whole",
              "published embedding = state_map · vector + state_offset", float("nan"),
              when="the stored state is a smaller form of the published embedding"),
    ArraySpec("<embedder>/state_offset", ("channel_out",), "float32", "whole",
              "offset of that map", float("nan"), when="as state_map"),
    ArraySpec("<embedder>/bin_start", ("region", "bin"), "int32", "whole",
              "first base of the bin, bp from the anchor in transcript direction, negative upstream"),
    ArraySpec("<embedder>/bin_valid", ("gene", "region", "bin"), "bool", "block",
              "the bin holds at least one base of the region", False, when="regions differ in length"),
)  # fmt: skip

GENE_EMBEDDING: Final = (
    ArraySpec("<gene-embedder>/<output>", ("gene", "bin", "channel"), "float16", "rows",
              "vectors of the bins of the one window of each gene; without channel where the output is one number per bin",
              float("nan")),
    ArraySpec("<gene-embedder>/<output>_scale", ("channel",), "float32", "whole",
              "step of each channel of an output stored as int8: value = code · step; code −128 is NaN",
              when="exported with --profile int8"),
    ArraySpec("<gene-embedder>/status", ("gene",), "uint8", "block", "state of each gene", 0, _STATUS_FLAGS),
    ArraySpec("<gene-embedder>/padded", ("gene",), "int32", "block",
              "bases of the window that lie off the contig and read N"),
    ArraySpec("<gene-embedder>/input_digest", ("gene", "byte"), "uint8", "block",
              "BLAKE2b-128 of the exact model input of each gene (its codes)"),
    ArraySpec("<gene-embedder>/channel", ("channel",), "string", "whole", "name of the channel", "",
              when="the embedder names its channels"),
    ArraySpec("<gene-embedder>/bin_start", ("bin",), "int32", "whole",
              "first base of the bin, bp from the anchor in transcript direction, negative upstream"),
)  # fmt: skip
"""An embedder that reads one long window a gene, centred on its TSS or TTS."""

SKIPPED: Final = (
    ArraySpec("skipped/id", ("skipped",), "string", "whole", "gene that an input names and the store does not hold", ""),
    ArraySpec("skipped/stage", ("skipped",), "string", "whole", "where in the funnel it fell out", ""),
    ArraySpec("skipped/reason", ("skipped",), "string", "whole", "why", ""),
)  # fmt: skip


def _places(base: str) -> tuple[ArraySpec, ...]:
    """Where the rows of a group of a variant set belong."""
    return tuple(
        ArraySpec(f"{base}/{name}", ("row",), "int32", "block", doc)
        for name, doc in (
            ("haplotype_index", "haplotype of the row, an index into haplotype of the set"),
            ("gene_index", "gene of the row, an index into gene of the species"),
            ("region_index", "region of the row, an index into sequence/region of the species"),
        )
    )


VARIANT_SET: Final = (
    ArraySpec("variants/<set>/haplotype", ("haplotype",), "string", "whole",
              "haplotype: its gene, a colon, twelve digits of the digest of its variants", ""),
    ArraySpec("variants/<set>/haplotype_gene", ("haplotype",), "int32", "whole",
              "gene whose windows it stands in, an index into gene of the species"),
    ArraySpec("variants/<set>/haplotype_variants", ("haplotype",), "string", "whole",
              "its variants, contig:pos:REF>ALT joined by commas; 1-based as in the VCF", ""),
    ArraySpec("variants/<set>/line", ("line",), "string", "whole", "line: a sample name of the VCF", ""),
    ArraySpec("variants/<set>/carrier_line", ("carrier",), "int32", "whole",
              "an index into line; a line without a row for a gene reads the reference there"),
    ArraySpec("variants/<set>/carrier_gene", ("carrier",), "int32", "whole",
              "an index into gene of the species; rows stand in order of gene, line, copy"),
    ArraySpec("variants/<set>/carrier_haplotype", ("carrier",), "int32", "whole",
              "what this copy reads: an index into haplotype, or −1 for the reference", -1),
    ArraySpec("variants/<set>/carrier_copy", ("carrier",), "int8", "whole", "copy of the line that reads it", 0,
              (("flag_values", [0, 1, 2]), ("flag_meanings", "both first second"))),
    ArraySpec("variants/<set>/carrier_zygosity", ("carrier",), "int8", "whole",
              "calls of the line in the windows of the gene", 0,
              (("flag_values", [0, 1, 2]), ("flag_meanings", "homozygous heterozygous mixed"))),
)  # fmt: skip

VARIANT_SEQUENCE: Final = (
    ArraySpec("variants/<set>/sequence/code", ("row", "position"), "uint8", "packed",
              "bases of a region that a haplotype changes, as in sequence/code of the species", 4, _CODE_FLAGS),
    *_places("variants/<set>/sequence"),
)  # fmt: skip

VARIANT_EMBEDDING: Final = (
    ArraySpec("variants/<set>/<embedder>/<output>", ("row", "channel"), "float16", "packed",
              "vector of a bin whose model input a haplotype changes; rows in order of gene, haplotype, region, bin",
              float("nan")),
    ArraySpec("variants/<set>/<embedder>/<output>_scale", ("channel",), "float32", "whole",
              "step of each channel of an output stored as int8: value = code · step; code −128 is NaN",
              when="exported with --profile int8"),
    *_places("variants/<set>/<embedder>"),
    ArraySpec("variants/<set>/<embedder>/bin_index", ("row",), "int32", "block",
              "bin of the row, an index into bin of the embedder's group of the species"),
    ArraySpec("variants/<set>/<embedder>/status", ("row",), "uint8", "block",
              "state of the row: ok, no_sequence (zeros) or failed (NaN)", 0, _STATUS_FLAGS),
    ArraySpec("variants/<set>/<embedder>/input_digest", ("row", "byte"), "uint8", "block",
              "BLAKE2b-128 of the exact model input of the row (its codes)"),
)  # fmt: skip

VARIANT_GENE_EMBEDDING: Final = (
    ArraySpec("variants/<set>/<gene-embedder>/<output>", ("row", "bin", "channel"), "float16", "packed",
              "vectors of the window of a gene that a haplotype changes; what else stands beside them is as for "
              "<embedder>, with region_index and bin_index 0", float("nan")),
)  # fmt: skip

VARIANTS: Final = (*VARIANT_SET, *VARIANT_SEQUENCE, *VARIANT_EMBEDDING, *VARIANT_GENE_EMBEDDING)
"""Arrays of the variant sets; where the data set has any."""

REGISTRY: Final = (
    *SPECIES,
    *SKIPPED,
    *GENOME,
    *SEQUENCE,
    *EXPRESSION,
    *IMPUTED,
    *EMBEDDING,
    *GENE_EMBEDDING,
    *VARIANTS,
)
"""Every array, in the order of the documentation."""

RESERVED_GROUPS: Final = frozenset(
    {"genome", "sequence", "expression", "variants", "skipped", "imputed"}
)
"""Names an embedder cannot have: they are groups of every species."""


RESERVED_NAMES: Final = RESERVED_GROUPS | {spec.name for spec in SPECIES}
"""Those, and the arrays that lie beside the groups."""


POSITION: Final = "position_in_bin"
"""Dimension of an output that keeps every base apart; it stands before the channels."""


def registered(path: str, dims: Sequence[str] = ()) -> ArraySpec | None:
    """The entry of an array by its path below the species, whatever embedder and set are called.

    Parameters
    ----------
    dims : sequence of str
        Of the array. An embedder's group is one of two kinds, which have names in common: the
        entry is that of the kind whose dimensions these are; without them, that of bins.
    """
    group, _, name = path.rpartition("/")
    if not group or group in RESERVED_GROUPS:
        return next((spec for spec in REGISTRY if spec.path == path), None)
    if not group.startswith("variants/"):
        return _of_embedder((EMBEDDING, GENE_EMBEDDING), name, dims)
    below = group.split("/")[2:]
    if len(below) == 1 and below != ["sequence"]:
        return _of_embedder((VARIANT_EMBEDDING, VARIANT_GENE_EMBEDDING), name, dims)
    entries = {(): VARIANT_SET, ("sequence",): VARIANT_SEQUENCE}.get(tuple(below), ())
    return next((spec for spec in entries if spec.name == name), None)


def _of_embedder(kinds: Sequence[Sequence[ArraySpec]], name: str, dims: Sequence[str]) -> ArraySpec:
    """The entry of an array of an embedder's group; a name that is none is that of an output."""
    if name.endswith(SCALE):
        name = f"<output>{SCALE}"
    found = [spec for entries in kinds for spec in entries if spec.name == name]
    found = found or [entries[0] for entries in kinds]
    whole = [spec for spec in found if spec.dims == tuple(dims)]
    return next((spec for spec in (*whole, *found) if fits(spec, dims)), found[0])


def fits(spec: ArraySpec, dims: Sequence[str]) -> bool:
    """Whether an array of these dimensions may be of an entry; trailing ones may be lacking."""
    own = tuple(d for d in dims if d != POSITION or spec.name != "<output>")
    return own == spec.dims[: len(own)]


WHOLE_NAMES: Final = frozenset(spec.name for spec in REGISTRY if spec.layout == "whole")
"""Arrays that are one chunk, and so belong to no shard."""


def spec_of(path: str) -> ArraySpec:
    """The entry of an array by its registered path."""
    return next(spec for spec in REGISTRY if spec.path == path)


def shard_genes(row_bytes: int, genes: int) -> int:
    """Genes in a shard: as many as :data:`SHARD_BYTES` holds, a power of two, 1 to 1024."""
    fit = max(1, min(SHARD_GENES, SHARD_BYTES // max(row_bytes, 1)))
    size = 1 << (fit.bit_length() - 1)
    # A species smaller than one shard is not padded out to it on disk in the block arrays.
    while size > 16 and size // 2 >= genes:
        size //= 2
    return size


def packed_rows(row_bytes: int, rows: int) -> int:
    """Rows in a shard of ``packed`` layout: a power of two of at least :data:`PACKED_ROWS`."""
    fit = max(PACKED_ROWS, min(SHARD_ROWS, SHARD_BYTES // max(row_bytes, 1)))
    size = 1 << (fit.bit_length() - 1)
    while size > PACKED_ROWS and size // 2 >= rows:
        size //= 2
    return size
