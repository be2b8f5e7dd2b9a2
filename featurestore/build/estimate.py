"""``fs plan``: what a build would make, before it makes anything."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from featurestore.build.compute import in_batches
from featurestore.build.engine import lay_down_inputs, make_plan
from featurestore.build.existing import readable_manifest
from featurestore.build.group_plan import GroupPlan
from featurestore.build.metadata import sharded_arrays
from featurestore.build.request import resolve
from featurestore.build.window_source import WindowSource
from featurestore.build.work_area import WorkArea
from featurestore.embedders.registry import make_embedder
from featurestore.errors import MeristemError
from featurestore.inputs.dataset import load_config
from featurestore.inputs.load import load_dataset

PROBE_SECONDS: Final = 2.0
COSTLY_PROBE: Final = 8
"""Windows that a real model is tried on: at a second each, more would keep people waiting."""


def estimate(
    dataset: Path, store: Path | None, embedders: Sequence[str], species: Sequence[str]
) -> dict[str, Any]:
    """Genes, windows, bytes, files, free disk and time of a build.

    Every input is read and checked as for a build. The time of an embedder is measured on one
    batch, the rest is arithmetic.
    """
    config = load_config(dataset)
    target = (store or dataset.with_name("store.zarr")).resolve()
    request = resolve(config, target, embedders, species)
    data = load_dataset(request.selected())
    manifest = readable_manifest(target) if target.exists() else None
    keys = manifest.keys if manifest else {}
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        work = WorkArea(Path(folder))
        lay_down_inputs(work, data, config.bin)
        plan = make_plan(work, request, data)
        for one, given in zip(plan.species, data, strict=True):
            source = (
                WindowSource(work.inputs(one.name))
                if given.kind != "positions" and given.gene
                else None
            )
            for group in one.groups:
                fresh = [
                    i
                    for i, k in enumerate(group.keys)
                    if keys.get(f"{one.name}/{group.name}/{i}") != k
                ]
                shapes = list(sharded_arrays(group, source, one.samples))
                size = sum(
                    int(np.prod(s)) * np.dtype(d or spec.dtype).itemsize for _, spec, s, d in shapes
                )
                if group.kind == "genome" and given.genome is not None:
                    size = len(given.genome.code)
                rows.append(
                    {
                        "species": one.name, "group": group.name, "genes": one.genes, "bytes": size,
                        "files": group.shards * max(len(shapes), 1), "shards": group.shards,
                        "shards_to_compute": len(fresh),
                        **_time(group, source, len(fresh) / max(group.shards, 1)),
                    }
                )  # fmt: skip
    return {
        "store": str(target), "groups": rows, "bytes": sum(r["bytes"] for r in rows),
        "files": sum(r["files"] for r in rows), "free_bytes": shutil.disk_usage(_existing_parent(target)).free,
        "seconds": sum(r["seconds"] for r in rows),
        "notes": {d.name: d.notes for d in data},
    }  # fmt: skip


def _existing_parent(path: Path) -> Path:
    return next(p for p in [path.absolute(), *path.absolute().parents] if p.exists())


def _time(group: GroupPlan, source: WindowSource | None, fraction: float) -> dict[str, Any]:
    """Seconds on one core, from as many batches as fit into two seconds."""
    if not group.embeds or source is None or not source.genes:
        return {"windows": 0, "seconds": 0.0}
    windows = group.rows
    if group.kind == "embedder":
        windows *= len(source.regions) * source.bins
    embedder = make_embedder(group.embedder_name, group.embedder)
    try:
        embedder.load(None)
    except MeristemError as error:
        return {"windows": windows, "seconds": float("nan"), "note": str(error)}
    last = min(source.genes, 64)
    codes = source.bin_inputs(0, last, embedder.spec.input_bp)
    enough = min(embedder.spec.batch, COSTLY_PROBE) if embedder.spec.costly else embedder.spec.batch
    codes = codes.reshape(-1, codes.shape[-1])[:enough]
    done, started = 0, time.perf_counter()
    while not done or time.perf_counter() - started < PROBE_SECONDS / 4:
        in_batches(embedder, codes)
        done += len(codes)
    rate = done / (time.perf_counter() - started)
    return {"windows": windows, "seconds": windows * fraction / rate, "windows_per_second": rate}


def render(facts: dict[str, Any]) -> str:
    """The estimate as text."""
    lines = [
        f"{'species':<26} {'group':<14} {'genes':>9} {'windows':>11} {'MB':>10} {'files':>7} {'to compute':>11} {'core-s':>8}"
    ]
    lines += [
        f"{r['species']:<26} {r['group']:<14} {r['genes']:>9,} {r['windows']:>11,} {r['bytes'] / 1e6:>10,.1f} "
        f"{r['files']:>7,} {r['shards_to_compute']:>5}/{r['shards']:<5} {r['seconds']:>8,.0f}"
        for r in facts["groups"]
    ]
    enough = "" if facts["free_bytes"] > 1.1 * facts["bytes"] else "  NOT ENOUGH"
    lines.append(
        f"in all {facts['bytes'] / 1e6:,.1f} MB in {facts['files']:,} files, about {facts['seconds']:,.0f} core-seconds of "
        f"embedding; free on disk {facts['free_bytes'] / 1e9:,.1f} GB{enough}"
    )
    return "\n".join(
        [*lines, *(f"{name}: {note}" for name, notes in facts["notes"].items() for note in notes)]
    )
