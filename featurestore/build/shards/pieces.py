"""Embeds the inputs that several shards need, once, in pieces that are each committed."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, Task, vector_bytes
from featurestore.build.reuse.known import known_of
from featurestore.build.reuse.pool import Pool
from featurestore.build.reuse.shared import find_shared, sources_of
from featurestore.build.shards.compute import in_batches
from featurestore.build.shards.compute_genes import CutInputs, digests_of
from featurestore.build.shards.tasks import limited_threads, load_plan, loaded_embedder
from featurestore.build.windows.mapped import mapped
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import vector_shapes

PART: Final = 4096
"""Inputs in one piece."""
PART_BYTES: Final = 64 << 20
"""Vectors that are held in memory at once, in bytes."""


def lay_out_pieces(
    work: WorkArea, plan: BuildPlan, group: GroupPlan, pending: Collection[Task] | None = None
) -> int:
    """Write down which inputs of an embedder several pending shards need, for :func:`compute_piece`.

    Returns
    -------
    int
        Number of pieces.
    """
    places = find_shared(work, plan, group.pool, pending)
    path = work.shared_places(group.pool)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, places)
    return -(-len(places) // PART)


def compute_piece(
    work_root: str, species: str, group: str, piece: int, device: str | None = None,
    threads: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """Embed one piece of the inputs that several shards need, and add it to the pool.

    Parameters
    ----------
    species, group : str
        Any group of the embedder.
    piece : int

    Returns
    -------
    dict of plain facts for the log
    """
    work = WorkArea(Path(work_root))
    plan = load_plan(work)
    _, found = plan.of(Task(species, group, 0))
    places = mapped(work.shared_places(found.pool))[piece * PART : (piece + 1) * PART]
    pool = Pool(work.shared(found.pool))
    earlier = known_of(work, found.pool)
    sources = [source for _, source in sources_of(work, plan, found.pool)]
    input_bp = found.identity["input_bp"]

    def cut(rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        wanted = places[rows].tolist()
        return np.stack([sources[s].one_input(item, r, b, input_bp) for s, item, r, b in wanted])

    digests, _ = digests_of(CutInputs(cut, np.arange(len(places))))
    have = earlier.has(digests) if earlier else np.zeros(len(places), bool)
    if not have.all():
        embedder, fresh = loaded_embedder(found, device), np.flatnonzero(~have)
        size = max(1, PART_BYTES // max(map(vector_bytes, vector_shapes(found.identity).values())))
        with limited_threads(threads):
            for first in range(0, len(fresh), size):
                some = fresh[first : first + size]
                pool.put(digests[some], in_batches(embedder, CutInputs(cut, some)))
    return {"computed": int((~have).sum()), "reused": int(have.sum())}
