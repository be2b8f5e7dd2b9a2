"""``python -m featurestore.build.shards.probe``: embeds inputs of one shard as told on stdin, and may die of it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import Task
from featurestore.build.shards.compute import ModelInputs, in_batches
from featurestore.build.shards.compute_genes import CutInputs
from featurestore.build.shards.tasks import (
    limited_threads,
    load_plan,
    loaded_embedder,
    window_source,
)
from featurestore.build.shards.variant_tasks import haplotype_source
from featurestore.build.windows.haplotype_source import PLACE, ChangedInputs, rows_name
from featurestore.build.windows.window_source import source_for
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import is_gene_centred
from featurestore.errors import MeristemError
from featurestore.sequence.iupac import N


def shard_inputs(work: WorkArea, task: Task) -> tuple[ModelInputs, NDArray[np.int32]]:
    """Model inputs of a shard and where they stand.

    Returns
    -------
    codes : n of them, as :func:`~featurestore.build.shards.compute.run_model` takes them
    place : int32 array, shape (n, 4): haplotype (−1: the reference), gene, region, bin
    """
    _, group = load_plan(work).of(task)
    first, last = group.span(task.shard)
    input_bp = group.identity["input_bp"]
    source = source_for(window_source(work, task.species), group.identity)
    if group.kind == "variant_embedder":
        haplotypes = haplotype_source(work, source, task.species, group)
        rows = ChangedInputs.load(haplotypes.folder, rows_name(group.identity)).place[first:last]
        place = np.asarray(rows)

        def cut(at: NDArray[np.int64]) -> NDArray[np.uint8]:
            wanted = place[at].tolist()
            return np.stack([haplotypes.one_input(h, r, b, input_bp) for h, _, r, b in wanted])

        return CutInputs(cut, np.arange(len(place))), place
    if is_gene_centred(group.identity):
        place = np.zeros((last - first, len(PLACE)), np.int32)
        place[:, 0], place[:, 1] = -1, np.arange(first, last)
        return CutInputs(source.whole_inputs, np.arange(first, last)), place
    grid = source.bin_inputs(first, last, input_bp)
    at = np.argwhere(grid.min(axis=-1, initial=N) < N)
    place = np.full((len(at), len(PLACE)), -1, np.int32)
    place[:, 1:] = at
    place[:, 1] += first
    return grid[tuple(at.T)], place


def main(arguments: list[str]) -> None:
    """Answer each line ``first last`` with a line of JSON: what went wrong, or nothing."""
    root, species, group_name, shard, device, threads = arguments
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    work, task = WorkArea(Path(root)), Task(species, group_name, int(shard))
    _, group = load_plan(work).of(task)
    codes, _ = shard_inputs(work, task)
    for line in sys.stdin:
        first, last = map(int, line.split())
        answers.write(json.dumps({"error": _tried(group, codes[first:last], device, threads)}))
        answers.write("\n")
        answers.flush()


def _tried(group: Any, codes: NDArray[np.uint8], device: str, threads: str) -> str:
    try:
        embedder = loaded_embedder(group, device or None)
        with limited_threads(int(threads)):
            in_batches(embedder, codes)
    except MeristemError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - an embedder may raise anything, and it is told
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
