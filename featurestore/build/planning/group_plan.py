"""What a plan consists of: groups of species, cut into shards with keys; and digests of content.

A shard has a *key*: the digest of everything its bytes follow from. A shard whose key stands in
the work area (a build that was interrupted) or in the manifest of the store that is there
already is not computed again.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import identity_digest
from featurestore.store.shard import commit_file

GroupKind = Literal[
    "genome",
    "sequence",
    "expression",
    "embedder",
    "variants",
    "variant_sequence",
    "variant_embedder",
]
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
        Genes; for the genome chunks of 1 Mb; for a variant set haplotypes, for its groups the
        regions or bins that a haplotype changes.
    shard_rows : int
    keys : tuple of str, one a shard
    embedder : mapping
        Configuration, for ``kind="embedder"`` and ``"variant_embedder"``.
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
        return pool_name(self.embedder_name, self.identity)

    @property
    def embeds(self) -> bool:
        """Whether an embedder computes it."""
        return self.kind in {"embedder", "variant_embedder"}

    @property
    def embedder_name(self) -> str:
        """Name of the embedder, whether it stands in a variant set or not."""
        return self.name.rpartition("/")[2]

    @property
    def variant_set(self) -> str:
        """Name of the variant set that the group is or belongs to."""
        return self.name.split("/")[1]

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

    @cached_property
    def _groups(self) -> dict[tuple[str, str], tuple[SpeciesPlan, GroupPlan]]:
        return {(s.name, g.name): (s, g) for s in self.species for g in s.groups}

    def of(self, task: Task) -> tuple[SpeciesPlan, GroupPlan]:
        """Species and group of a task."""
        return self._groups[task.species, task.group]

    def key(self, task: Task) -> str:
        """Digest of everything that the bytes of a shard follow from."""
        return self.of(task)[1].keys[task.shard]

    def save(self, path: Path) -> None:
        """Write as JSON."""
        commit_file(path, [json.dumps(asdict(self)).encode()])

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


def vector_bytes(shape: Sequence[int]) -> int:
    """Bytes of one vector of this shape as it is stored."""
    return math.prod(shape) * np.dtype(STORED_DTYPE).itemsize


def pool_name(embedder: str, identity: Mapping[str, Any]) -> str:
    """Name under which vectors of one configuration of an embedder are known."""
    return f"{embedder}-{identity_digest(identity)[:16]}"


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
