"""Which model inputs are wanted, shard by shard, and which of them more than one shard wants.

Before the shards of a costly embedder run, inputs that occur in several shards are computed once
(:mod:`~featurestore.build.shards.pieces`), so that no shard waits for another. What is known already (from the
store that is being replaced, or an unfinished build) is looked up by digest in :mod:`~featurestore.build.reuse.known`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, Task
from featurestore.build.planning.variant_plan import set_folder
from featurestore.build.reuse.digests import as_keys, as_numbers, input_digests
from featurestore.build.reuse.known import Indexed, known_of
from featurestore.build.shards.compute import Lookup
from featurestore.build.windows.haplotype_source import ChangedInputs, HaplotypeSource, rows_name
from featurestore.build.windows.mapped import mapped
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.windows.window_source import WindowSource, inputs_name, source_for
from featurestore.build.work_area import WorkArea
from featurestore.sequence.windows import bin_validity

AT_ONCE: Final = 64
"""Genes whose inputs are held in memory at once."""


def window_digests(
    folder: Path, source: WindowSource, identity: Mapping[str, Any]
) -> NDArray[np.uint8]:
    """Digests of every bin of a species, shape (gene, region, bin, 16); zeros where nothing is to embed.

    Of one window a gene there is one region of one bin. Computed once and kept below the inputs of
    the species, memory-mapped.
    """
    path, input_bp = folder / "digests" / f"{inputs_name(identity)}.npy", identity["input_bp"]
    source = source_for(source, identity)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(f".{path.name}.partial")
        shape = (source.genes, len(source.regions), source.bins, DIGEST_BYTES)
        out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
        for first, last in source.ranges(AT_ONCE):
            codes = source.bin_inputs(first, last, input_bp)
            lengths = np.asarray(source.region_length[first:last])
            wanted = bin_validity(lengths, source.regions, source.bin_bp)
            out[first:last] = input_digests(codes, wanted & (codes.min(axis=-1) < 4))
        del out
        partial.replace(path)
    return mapped(path)


@dataclass(frozen=True)
class Inputs:
    """The model inputs of one group of one species.

    Parameters
    ----------
    species : str
    group : GroupPlan
    digest : uint8 array, shape (gene, region, bin, 16) or (row, 16)
        Zeros where nothing is to embed.
    place : int64 array, shape (row, 3), or None
        Of a variant set: haplotype, region, bin of each row.
    """

    species: str
    group: GroupPlan
    digest: NDArray[np.uint8]
    place: NDArray[np.int64] | None = None

    def of_shard(self, shard: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Digest (n, 16) and place (n, 3) of the inputs of a shard that a model sees."""
        first, last = self.group.span(shard)
        digest = np.asarray(self.digest[first:last])
        at = np.argwhere(digest.any(axis=-1))
        place = (
            at + np.array([first, 0, 0]) if self.place is None else self.place[first:last][at[:, 0]]
        )
        return digest[tuple(at.T)].reshape(-1, DIGEST_BYTES), place.astype(np.int64)

    def task(self, shard: int) -> Task:
        """The task that makes a shard."""
        return Task(self.species, self.group.name, shard)


def inputs_of(folder: Path, species: str, source: WindowSource, group: GroupPlan) -> Inputs:
    """The model inputs of a group, whose species was laid down in ``folder``."""
    if group.kind == "embedder":
        return Inputs(species, group, window_digests(folder, source, group.identity))
    rows = ChangedInputs.load(set_folder(folder, group.variant_set), rows_name(group.identity))
    digest = np.where(rows.countable[:, None], rows.digest, 0).astype(np.uint8)
    return Inputs(species, group, digest, rows.place[:, [0, 2, 3]].astype(np.int64))


def groups_of(plan: BuildPlan, pool: str) -> list[tuple[str, GroupPlan]]:
    """Species and group of everything that an embedder embeds: windows, then haplotypes."""
    return [
        (species.name, group)
        for species in plan.species
        for group in species.groups
        if group.embeds and group.pool == pool
    ]


def sources_of(
    work: WorkArea, plan: BuildPlan, pool: str
) -> list[tuple[GroupPlan, WindowSource | HaplotypeSource]]:
    """Where the inputs of an embedder come from, in the order of :func:`groups_of`."""
    found: list[tuple[GroupPlan, WindowSource | HaplotypeSource]] = []
    for species, group in groups_of(plan, pool):
        windows = source_for(WindowSource(work.inputs(species)), group.identity)
        if group.kind == "embedder":
            found.append((group, windows))
        else:
            folder = set_folder(work.inputs(species), group.variant_set)
            found.append((group, HaplotypeSource(windows, folder)))
    return found


def inputs_of_pool(work: WorkArea, plan: BuildPlan, pool: str) -> list[Inputs]:
    """The model inputs of everything that an embedder embeds, in the order of :func:`groups_of`."""
    found = []
    for species, group in groups_of(plan, pool):
        folder = work.inputs(species)
        found.append(inputs_of(folder, species, WindowSource(folder), group))
    return found


def find_shared(
    work: WorkArea, plan: BuildPlan, pool: str, pending: Collection[Task] | None = None
) -> NDArray[np.int64]:
    """Inputs of an embedder that more than one pending shard wants and that nothing knows yet.

    Parameters
    ----------
    pending : collection of Task, optional
        Default: every shard.

    Returns
    -------
    int64 array, shape (n, 4): number in :func:`sources_of`, gene or haplotype, region, bin of one
    occurrence of each
    """
    pending = set(plan.tasks() if pending is None else pending)
    inputs = inputs_of_pool(work, plan, pool)
    return shared_among(inputs, pending, known_of(work, pool))[0]


def shared_among(
    inputs: Sequence[Inputs], pending: Collection[Task], known: Indexed | None
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Places (n, 4) and digests (n, 16) of inputs that several pending shards want and nothing knows."""
    several = _seen_twice(
        np.unique(as_numbers(digest)[:, 0]) for _, _, digest, _ in wanted_by(inputs, pending)
    )
    keys, places, shards = [], [], []
    for number, shard, digest, place in wanted_by(inputs, pending) if len(several) else ():
        half = as_numbers(digest)[:, 0]
        at = np.minimum(np.searchsorted(several, half), len(several) - 1)
        maybe = several[at] == half
        keys.append(digest[maybe])
        places.append(np.column_stack([np.full(int(maybe.sum()), number), place[maybe]]))
        shards.append(np.full(int(maybe.sum()), shard + number * 2**32))
    if not keys:
        return np.zeros((0, 4), np.int64), np.zeros((0, DIGEST_BYTES), np.uint8)
    digests, places_, shard_ = np.concatenate(keys), np.concatenate(places), np.concatenate(shards)
    _, first, inverse = np.unique(as_keys(digests), return_index=True, return_inverse=True)
    lowest, highest = np.full(len(first), 2**62), np.full(len(first), -1)
    np.minimum.at(lowest, inverse, shard_)
    np.maximum.at(highest, inverse, shard_)
    first = first[lowest != highest]
    if known is not None:
        first = first[~known.has(digests[first])]
    return places_[first].astype(np.int64), digests[first]


def _seen_twice(parts: Iterator[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Numbers that occur in more than one part, each of which holds it once; sorted."""
    listed = list(parts)
    values = np.concatenate(listed) if listed else np.zeros(0, np.uint64)
    values.sort()
    return np.unique(values[1:][values[1:] == values[:-1]])


def wanted_by(
    inputs: Sequence[Inputs], pending: Collection[Task]
) -> Iterator[tuple[int, int, NDArray[np.uint8], NDArray[np.int64]]]:
    """Number of the group, shard, digests and places of the inputs of every pending shard."""
    for number, one in enumerate(inputs):
        for shard in range(one.group.shards):
            if one.task(shard) in pending:
                yield number, shard, *one.of_shard(shard)


def known_vectors(work: WorkArea, pool: str) -> Lookup | None:
    """Look-up over all that is known of the inputs of an embedder, or None if nothing is."""
    return known_of(work, pool)
