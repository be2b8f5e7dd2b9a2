"""``bench learners`` and ``bench check``."""

from __future__ import annotations

from typing import Any

import click

from featurestore.cli.common import echo_json, json_option


@click.command(short_help="List learners, and why one cannot run.")
@json_option
def learners(as_json: bool) -> None:
    """List every registered learner: what it takes, what it is; why one cannot run here."""
    from learners.registry import Unavailable, get_learner, list_learners
    from learners.search import search_space_of

    rows = []
    for name, found in list_learners().items():
        unavailable = found.reason if isinstance(found, Unavailable) else ""
        rows.append(
            _facts(name, found.info if isinstance(found, Unavailable) else found, unavailable)
        )
    if as_json:
        for row in rows:
            space = search_space_of(get_learner(row["name"])) if row["available"] else {}
            row["search_space"] = {name: one.told() for name, one in space.items()}
        echo_json(rows)
        return
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        said = f"unavailable: {row['unavailable']}" if row["unavailable"] else row["summary"]
        takes = ", ".join(row["inputs"])
        click.echo(f"{row['name']:<{width}}  {takes:<20}  {said}")


def _facts(name: str, info: Any, unavailable: str) -> dict[str, Any]:
    if info is None:
        empty = {"inputs": [], "summary": "", "reference": "", "control": False, "defaults": {}}
        return {"name": name, "available": False, "unavailable": unavailable, **empty}
    return {
        "name": name, "available": not unavailable, "unavailable": unavailable,
        "inputs": sorted(info.inputs), "summary": info.summary, "reference": info.reference,
        "control": info.control, "needs_gpu": info.needs_gpu, "multi_output": info.multi_output,
        "deterministic": info.deterministic, "distributed": info.distributed,
        "defaults": dict(info.defaults),
    }  # fmt: skip


@click.command(short_help="Put a learner through the contract suite.")
@click.argument("name")
@click.option("--full", is_flag=True, help="Four times the rows of the quick suite.")
@json_option
def check(name: str, full: bool, as_json: bool) -> None:
    """Check that learner NAME (or package.module:Class) keeps the contract of learners.

    Same seed same prediction, order and batch size of no matter, no test label in reach, saved and
    loaded without pickle, a planted signal learned, shuffled labels not, NaN refused. Exit code 1
    where it does not.
    """
    from learners.checks import check_learner

    results = check_learner(name, quick=not full)
    passed = all(result.passed for result in results)
    if as_json:
        rows = [
            {
                "name": one.name, "passed": one.passed, "skipped": one.skipped,
                "message": one.message,
            }
            for one in results
        ]  # fmt: skip
        echo_json({"learner": name, "passed": passed, "checks": rows})
    else:
        for one in results:
            word = "skipped" if one.skipped else "ok" if one.passed else "FAILED"
            click.echo(f"{word:<8} {one.name}" + (f": {one.message}" if one.message else ""))
        click.echo(f"{name} {'keeps' if passed else 'breaks'} the contract")
    if not passed:
        raise click.exceptions.Exit(1)
