"""The one registry of what a store holds: writer, reader, verifier and ``docs/format.md`` follow it.

Paths are relative to a species group. ``<embedder>`` stands for the name of a configured
embedder, ``<set>`` for the name of a variant set.
"""

from __future__ import annotations

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

Layout = Literal["rows", "block", "whole", "bases"]
"""How an array is cut on disk.

``rows``   sharded along gene, inner chunk one gene, ``bytes`` + ``crc32c``, index at the end
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

EMBEDDING: Final = (
    ArraySpec("<embedder>/<output>", ("gene", "region", "bin", "channel"), "float16", "rows",
              "vectors of each bin; without channel where the output is one number per bin", float("nan")),
    ArraySpec("<embedder>/status", ("gene", "region"), "uint8", "block", "state of each region", 0, _STATUS_FLAGS),
    ArraySpec("<embedder>/input_digest", ("gene", "region", "bin", "byte"), "uint8", "block",
              "BLAKE2b-128 of the exact model input of each bin (its codes); zeros where there is none"),
    ArraySpec("<embedder>/region", ("region",), "string", "whole", "name of the region", ""),
    ArraySpec("<embedder>/channel", ("channel",), "string", "whole", "name of the channel", "",
              when="the embedder names its channels"),
    ArraySpec("<embedder>/bin_start", ("region", "bin"), "int32", "whole",
              "first base of the bin, bp from the anchor in transcript direction, negative upstream"),
    ArraySpec("<embedder>/bin_valid", ("gene", "region", "bin"), "bool", "block",
              "the bin holds at least one base of the region", False, when="regions differ in length"),
)  # fmt: skip

SKIPPED: Final = (
    ArraySpec("skipped/id", ("skipped",), "string", "whole", "gene that an input names and the store does not hold", ""),
    ArraySpec("skipped/stage", ("skipped",), "string", "whole", "where in the funnel it fell out", ""),
    ArraySpec("skipped/reason", ("skipped",), "string", "whole", "why", ""),
)  # fmt: skip

REGISTRY: Final = (*SPECIES, *SKIPPED, *GENOME, *SEQUENCE, *EXPRESSION, *EMBEDDING)
"""Every array, in the order of the documentation."""

RESERVED_GROUPS: Final = frozenset({"genome", "sequence", "expression", "variants", "skipped"})
"""Names an embedder cannot have: they are groups of every species."""


def registered(path: str) -> ArraySpec | None:
    """The entry of an array by its path below the species, whatever its embedder is called."""
    group, _, name = path.rpartition("/")
    of_embedder = bool(group) and group not in RESERVED_GROUPS
    for spec in REGISTRY:
        if spec.path == path or (of_embedder and spec.path == f"<embedder>/{name}"):
            return spec
    return EMBEDDING[0] if of_embedder else None  # an output, under a name of the embedder's own


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
