"""Vectors of model inputs that are wanted more than once, or that an earlier store holds already.

Before the shards of a costly embedder run, inputs that occur in several shards are computed once
(``shared/<embedder>``), so that no shard waits for another. Vectors of the store that is being
replaced are looked up by digest in the same way.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.compute import Lookup, in_batches
from featurestore.build.group_plan import BuildPlan, GroupPlan
from featurestore.build.haplotype_source import ChangedInputs, HaplotypeSource, rows_name
from featurestore.build.pool import Pool
from featurestore.build.reuse import DIGEST_BYTES, KnownBins, as_keys, input_digests
from featurestore.build.variant_plan import set_folder
from featurestore.build.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import Embedder
from featurestore.sequence.windows import bin_validity

PART: Final = 4096
"""Inputs in one piece of the shared pool."""


def collect_digests(
    source: WindowSource, group: GroupPlan, input_bp: int | None
) -> NDArray[np.uint8]:
    """Digests of every bin of a species, shape (gene, region, bin, 16); zeros where nothing is to embed."""
    parts = []
    for first, last in source.ranges(group.shard_rows):
        codes = source.bin_inputs(first, last, input_bp)
        lengths = np.asarray(source.region_length[first:last])
        wanted = bin_validity(lengths, source.regions, source.bin_bp) & (codes < 4).any(axis=-1)
        parts.append(input_digests(codes, wanted))
    return np.concatenate(parts)


def sources_of(
    work: WorkArea, plan: BuildPlan, name: str
) -> list[tuple[GroupPlan, WindowSource | HaplotypeSource]]:
    """Where the inputs of an embedder come from: windows of each species, then of its haplotypes."""
    found: list[tuple[GroupPlan, WindowSource | HaplotypeSource]] = []
    for species in plan.species:
        for group in species.groups:
            if not group.embeds or group.embedder_name != name:
                continue
            windows = WindowSource(work.inputs(species.name))
            if group.kind == "embedder":
                found.append((group, windows))
            else:
                folder = set_folder(work.inputs(species.name), group.variant_set)
                found.append((group, HaplotypeSource(windows, folder)))
    return found


def _wanted_inputs(
    group: GroupPlan, source: WindowSource | HaplotypeSource, input_bp: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Digest (n, 16), place (n, 3) and row (n,) of the inputs of one group that a model sees."""
    if isinstance(source, HaplotypeSource):
        rows = ChangedInputs.load(source.folder, rows_name(input_bp))
        at = np.flatnonzero(rows.countable)
        return rows.digest[at], rows.place[at][:, [0, 2, 3]].astype(np.int64), at
    digests = collect_digests(source, group, input_bp)
    place = np.argwhere(digests.any(axis=-1))
    return digests[tuple(place.T)].reshape(-1, DIGEST_BYTES), place, place[:, 0]


def find_shared(
    work: WorkArea, plan: BuildPlan, name: str, input_bp: int | None
) -> NDArray[np.int64]:
    """Inputs of an embedder that occur in more than one shard, over all species and haplotypes.

    Returns
    -------
    int64 array, shape (n, 4): number in :func:`sources_of`, gene or haplotype, region, bin of one
    occurrence of each
    """
    keys, places, shards = [], [], []
    for number, (group, source) in enumerate(sources_of(work, plan, name)):
        digest, place, row = _wanted_inputs(group, source, input_bp)
        keys.append(as_keys(digest))
        places.append(np.column_stack([np.full(len(place), number), place]))
        shards.append(row // group.shard_rows + number * 2**32)
    if not keys:
        return np.zeros((0, 4), np.int64)
    key, places_, shard = np.concatenate(keys), np.concatenate(places), np.concatenate(shards)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    lowest, highest = np.full(len(first), 2**62), np.full(len(first), -1)
    np.minimum.at(lowest, inverse, shard)
    np.maximum.at(highest, inverse, shard)
    several: NDArray[np.int64] = places_[first[lowest != highest]].astype(np.int64)
    return several


def compute_shared(
    work: WorkArea, plan: BuildPlan, group: GroupPlan, embedder: Embedder, places: NDArray[np.int64]
) -> int:
    """Embed the inputs at ``places`` in pieces that are each committed; finished pieces stay.

    Returns
    -------
    int
        How many inputs were computed now.
    """
    pool = Pool(work.shared(group.pool))
    earlier = pool.lookup()
    done = 0
    sources = [source for _, source in sources_of(work, plan, group.embedder_name)]
    for start in range(0, len(places), PART):
        codes = np.stack(
            [
                sources[s].one_input(item, r, b, embedder.spec.input_bp)
                for s, item, r, b in places[start : start + PART].tolist()
            ]
        )
        digests = input_digests(codes, np.ones(len(codes), bool))
        have = earlier(digests)[0] if earlier else np.zeros(len(codes), bool)
        if have.all():
            continue
        fresh = in_batches(embedder, codes[~have])
        done += int((~have).sum())
        pool.put(digests[~have], fresh)
    return done


def known_vectors(work: WorkArea, pool_name: str) -> Lookup | None:
    """Look-up over the pool of an embedder, or None if it is empty."""
    return Pool(work.shared(pool_name)).lookup()


def pool_from_store(
    work: WorkArea, pool_name: str, digests: NDArray[np.uint8], usable: NDArray[np.bool_],
    vectors: dict[str, NDArray[Any]],
) -> int:  # fmt: skip
    """Put the vectors of an earlier store into the pool of an embedder.

    Parameters
    ----------
    digests : uint8 array, shape (gene, region, bin, 16) or (row, 16)
    usable : bool array, shape (gene, region, bin) or (row,)
    vectors : by output, the same shape and channel, where it has any
    """
    known = KnownBins.of(digests, usable & digests.any(axis=-1))
    if not len(known.place):
        return 0
    flat = digests.reshape(-1, DIGEST_BYTES)[known.place]
    grid = digests.shape[:-1]
    picked = {
        n: v.reshape(int(np.prod(grid)), *v.shape[len(grid) :])[known.place]
        for n, v in vectors.items()
    }
    Pool(work.shared(pool_name)).put(flat, picked)
    return len(known.place)
