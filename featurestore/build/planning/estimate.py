"""``fs plan``: what a build would make, and why, before it makes anything."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from featurestore.build.planning.forecast import Foresight, Windows, distinct_windows, shards_of
from featurestore.build.planning.group_plan import BuildPlan, GroupPlan, SpeciesPlan, Task
from featurestore.build.planning.held import stored_species
from featurestore.build.planning.plan import plan_species
from featurestore.build.planning.present import what_is_there
from featurestore.build.planning.reasons import Change
from featurestore.build.planning.request import Request, resolve
from featurestore.build.planning.room import LARGE, existing_parent, gene_bytes, needs_asking
from featurestore.build.reuse.existing import readable_manifest
from featurestore.build.reuse.shared import Inputs, inputs_of
from featurestore.build.sealing.metadata import sharded_arrays
from featurestore.build.shards.compute import in_batches
from featurestore.build.shards.given import GivenRows
from featurestore.build.windows.laid_down import lay_down_species
from featurestore.build.windows.window_source import WindowSource, source_for
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import Embedder, is_gene_centred
from featurestore.embedders.registry import make_embedder
from featurestore.errors import MeristemError
from featurestore.inputs.dataset import load_config
from featurestore.inputs.load import load_species
from featurestore.inputs.model import SpeciesData
from featurestore.inputs.problems import Problems
from featurestore.store.reader import open_store

PROBE_SECONDS: Final = 2.0
COSTLY_PROBE: Final = 8
"""Windows that a real model is tried on: at a second each, more would keep people waiting."""


def estimate(
    dataset: Path, store: Path | None, embedders: Sequence[str], species: Sequence[str]
) -> dict[str, Any]:
    """Genes, windows, bytes, files, free disk and time of a build, what it computes and why.

    Every input is read and checked as for a build. The time of an embedder is measured on one
    batch, the rest is arithmetic. Nothing is written but to a temporary folder.
    """
    config = load_config(dataset, files=False)
    target = (store or dataset.with_name("store.zarr")).resolve()
    request = resolve(config, target, embedders, species)
    with tempfile.TemporaryDirectory() as folder:
        found = _Survey(WorkArea(Path(folder)), request, target)
        found.read()
        rows = found.rows()
    return {
        "store": str(target), "groups": rows, "bytes": sum(r["bytes"] for r in rows),
        "files": sum(r["files"] for r in rows), "free_bytes": shutil.disk_usage(existing_parent(target)).free,
        "seconds": sum(r["seconds"] for r in rows),
        "windows_to_compute": sum(r["windows_to_compute"] for r in rows),
        "notes": found.notes,
    }  # fmt: skip


@dataclass
class _Row:
    """One group of one species."""

    group: GroupPlan
    facts: dict[str, Any]
    pending: list[Task]
    inputs: Inputs | None
    rate: float
    """Windows per second; 0 where nothing is embedded."""


class _Survey:
    """Reads species by species; of each only digests of its windows are kept."""

    def __init__(self, work: WorkArea, request: Request, target: Path) -> None:
        self._work, self._request, self._target = work, request, target
        self._unfinished = WorkArea.beside(target)
        self._manifest = readable_manifest(target) if target.exists() else None
        self._there = what_is_there(target)
        self._found: list[_Row] = []
        self._plans: list[SpeciesPlan] = []
        self._rates: dict[str, tuple[float, str]] = {}
        self.notes: dict[str, list[str]] = {}

    def read(self) -> None:
        """Read everything; all mistakes of all species are told at once."""
        problems = Problems()
        config = self._request.selected()
        for name in config.species:
            data = (
                stored_species(open_store(self._target), name, config)
                if name in self._request.held
                else load_species(config, name, problems)
            )
            if data is not None and not problems.items:
                self._species(data)
        problems.items[:] = dict.fromkeys(problems.items)
        problems.raise_if_any()

    def _species(self, data: SpeciesData) -> None:
        folder, bin_bp = self._work.inputs(data.name), self._request.config.bin
        light = lay_down_species(folder, data, bin_bp)
        plan = plan_species(light, folder, self._request.embedders, bin_bp)
        shards = shards_of(plan, self._manifest, self._target, self._unfinished)
        change = Change(self._there, light, bin_bp)
        source = WindowSource(folder) if light.kind != "positions" and light.gene else None
        for group in plan.groups:
            told = shards[group.name]
            wanted = bool(told.pending) and group.embeds and source is not None
            inputs = inputs_of(folder, data.name, source, group) if wanted and source else None
            facts = {
                "species": data.name, "group": group.name, "genes": plan.genes,
                **_size(plan, group, light, source), "shards": group.shards,
                "shards_taken_over": told.taken_over, "shards_resumed": told.resumed,
                "shards_to_compute": len(told.pending),
                "reasons": change.reasons(group, inputs) if told.pending else [],
            }  # fmt: skip
            rate, note = self._rate(group, source) if wanted and source else (0.0, "")
            if note:
                facts["note"] = note
            self._found.append(_Row(group, facts, told.pending, inputs, rate))
        self._plans.append(plan)
        self.notes[data.name] = list(light.notes)
        for path in folder.glob("*.npy"):  # a genome each; what maps them is let go of
            path.unlink()

    def _rate(self, group: GroupPlan, source: WindowSource) -> tuple[float, str]:
        if group.pool not in self._rates:
            self._rates[group.pool] = measured_rate(group, source)
        return self._rates[group.pool]

    def rows(self) -> list[dict[str, Any]]:
        """Facts of every group, after :meth:`read`."""
        plan = BuildPlan(self._request.digest, self._request.config.bin, tuple(self._plans))
        pending = [task for row in self._found for task in row.pending]
        foresight = Foresight(self._work, plan, self._target, self._unfinished, pending)
        told = {id(row): Windows() for row in self._found}
        pools: dict[str, list[_Row]] = {}
        for row in self._found:
            if row.inputs is None:
                continue
            if row.group.identity["costly"]:
                pools.setdefault(row.group.pool, []).append(row)
            else:
                told[id(row)] = Windows(distinct_windows(row.inputs, row.pending))
        for listed in pools.values():
            inputs = [row.inputs for row in listed if row.inputs is not None]
            told |= {id(row): w for row, w in zip(listed, foresight.windows(inputs), strict=True)}
        self._mark_large()
        return [_with_windows(row, told[id(row)]) for row in self._found]

    def _mark_large(self) -> None:
        """Note which embedders of one window a gene a build makes only when asked plainly."""
        windows: dict[str, int] = {}
        centred = [row for row in self._found if "bytes_a_gene" in row.facts]
        for row in centred:
            spans = (row.group.span(task.shard) for task in row.pending)
            count = sum(last - first for first, last in spans)
            windows[row.group.pool] = windows.get(row.group.pool, 0) + count
        for row in centred:
            row.facts["needs_large"] = needs_asking(windows[row.group.pool], row.group)


def _with_windows(row: _Row, windows: Windows) -> dict[str, Any]:
    seconds = windows.compute / row.rate if row.rate else 0.0
    return {
        **row.facts, "windows_to_compute": windows.compute, "windows_from_store": windows.store,
        "windows_from_work_area": windows.work_area, "seconds": seconds,
        **({"windows_per_second": row.rate} if row.rate else {}),
    }  # fmt: skip


def _size(
    plan: SpeciesPlan, group: GroupPlan, data: SpeciesData, source: WindowSource | None
) -> dict[str, int]:
    """Windows, bytes and files of a group, whatever of it is there."""
    shapes = list(sharded_arrays(group, source, plan.samples))
    size = sum(int(np.prod(s)) * np.dtype(d or spec.dtype).itemsize for _, spec, s, d in shapes)
    if group.kind == "genome" and data.genome is not None:
        size = len(data.genome.code)
    windows = group.rows if group.embeds else 0
    told = {}
    if group.embeds and is_gene_centred(group.identity):
        told["bytes_a_gene"] = gene_bytes(group)
    elif group.kind == "embedder" and source is not None:
        windows *= len(source.regions) * source.bins
    return {"windows": windows, "bytes": size, "files": group.shards * max(len(shapes), 1), **told}


def measured_rate(group: GroupPlan, source: WindowSource) -> tuple[float, str]:
    """Windows per second on one core, from as many batches as fit into half a second.

    Returns
    -------
    rate, why there is none
    """
    embedder = make_embedder(group.embedder_name, group.embedder)
    if isinstance(embedder, GivenRows):
        return 0.0, ""  # copied, not computed
    try:
        embedder.load(None)
    except MeristemError as error:
        return float("nan"), str(error)
    if is_gene_centred(group.identity):
        return _gene_rate(embedder, source_for(source, group.identity)), ""
    last = min(source.genes, 64)
    codes = source.bin_inputs(0, last, embedder.spec.input_bp)
    enough = min(embedder.spec.batch, COSTLY_PROBE) if embedder.spec.costly else embedder.spec.batch
    codes = codes.reshape(-1, codes.shape[-1])[:enough]
    done, started = 0, time.perf_counter()
    while not done or time.perf_counter() - started < PROBE_SECONDS / 4:
        in_batches(embedder, codes)
        done += len(codes)
    return done / (time.perf_counter() - started), ""


def _gene_rate(embedder: Embedder, source: WindowSource) -> float:
    """Windows per second, from one window in the middle of the genes; of some models it takes a minute.

    An embedder that reads each window several times (strands, shifts) may say how often by
    ``passes``, and read it once by ``probe``.
    """
    code = source.whole_inputs(np.array([source.genes // 2]))
    once = getattr(embedder, "probe", None)
    started = time.perf_counter()
    if once is None:
        in_batches(embedder, code)
    else:
        once(code)
    passes = 1 if once is None else int(getattr(embedder, "passes", 1))
    return 1 / ((time.perf_counter() - started) * passes)


def render(facts: dict[str, Any]) -> str:
    """The estimate as text."""
    lines = [
        f"{'species':<26} {'group':<14} {'genes':>9} {'windows':>11} {'MB':>10} {'files':>7} "
        f"{'shards to compute':>17} {'windows to compute':>18} {'core-s':>8}"
    ]
    for r in facts["groups"]:
        lines.append(
            f"{r['species']:<26} {r['group']:<14} {r['genes']:>9,} {r['windows']:>11,} {r['bytes'] / 1e6:>10,.1f} "
            f"{r['files']:>7,} {r['shards_to_compute']:>8,}/{r['shards']:<8,} {r['windows_to_compute']:>18,} {r['seconds']:>8,.0f}"
        )
        lines += [f"    {line}" for line in (*_long(r), *_why(r))]
    enough = "" if facts["free_bytes"] > 1.1 * facts["bytes"] else "  NOT ENOUGH"
    lines.append(
        f"in all {facts['bytes'] / 1e6:,.1f} MB in {facts['files']:,} files, {facts['windows_to_compute']:,} windows to "
        f"compute, about {facts['seconds']:,.0f} core-seconds of embedding; free on disk {facts['free_bytes'] / 1e9:,.1f} GB{enough}"
    )
    return "\n".join(
        [*lines, *(f"{name}: {note}" for name, notes in facts["notes"].items() for note in notes)]
    )


def _long(row: dict[str, Any]) -> list[str]:
    """What an embedder of one window a gene takes, and what else there is to say of it."""
    if "bytes_a_gene" not in row:
        return []
    told = [f"one window a gene, {row['bytes_a_gene']:,} bytes of vectors a gene"]
    if rate := row.get("windows_per_second"):
        told[0] += f", {1 / rate:,.2g} core-seconds a gene"
    if row["needs_large"]:
        told.append(f"more than {LARGE / 1e9:.0f} GB: 'fs build' makes it only with --large")
    return [*told, *([row["note"]] if "note" in row else [])]


def _why(row: dict[str, Any]) -> list[str]:
    """Why a group is computed, and what of it is there already."""
    there = [
        f"{row[key]:,} {what}"
        for key, what in (
            ("shards_taken_over", "shards taken over from the store"), ("shards_resumed", "shards finished before"),
            ("windows_from_store", "windows known from the store"),
            ("windows_from_work_area", "windows known from the unfinished build"),
        )
        if row[key]
    ]  # fmt: skip
    if not row["shards_to_compute"]:
        return []
    return [*row["reasons"], *([", ".join(there)] if there else [])]
