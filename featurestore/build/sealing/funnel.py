"""Tells genes as a funnel: annotated → windowed → embedded → labelled, with what was lost and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import GroupPlan, SpeciesPlan
from featurestore.build.work_area import WorkArea
from featurestore.embedders.base import is_gene_centred
from featurestore.inputs.model import SpeciesData
from featurestore.schema import STATUS_MEANINGS, Status
from featurestore.store.shard import read_block
from featurestore.store.templates import chunk_path

EXAMPLES: Final = 5


def _lost(genes: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Group (gene, reason) pairs by reason."""
    by_reason: dict[str, list[str]] = {}
    for gene, reason in genes:
        by_reason.setdefault(reason, []).append(gene)
    return [
        {"reason": reason, "count": len(found), "examples": found[:EXAMPLES]}
        for reason, found in sorted(by_reason.items())
    ]


def _status(work: WorkArea, plan: SpeciesPlan, found: GroupPlan, regions: int) -> NDArray[np.uint8]:
    """Status of a finished group, read from its shards, shape (gene, region)."""
    parts = []
    row = () if found.embeds and is_gene_centred(found.identity) else (regions,)
    for shard in range(found.shards):
        place = (shard, *(0,) * len(row))
        path = chunk_path(work.store, f"{plan.name}/{found.name}/status", place)
        first, last = found.span(shard)
        block = read_block(path, np.dtype(np.uint8), (found.shard_rows, *row))
        parts.append(block[: last - first].reshape(last - first, regions))
    return np.concatenate(parts) if parts else np.zeros((0, regions), np.uint8)


def _not_embedded(work: WorkArea, plan: SpeciesPlan, data: SpeciesData) -> dict[str, str]:
    """Genes that some group has no usable vector for, with the reason."""
    reasons: dict[str, str] = {}
    for group in plan.groups:
        if group.kind not in {"sequence", "embedder"}:
            continue
        names = [r.name for r in data.regions]
        if group.embeds and is_gene_centred(group.identity):
            names = [str(group.identity["anchor"])]
        status = _status(work, plan, group, len(names))
        bad = (status == Status.NO_SEQUENCE) | (status == Status.FAILED)
        bad |= ~(status == Status.OK).any(axis=1, keepdims=True)
        for row in np.flatnonzero(bad.any(axis=1)).tolist():
            what = ", ".join(
                f"{name} {STATUS_MEANINGS[Status(int(s))]}"
                for name, s in zip(names, status[row], strict=True)
                if s
            )
            reasons.setdefault(data.gene[row], f"{group.name}: {what}")
    return reasons


def _unlabelled(data: SpeciesData) -> list[tuple[str, str]]:
    table = data.expression
    if table is None:
        return [(g, "the data set has no expression table") for g in data.gene]
    has_value = np.atleast_1d(np.isfinite(table.value).any(axis=1))
    return [
        (gene, "no row in the expression table" if not row else "no value in any sample")
        for gene, row, value in zip(
            data.gene, table.labelled.tolist(), has_value.tolist(), strict=True
        )
        if not (row and value)
    ]


def gene_funnel(work: WorkArea, plan: SpeciesPlan, data: SpeciesData) -> list[dict[str, Any]]:
    """The funnel of one species whose shards are done.

    Returns
    -------
    list of {"stage", "count", "lost": [{"reason", "count", "examples"}]}
        ``count`` is what reaches the stage, ``lost`` what fell out on the way to it.
    """
    n = len(data.gene)
    has_windows = any(g.kind == "sequence" for g in plan.groups)
    not_embedded = (
        _not_embedded(work, plan, data)
        if has_windows
        else dict.fromkeys(data.gene, "no sequence given")
    )
    unlabelled = _unlabelled(data)
    embedded = n - len(not_embedded)
    labelled = n - len({g for g, _ in unlabelled} | (set(not_embedded) if has_windows else set()))
    return [
        {"stage": "annotated", "count": n + len(data.skipped), "lost": []},
        {
            "stage": "windowed",
            "count": n if has_windows else 0,
            "lost": _lost((s.gene, s.reason) for s in data.skipped),
        },
        {"stage": "embedded", "count": embedded, "lost": _lost(not_embedded.items())},
        {"stage": "labelled", "count": labelled, "lost": _lost(unlabelled)},
    ]


def describe(funnel: Sequence[dict[str, Any]]) -> str:
    """One line: ``annotated 1,373 → windowed 1,373 → …``."""
    return " → ".join(f"{step['stage']} {step['count']:,}" for step in funnel)
