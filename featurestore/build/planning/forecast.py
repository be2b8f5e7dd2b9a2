"""Foretells what a build takes over and what it computes, shard by shard and window by window.

The same keys and digests decide as in the build itself, so the numbers are those of the build.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import BuildPlan, SpeciesPlan, Task
from featurestore.build.planning.prepare import earlier_plan
from featurestore.build.reuse.aside import index_set_aside, keep_finished, stale_shards
from featurestore.build.reuse.digests import KnownBins
from featurestore.build.reuse.existing import index_known_bins
from featurestore.build.reuse.known import Indexed, stored_bins
from featurestore.build.reuse.pool import Pool
from featurestore.build.reuse.shared import Inputs, shared_among
from featurestore.build.windows.window_kernels import DIGEST_BYTES
from featurestore.build.work_area import WorkArea
from featurestore.store.manifest import Manifest


@dataclass
class Shards:
    """What becomes of the shards of one group of one species."""

    resumed: int = 0
    taken_over: int = 0
    pending: list[Task] = field(default_factory=list)


@dataclass
class Windows:
    """What becomes of the model inputs of the pending shards of one group of one species.

    Each distinct input counts once: where it is computed, ``compute``; ``store`` and
    ``work_area`` count, shard by shard, those whose vectors lie there already.
    """

    compute: int = 0
    store: int = 0
    work_area: int = 0


def shards_of(
    plan: SpeciesPlan, manifest: Manifest | None, store: Path, unfinished: WorkArea
) -> dict[str, Shards]:
    """What becomes of the shards of a species, by group.

    Parameters
    ----------
    manifest : Manifest or None
        Of the present store.
    unfinished : WorkArea
        Of the build that this one would go on with, whether there is one or not.
    """
    files: dict[str, list[str]] = {}
    for path in manifest.files if manifest else ():
        if path.startswith(f"{plan.name}/"):
            files.setdefault(path.partition("/c/")[0].rpartition("/")[0], []).append(path)
    found: dict[str, Shards] = {}
    for group in plan.groups:
        shards = found[group.name] = Shards()
        whole = manifest is not None and all(
            _there(store / p, manifest.files[p].size)
            for p in files.get(f"{plan.name}/{group.name}", ())
        )
        for number, key in enumerate(group.keys):
            task = Task(plan.name, group.name, number)
            if unfinished.read_marker(task, key) is not None:
                shards.resumed += 1
            elif whole and manifest is not None and manifest.keys.get(task.path) == key:
                shards.taken_over += 1
            else:
                shards.pending.append(task)
    return found


def _there(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def distinct_windows(inputs: Inputs, pending: Sequence[Task]) -> int:
    """Windows that an embedder computes that looks nothing up: those distinct within a shard."""
    return sum(len(_distinct(inputs.of_shard(task.shard)[0])) for task in pending)


def _distinct(digests: NDArray[np.uint8]) -> NDArray[np.uint8]:
    known = KnownBins.of(digests, np.ones(len(digests), bool))
    return digests[np.sort(known.place)]


class Foresight:
    """What the present store and an unfinished build know of the inputs of costly embedders.

    Parameters
    ----------
    scratch : WorkArea
        Where digests are indexed; nothing is written anywhere else.
    plan : BuildPlan
    store : Path
    unfinished : WorkArea
    pending : collection of Task
    """

    def __init__(
        self, scratch: WorkArea, plan: BuildPlan, store: Path, unfinished: WorkArea,
        pending: Collection[Task],
    ) -> None:  # fmt: skip
        self._plan, self._pending, self._unfinished = plan, set(pending), unfinished
        self._there = WorkArea(scratch.root / "of_store")
        self._begun = WorkArea(scratch.root / "of_work_area")
        if store.exists():
            index_known_bins(self._there, plan, store, pending)
        self._old = earlier_plan(unfinished)
        if self._old is not None:
            if stale_shards(self._old, plan):
                keep_finished(unfinished, self._old, self._begun.earlier, digests_only=True)
            index_set_aside(self._begun, plan, pending, unfinished.earlier)

    def windows(self, inputs: Sequence[Inputs]) -> list[Windows]:
        """What becomes of the inputs of each group that one costly embedder embeds."""
        pool = inputs[0].group.pool
        store = _AnyOf(stored_bins(self._there, pool))
        begun = _AnyOf([*stored_bins(self._begun, pool), _Digests(self._pooled(pool))])
        _, shared = shared_among(inputs, self._pending, _AnyOf([store, begun]))
        claims = KnownBins.of(shared, np.ones(len(shared), bool))
        claimed = np.zeros(len(shared), bool)
        found = []
        for one in inputs:
            told = Windows()
            for shard in range(one.group.shards):
                if one.task(shard) not in self._pending:
                    continue
                digests = _distinct(one.of_shard(shard)[0])
                in_store, in_begun = store.has(digests), begun.has(digests)
                own = self._own_partial(one, shard).has(digests)
                place = claims.find(digests)
                own &= place < 0  # what several shards want is computed before any of them
                told.store += int(in_store.sum())
                told.work_area += int(((in_begun | own) & ~in_store).sum())
                fresh = ~(in_store | in_begun | own)
                told.compute += int((fresh & (place < 0)).sum())
                first = place[fresh & (place >= 0)]
                told.compute += int((~claimed[first]).sum())
                claimed[first] = True
            found.append(told)
        return found

    def _pooled(self, pool: str) -> NDArray[np.uint8]:
        """Digests of vectors in the pools of the unfinished build that pass to this one."""
        parts = [Pool(self._unfinished.shared(pool)).digests()]
        if self._old is not None:
            parts += [
                Pool(self._unfinished.partial(task, self._old.key(task))).digests()
                for task in stale_shards(self._old, self._plan)
                if self._old.of(task)[1].pool == pool
            ]
        return np.concatenate(parts)

    def _own_partial(self, inputs: Inputs, shard: int) -> _Digests:
        task = inputs.task(shard)
        return _Digests(Pool(self._unfinished.partial(task, inputs.group.keys[shard])).digests())


class _Digests:
    """Inputs that are known, where only that is asked."""

    def __init__(self, digests: NDArray[np.uint8]) -> None:
        self._known = KnownBins.of(digests.reshape(-1, DIGEST_BYTES), np.ones(len(digests), bool))

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which digests (n, 16) are known, shape (n,)."""
        found: NDArray[np.bool_] = self._known.find(digests) >= 0
        return found


class _AnyOf:
    """Several of these together."""

    def __init__(self, places: Sequence[Indexed]) -> None:
        self._places = places

    def has(self, digests: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Which digests (n, 16) any of them knows, shape (n,)."""
        found = np.zeros(len(digests), bool)
        for place in self._places:
            found |= place.has(digests)
        return found
