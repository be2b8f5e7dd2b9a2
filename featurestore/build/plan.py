"""Decides what a store consists of, shard by shard, before anything is computed.

A shard has a *key*: the digest of everything its bytes follow from. A shard whose key stands in
the work area (a build that was interrupted) or in the manifest of the store that is there
already is not computed again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.build.window_source import WindowSource
from featurestore.embedders.base import Embedder, EmbedderSpec
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError
from featurestore.inputs.model import SpeciesData
from featurestore.schema import BASES_CHUNK, RESERVED_GROUPS, SCHEMA_VERSION, shard_genes

GroupKind = Literal["genome", "sequence", "expression", "embedder"]
GENOME_CHUNKS_PER_TASK: Final = 16
STORED_DTYPE: Final = "float16"


@dataclass(frozen=True)
class GroupPlan:
    """One group of one species.

    Parameters
    ----------
    name : str
    kind : GroupKind
    rows : int
        Genes, or for the genome chunks of 1 Mb.
    shard_rows : int
    keys : tuple of str, one a shard
    embedder : mapping
        Configuration, for ``kind="embedder"``.
    identity : mapping
        :meth:`EmbedderSpec.identity`, likewise.
    """

    name: str
    kind: GroupKind
    rows: int
    shard_rows: int
    keys: tuple[str, ...]
    embedder: Mapping[str, Any] = field(default_factory=dict)
    identity: Mapping[str, Any] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return len(self.keys)

    @property
    def pool(self) -> str:
        """Name of the pool of known vectors: another configuration of the embedder is another pool."""
        return f"{self.name}-{digest_json(self.identity)[:16]}"

    def span(self, shard: int) -> tuple[int, int]:
        """Rows of a shard, half-open."""
        return shard * self.shard_rows, min((shard + 1) * self.shard_rows, self.rows)


@dataclass(frozen=True)
class SpeciesPlan:
    """All groups of one species."""

    name: str
    genes: int
    samples: int
    groups: tuple[GroupPlan, ...]

    def group(self, name: str) -> GroupPlan:
        """The group of that name."""
        return next(g for g in self.groups if g.name == name)


@dataclass(frozen=True)
class Task:
    """One shard of one group: the unit of work, of writing and of resuming."""

    species: str
    group: str
    shard: int

    @property
    def path(self) -> str:
        """Identity in logs and markers."""
        return f"{self.species}/{self.group}/{self.shard}"


@dataclass(frozen=True)
class BuildPlan:
    """Everything a build writes."""

    dataset_digest: str
    bin_bp: int
    species: tuple[SpeciesPlan, ...]

    def tasks(self) -> list[Task]:
        """All shards; the costly groups of all species interleave by shard."""
        found = [
            (shard, Task(species.name, group.name, shard))
            for species in self.species
            for group in species.groups
            for shard in range(group.shards)
        ]
        return [task for _, task in sorted(found, key=lambda pair: pair[0])]

    def of(self, task: Task) -> tuple[SpeciesPlan, GroupPlan]:
        """Species and group of a task."""
        species = next(s for s in self.species if s.name == task.species)
        return species, species.group(task.group)

    def save(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def load(cls, path: Path) -> BuildPlan:
        """Read what :meth:`save` wrote."""
        raw = json.loads(path.read_text())
        species = tuple(
            SpeciesPlan(
                s["name"], s["genes"], s["samples"],
                tuple(GroupPlan(**{**g, "keys": tuple(g["keys"])}) for g in s["groups"]),
            )
            for s in raw["species"]
        )  # fmt: skip
        return cls(raw["dataset_digest"], raw["bin_bp"], species)


def digest_json(value: Any) -> str:
    """Sha256 of a JSON value in canonical form."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def digest_arrays(*arrays: NDArray[Any]) -> str:
    """Sha256 over dtype, shape and bytes of arrays."""
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(f"{a.dtype.str}{a.shape}".encode())
        digest.update(np.ascontiguousarray(a).view(np.uint8).data if a.size else b"")
    return digest.hexdigest()


def windows_digest(data: SpeciesData, bin_bp: int) -> str:
    """Digest of everything that decides the windows of a species, gene by gene in order."""
    source = data.genome.code if data.genome is not None else data.region_code
    return digest_json(
        {
            "bin": bin_bp,
            "regions": [asdict(r) for r in data.regions],
            "genes": digest_json([data.gene, data.contig]),
            "place": digest_arrays(data.strand, data.tss, data.tts),
            "bases": digest_arrays(source) if source is not None else "",
            "lengths": "" if data.region_length is None else digest_arrays(data.region_length),
        }
    )


def _keys(rows: int, shard_rows: int, identity: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        digest_json(
            {"schema": SCHEMA_VERSION, **identity, "rows": [first, min(first + shard_rows, rows)]}
        )
        for first in range(0, rows, shard_rows)
    )


def _fixed_groups(data: SpeciesData, windows: str, source: WindowSource | None) -> list[GroupPlan]:
    n, groups = len(data.gene), []
    if data.genome is not None:
        chunks = -(-len(data.genome.code) // BASES_CHUNK)
        identity = {"group": "genome", "bases": digest_arrays(data.genome.code)}
        groups.append(
            GroupPlan("genome", "genome", chunks, GENOME_CHUNKS_PER_TASK,
                      _keys(chunks, GENOME_CHUNKS_PER_TASK, identity))
        )  # fmt: skip
    if source is not None:
        size = shard_genes(len(source.regions) * source.positions, n)
        groups.append(
            GroupPlan("sequence", "sequence", n, size, _keys(n, size, {"sequence": windows}))
        )
    if data.expression is not None:
        size = shard_genes(max(len(data.expression.sample), 1) * 4, n)
        identity = {"group": "expression", "value": digest_arrays(data.expression.value)}
        groups.append(GroupPlan("expression", "expression", n, size, _keys(n, size, identity)))
    return groups


def check_spec(name: str, spec: EmbedderSpec, bin_bp: int) -> None:
    """Refuse an embedder that cannot be stored under its name or with these bins."""
    if name in RESERVED_GROUPS:
        raise InputError(
            f"[embedders.{name}]: the name is reserved ({', '.join(sorted(RESERVED_GROUPS))}); choose another"
        )
    if spec.context != "bin":
        raise InputError(
            f"[embedders.{name}]: type {spec.type!r} has context {spec.context!r}, which this build does not lay out"
        )
    if spec.input_bp is not None and spec.input_bp < bin_bp:
        raise InputError(
            f"[embedders.{name}]: its input window of {spec.input_bp} bp is shorter than a bin of {bin_bp} bp; "
            f"set [regions] bin = {spec.input_bp} or less"
        )


def embedder_group(
    name: str,
    config: Mapping[str, Any],
    embedder: Embedder,
    source: WindowSource,
    windows: str,
    bin_bp: int,
) -> GroupPlan:
    """Plan one embedder for one species."""
    check_spec(name, embedder.spec, bin_bp)
    widest = max(max(c, 1) for c in embedder.spec.outputs.values())
    row = len(source.regions) * source.bins * widest * np.dtype(STORED_DTYPE).itemsize
    size = shard_genes(row, source.genes)
    identity = {"embedder": embedder.spec.identity_digest(), "windows": windows}
    return GroupPlan(
        name, "embedder", source.genes, size, _keys(source.genes, size, identity), dict(config), embedder.spec.identity()
    )  # fmt: skip


def plan_species(
    data: SpeciesData, inputs: Path, embedders: Mapping[str, Mapping[str, Any]], bin_bp: int
) -> SpeciesPlan:
    """Plan all groups of one species whose windows :func:`lay_down` has written to ``inputs``."""
    has_sequence = data.kind != "positions"
    source = WindowSource(inputs) if has_sequence and data.gene else None
    windows = windows_digest(data, bin_bp)
    groups = _fixed_groups(data, windows, source)
    if source is not None:
        for name, config in embedders.items():
            embedder = make_embedder(name, config)
            if embedder.spec.type != "onehot":
                groups.append(embedder_group(name, config, embedder, source, windows, bin_bp))
    samples = len(data.expression.sample) if data.expression is not None else 0
    return SpeciesPlan(data.name, len(data.gene), samples, tuple(groups))
