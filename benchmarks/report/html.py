"""Write the report: one HTML file that needs no network, no server and no other file."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.runs.files import RunResult, write_atomic
from benchmarks.scores.methods import group_runs
from benchmarks.scores.stats import FALSE_POSITIVE_RATES, MIN_FOLDS, MIN_REPEATS
from benchmarks.text import number
from featurestore.errors import InputError

_TEMPLATES: Final = Path(__file__).parent / "templates"


def write_report(runs: Sequence[RunResult], path: Path, *, bootstrap: int = 1000) -> None:
    """Write the report of ``runs`` to ``path``, atomically.

    The file holds its own styles, script and pictures (inline SVG). Its content security policy
    forbids every load and every script but its own, and all names from results are escaped.

    Parameters
    ----------
    runs
        Runs as read by :func:`benchmarks.runs.files.read_runs`. Those that may not be compared
        stand in sections of their own.
    path
        The HTML file; its folder is made if need be.
    bootstrap
        Replicates of the intervals.

    Raises
    ------
    InputError
        If there is no run.
    """
    text = render_report(runs, bootstrap=bootstrap)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, text.encode())


def render_report(runs: Sequence[RunResult], *, bootstrap: int = 1000) -> str:
    """Return the report as HTML; see :func:`write_report`."""
    # matplotlib is imported here, so that the command line starts without it.
    from benchmarks.report.all_tracks import overviews, shown
    from benchmarks.report.view import group_view

    if not runs:
        raise InputError("no runs to report; make some with: bench run")
    found = group_runs(runs)
    tables = {id(group): table for group, table in zip(found, overviews(found), strict=True)}
    groups = [
        {**group_view(group, place, bootstrap), "all_tracks": tables[id(group)]}
        for place, group in enumerate(shown(found))
    ]
    values: dict[str, Any] = {
        "groups": groups,
        "simulated": any(group["simulated"] for group in groups),
        "n_runs": len(runs),
        "n_failed": sum(len(group["failed"]) for group in groups),
        "rates": FALSE_POSITIVE_RATES,
        "min_repeats": MIN_REPEATS,
        "min_folds": MIN_FOLDS,
    }
    return _render("report.html", values)


def render_page(template: str, values: dict[str, Any], path: Path) -> None:
    """Write a page of one of our templates, atomically; styles and script stand in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, _render(template, values).encode())


def _render(template: str, values: dict[str, Any]) -> str:
    # jinja2 is imported here, so that the command line starts without it.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["number"] = number
    style, script = ((_TEMPLATES / name).read_text() for name in ("report.css", "report.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    ours = {
        # Files of this package, not of a user: they go in as they are.
        "style": Markup(style),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
        "script_digest": digest,
    }
    return environment.get_template(template).render({**values, **ours})
