"""What a build has to do, as numbers: shards, windows, bytes and files; from a plan, or from nothing but sizes.

Bytes of shards are those of the files, checksums and indices included, and so is their number:
both follow from the layout (:mod:`featurestore.store.shard`). What depends on text (metadata,
gene ids) and on how well bases compress is about right, and said to be so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np

from featurestore.build.planning.group_plan import (
    GENOME_CHUNKS_PER_TASK,
    BuildPlan,
    GroupPlan,
    SpeciesPlan,
    Task,
)
from featurestore.build.planning.plan import embedder_group
from featurestore.build.sealing.metadata import sharded_arrays
from featurestore.build.windows.window_source import WindowSource
from featurestore.embedders.base import EmbedderSpec
from featurestore.errors import InputError
from featurestore.inputs.model import Region
from featurestore.schema import BASES_CHUNK, PACKED_ROWS, ArraySpec, shard_genes
from featurestore.sequence.windows import bin_count
from featurestore.store.shard import CRC_BYTES

_INDEX_BYTES: Final = 16
_GENE_COLUMNS: Final = 6
_NODE_BYTES: Final = 3_000
"""About what the metadata of an array or group takes, at its place and once more in the root."""
_GENE_BYTES: Final = 70
"""About what the columns of a gene take: three ids, three numbers."""
_MANIFEST_BYTES: Final = 150
"""About what a file takes in the manifest."""


@dataclass(frozen=True)
class Windows:
    """The windows of a species, as far as shapes depend on them.

    Parameters
    ----------
    regions : tuple of Region
    bin_bp : int
    genes : int
    ragged : bool
        Whether a gene has a shorter region than the others.
    """

    regions: tuple[Region, ...]
    bin_bp: int
    genes: int
    ragged: bool = False

    @property
    def positions(self) -> int:
        """Length of the longest region."""
        return max(r.length for r in self.regions)

    @property
    def bins(self) -> int:
        """Most bins of a region."""
        return max(bin_count(r.length, self.bin_bp) for r in self.regions)

    @classmethod
    def of(cls, source: WindowSource) -> Windows:
        """Those that were laid down."""
        return cls(tuple(source.regions), source.bin_bp, source.genes, source.ragged)

    @property
    def source(self) -> WindowSource:
        """Itself, where shapes are asked for and no window is cut."""
        return cast("WindowSource", self)


@dataclass(frozen=True)
class SpeciesFacts:
    """What a plan does not say of a species.

    Parameters
    ----------
    windows : Windows, optional
    bases : int
        Of the genome, or of the sequences given.
    columns : int
        Arrays beside the groups.
    skipped : bool
        Whether genes were left out, which the store then tells.
    table_columns : int
        Arrays that describe the samples of the expression table.
    """

    windows: Windows | None = None
    bases: int = 0
    columns: int = _GENE_COLUMNS
    skipped: bool = False
    table_columns: int = 2


@dataclass(frozen=True)
class Workload:
    """Everything that a build has to do.

    Parameters
    ----------
    plan : BuildPlan
    facts : mapping of species to SpeciesFacts
    pending : tuple of Task
        Shards to compute; the others are there already.
    distinct : mapping of pool to share
        Model inputs that are computed, of all windows; 1 where none occurs twice.
    shared : mapping of pool to number
        Inputs that several shards need, which are computed before the shards.
    coordinates : mapping of embedder to number
        Arrays that describe its axes.
    genome_ratio : float
        Compressed size of a base, bytes.
    genome_bytes : mapping of species to tuple of bytes
        Compressed chunk by chunk, where that was tried: exact.
    """

    plan: BuildPlan
    facts: Mapping[str, SpeciesFacts]
    pending: tuple[Task, ...]
    distinct: Mapping[str, float] = field(default_factory=dict)
    shared: Mapping[str, int] = field(default_factory=dict)
    coordinates: Mapping[str, int] = field(default_factory=dict)
    genome_ratio: float = 0.3
    genome_bytes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def genes(self) -> int:
        """Of all species."""
        return sum(s.genes for s in self.plan.species)

    @property
    def bases(self) -> int:
        """Of all inputs."""
        return sum(f.bases for f in self.facts.values())

    def windows_of(self, species: str) -> Windows | None:
        """Its windows."""
        return self.facts[species].windows

    def arrays(self, species: SpeciesPlan, group: GroupPlan) -> list[tuple[ArraySpec, int]]:
        """Arrays of a group that are written by shard, with the bytes of a row."""
        windows = self.windows_of(species.name)
        source = None if windows is None else windows.source
        return [
            (spec, math.prod(shape[1:]) * np.dtype(dtype or spec.dtype).itemsize)
            for _, spec, shape, dtype in sharded_arrays(group, source, species.samples)
        ]

    def shard_bytes(self, task: Task) -> int:
        """Bytes of the files of a shard."""
        species, group = self.plan.of(task)
        first, last = group.span(task.shard)
        if group.kind == "genome":
            return self._genome_bytes(species.name, first, last)
        return sum(
            _file_bytes(spec, row, last - first, group.shard_rows)
            for spec, row in self.arrays(species, group)
        )

    def _genome_bytes(self, species: str, first: int, last: int) -> int:
        checks = CRC_BYTES * (last - first)
        if (chunks := self.genome_bytes.get(species)) is not None:
            return sum(chunks[first:last]) + checks
        bases = min(last * BASES_CHUNK, self.facts[species].bases) - first * BASES_CHUNK
        return round(bases * self.genome_ratio) + checks

    def shard_files(self, task: Task) -> int:
        """Number of files of a shard."""
        species, group = self.plan.of(task)
        if group.kind == "genome":
            first, last = group.span(task.shard)
            return last - first
        return len(self.arrays(species, group))

    def windows_in(self, task: Task) -> int:
        """Model inputs of a shard."""
        species, group = self.plan.of(task)
        first, last = group.span(task.shard)
        if group.kind == "variant_embedder":
            return last - first
        windows = self.windows_of(species.name)
        if group.kind != "embedder" or windows is None:
            return 0
        return (last - first) * len(windows.regions) * windows.bins

    def bytes_by_group(self) -> dict[str, int]:
        """Bytes of all shards, whether there already or not, by group over all species."""
        sizes: dict[str, int] = {}
        for task in self.plan.tasks():
            sizes[task.group] = sizes.get(task.group, 0) + self.shard_bytes(task)
        return sizes

    def data_files(self) -> int:
        """Files of all shards."""
        return sum(self.shard_files(task) for task in self.plan.tasks())

    def metadata_files(self) -> int:
        """Files that are no shard: metadata, one-chunk arrays, manifest."""
        return 2 + sum(self._species_metadata(s) for s in self.plan.species)

    def _species_metadata(self, species: SpeciesPlan) -> int:
        facts = self.facts[species.name]
        per_whole = 2 if species.genes else 1
        count = 1 + per_whole * facts.columns + (7 if facts.skipped else 0)
        count += any(g.kind == "variants" for g in species.groups)
        for group in species.groups:
            count += 1 + self._group_metadata(species, group, facts)
        return count

    def _group_metadata(self, species: SpeciesPlan, group: GroupPlan, facts: SpeciesFacts) -> int:
        if group.kind == "genome":
            return 1 + 2 * 3
        if group.kind == "variants":
            return 2 * 9
        arrays = len(self.arrays(species, group))
        if group.name.startswith("variants/"):
            return arrays
        if group.kind == "expression":
            return arrays + 2 * facts.table_columns
        if group.kind == "sequence":
            return arrays + 2
        return arrays + 2 * self.coordinates.get(group.embedder_name, 2)

    def metadata_bytes(self) -> int:
        """About what metadata, gene columns and manifest take."""
        files = self.metadata_files()
        return (
            files * _NODE_BYTES // 2
            + self.genes * _GENE_BYTES
            + (files + self.data_files()) * _MANIFEST_BYTES
        )


def _file_bytes(spec: ArraySpec, row: int, n: int, shard_rows: int) -> int:
    """Bytes of one shard of an array; see the layouts of :mod:`featurestore.store.shard`."""
    if spec.layout == "rows":
        return n * (row + CRC_BYTES) + shard_rows * _INDEX_BYTES + CRC_BYTES
    if spec.layout == "packed":
        inner = -(-n // PACKED_ROWS)
        index = shard_rows // PACKED_ROWS * _INDEX_BYTES + CRC_BYTES
        return inner * (row * PACKED_ROWS + CRC_BYTES) + index
    return shard_rows * row + CRC_BYTES


class Model:
    """An embedder of which only the specification is known."""

    def __init__(self, spec: EmbedderSpec) -> None:
        self.spec = spec

    def load(self, device: str | None) -> None:
        """Not to be had."""
        raise InputError("an embedder that is simulated computes nothing")

    def embed(self, codes: Any) -> Any:
        """Not to be had."""
        raise InputError("an embedder that is simulated computes nothing")


def workload_of_numbers(
    specs: Mapping[str, EmbedderSpec],
    *,
    species: int,
    genes: int,
    regions: Sequence[Region],
    bin_bp: int,
    genome_bases: int = 0,
) -> Workload:
    """The workload of species that exist only as numbers, all alike.

    Parameters
    ----------
    specs : mapping of embedder name to EmbedderSpec
    species, genes : int
        Genes are those of one species.
    genome_bases : int
        Of one species; 0 where sequences are given instead.
    """
    windows = Windows(tuple(regions), bin_bp, genes)
    plans, facts = [], {}
    for number in range(species):
        name = f"species_{number + 1:02d}"
        groups = tuple(_groups(specs, windows, genome_bases))
        plans.append(SpeciesPlan(name, genes, 0, groups))
        bases = genome_bases or genes * len(windows.regions) * windows.positions
        facts[name] = SpeciesFacts(windows, bases)
    plan = BuildPlan("", bin_bp, tuple(plans))
    return Workload(plan, facts, tuple(plan.tasks()))


def _groups(
    specs: Mapping[str, EmbedderSpec], windows: Windows, genome_bases: int
) -> Iterator[GroupPlan]:
    """Groups of one species, as :func:`~featurestore.build.planning.plan.plan_species` orders them."""
    if genome_bases:
        chunks = -(-genome_bases // BASES_CHUNK)
        keys = ("",) * -(-chunks // GENOME_CHUNKS_PER_TASK)
        yield GroupPlan("genome", "genome", chunks, GENOME_CHUNKS_PER_TASK, keys)
    size = shard_genes(len(windows.regions) * windows.positions, windows.genes)
    yield GroupPlan("sequence", "sequence", windows.genes, size, ("",) * -(-windows.genes // size))
    for name, spec in specs.items():
        if spec.type != "onehot":
            yield embedder_group(name, {}, Model(spec), windows.source, windows.bin_bp, keyed=False)
