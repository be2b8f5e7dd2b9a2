"""The transfer table of the report: test species against methods, each score marked for itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from benchmarks.scores.methods import Group, Method
from benchmarks.scores.transfer import OVERALL, group_rows, interval
from benchmarks.text import number


def section(
    group: Group, methods: Sequence[Method], tables: dict[str, pd.DataFrame]
) -> dict[str, Any] | None:
    """Rows of species, cells of methods in their order of rank.

    Returns
    -------
    dict, or None where one species is tested and the split is not one over species
    """
    rows = group_rows(group, tables)
    tested = {row["species"] for row in rows} - set(OVERALL)
    if len(tested) < 2 and not group.split.startswith(("species:", "leave-one-species")):
        return None
    names = [method.label for method in methods if any(r["method"] == method.label for r in rows)]
    cells = {(row["species"], row["method"]): _cell(row) for row in rows}
    order = list(dict.fromkeys(row["species"] for row in rows))
    lines = []
    for species in order:
        here = [row for row in rows if row["species"] == species]
        lines.append({
            "species": species, "taxon": species not in OVERALL,
            "n": max(int(row["n"]) for row in here), "cells": [cells.get((species, n)) for n in names],
        })  # fmt: skip
    return {"methods": names, "lines": lines, "marked": any(row["pretrained"] for row in rows)}


def _cell(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "r2": number(row["r2"]), "r2_interval": interval(row["r2_low"], row["r2_high"]),
        "pearson": number(row["pearson"]),
        "pearson_interval": interval(row["pearson_low"], row["pearson_high"]),
        "pretrained": row["pretrained"],
    }  # fmt: skip
