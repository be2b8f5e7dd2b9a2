"""A simulation as facts and as text, each figure with where it comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from featurestore.build.workers.jobs import cores
from featurestore.simulate.dry_run import Outcome
from featurestore.simulate.rates import GIVEN, MEASURED, Machine, Rates
from featurestore.simulate.workload import Workload


def facts_of(
    workload: Workload, rates: Rates, outcomes: Sequence[Outcome], cores: int, *, one_machine: bool
) -> dict[str, Any]:
    """Everything that was simulated, and from what."""
    machine = {
        f.name: {"value": getattr(rates.machine, f.name), "origin": rates.origin_of(f.name)}
        for f in fields(Machine)
    }
    return {
        "species": len(workload.plan.species), "genes": workload.genes,
        "shards": len(workload.plan.tasks()), "shards_to_compute": len(workload.pending),
        "measured": MEASURED in rates.origin.values(), "load": os.getloadavg()[0],
        "cores": cores, "one_machine": one_machine,
        "distinct": dict(workload.distinct), "shared": dict(workload.shared),
        "not_searched": _not_searched(workload),
        "machine": machine, "models": {n: asdict(r) for n, r in rates.models.items()},
        "outcomes": [{**asdict(o), "hours": o.hours} for o in outcomes],
    }  # fmt: skip


def _not_searched(workload: Workload) -> list[str]:
    """Costly embedders of which nobody knows how many inputs several shards need."""
    groups = [g for s in workload.plan.species for g in s.groups if g.embeds]
    costly = [g for g in groups if g.identity["costly"] and g.pool not in workload.shared]
    return sorted({g.embedder_name for g in costly})


def render(facts: Mapping[str, Any]) -> str:
    """The facts for people."""
    first = facts["outcomes"][0]
    lines = [
        f"{facts['species']} species, {facts['genes']:,} genes, {first['windows']:,} windows to embed; "
        f"{facts['shards_to_compute']:,} of {facts['shards']:,} shards to compute",
        f"{_size(first['bytes'])} in {first['files']:,} files, {first['metadata_files']:,} of them metadata: "
        + ", ".join(f"{name} {_size(size)}" for name, size in first["bytes_by_group"].items()),
        _requests(first["requests"]),
        "",
        f"{'workers':>8} {'on the clock':>13} {'shards alone':>13} {'worker-hours':>13} {'models compute':>15} "
        f"{'memory a worker':>16}  where the time goes",
    ]  # fmt: skip
    lines += [_row(outcome) for outcome in facts["outcomes"]]
    where = "all on one machine" if facts["one_machine"] else "each on a machine of its own"
    lines += ["", f"workers {where}, {facts['cores']} cores each machine. Rates:"]
    lines += [_model(name, rate) for name, rate in facts["models"].items()]
    by_origin: dict[str, list[str]] = {}
    for name, one in facts["machine"].items():
        by_origin.setdefault(one["origin"], []).append(f"{name} {one['value']:,.4g}")
    lines += [f"  {origin}: {', '.join(names)}" for origin, names in sorted(by_origin.items())]
    if facts["measured"] and facts["load"] > 0.75 * cores() + 1:
        lines.append(
            f"  this machine had {facts['load']:.0f} processes at work while it was measured: its rates are those of now, "
            "not those of an idle machine"
        )
    if facts["not_searched"]:
        names = ", ".join(facts["not_searched"])
        lines.append(f"  assumed: no window of {names} occurs in two shards")
    return "\n".join(lines)


def _requests(of: Mapping[str, Any]) -> str:
    return (
        f"to object storage {of['publish']:,} PUT ({_time(of['publish_s'])}); to read it all "
        f"{of['read_all']:,} GET ({_time(of['read_all_s'])}), to open it {of['open']}, one gene {of['one_gene']}"
    )


def _row(outcome: Mapping[str, Any]) -> str:
    phases = sorted(outcome["phases"], key=lambda p: -p["seconds"])
    told = [p for p in phases if p["seconds"] > 0.02 * outcome["seconds"]]
    shards = next((p["seconds"] for p in phases if p["name"] == "shards"), 0.0)
    name = "threads" if outcome["threads_only"] else str(outcome["workers"])
    where = ", ".join(f"{p['name']} {100 * p['seconds'] / outcome['seconds']:.0f} %" for p in told)
    return (
        f"{name:>8} {_time(outcome['seconds']):>13} {_time(shards):>13} {outcome['worker_hours']:>13,.2f} "
        f"{100 * outcome['model_use']:>13.0f} % {_size(outcome['memory_bytes']):>16}  {where}"
    )


def _model(name: str, rate: Mapping[str, Any]) -> str:
    of = "GPU" if str(rate["device"]).startswith("cuda") else "core"
    note = f", {rate['note']}" if rate["note"] else ""
    return (
        f"  {rate['origin']}: {name} {rate['windows_per_s']:,.4g} windows/s of a {of} ({rate['device']}{note}), "
        f"loaded in {rate['load_s']:,.2g} s{' (assumed)' if rate['origin'] == GIVEN else ''}"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:,.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:,.1f} min"
    return f"{seconds / 3600:,.1f} h"


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
