"""Runs of somebody else: their names stand in reports as text, their values are held to their types."""

# ruff: noqa: PT017 - an error is one of two right outcomes here

from __future__ import annotations

import json
from html.parser import HTMLParser

import pandas as pd
import pytest

from benchmarks.cli import bench
from benchmarks.report.html import render_report
from benchmarks.runs.files import read_run, read_runs, write_json, write_table
from benchmarks.scores.leaderboard import leaderboard
from featurestore.errors import InputError
from tests.builders.runs import population, write_run

PAYLOADS = (
    '<script>alert(1)</script>', '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</style><b>", "--><b>",
    "javascript:alert(1)", "{{ 7*7 }}", "{% raw %}", "$\\frac{1}{", "]]><svg/onload=alert(1)>", "\x1b[31m\x07", "&lt;b&gt;",
)  # fmt: skip


class Page(HTMLParser):
    """Tags and names of attributes of a page, as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.targets: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        self.targets |= {str(v) for n, v in attrs if n in ("href", "xlink:href", "src", "action")}


EVIL = "'\"><img src=x onerror=alert(1)></style><script>alert(1)"


def runs_named(folder, evil: str, more: str):
    genes = population(60, species=(f"{evil}_1", "sim_b"))
    genes["gene"] = evil + genes["gene"]
    for learner in (evil, "knn"):
        run = write_run(folder, learner, evil, genes=genes, learning=True, target=evil, bootstrap=0,
                        contamination={"pc": [f"{evil}_1"]}, params={"p": evil})  # fmt: skip
        record = json.loads((run.path / "run.json").read_text())
        record |= {"notes": [more], "device": more}
        record["funnel"][1]["lost"] = [{"reason": more, "count": 1, "examples": [more]}]
        write_json(run.path / "run.json", record)
    return read_runs(folder)


def test_no_name_is_markup_in_a_report(tmp_path):
    """Names that break out of every context make the page that harmless names make."""
    found = Page(render_report(runs_named(tmp_path / "a", EVIL, " ".join(PAYLOADS)), bootstrap=5))
    plain = Page(render_report(runs_named(tmp_path / "b", "harmless", "harmless"), bootstrap=5))
    assert found.tags <= plain.tags
    assert found.names <= plain.names
    assert not any(name.startswith("on") for name in found.names)
    assert all(target.startswith("#") for target in found.targets)


WRONG = [
    ("identity", []), ("identity", None), ("status", "fine"), ("status", 3), ("funnel", [1]), ("funnel", {"a": 1}),
    ("notes", "x"), ("times", []), ("times", {"fit_s": "x"}), ("times", {"fit_s": float("inf")}), ("folds", [[]]),
    ("audit", [1]), ("contamination", {"a": "b"}), ("peak_memory_bytes", 10**400), ("threads", 1.5), ("device", {}),
    ("funnel", [{"species": "a", "stage": "x", "count": "9"}]), ("funnel", [{"lost": [5]}]),
]  # fmt: skip


@pytest.mark.parametrize(("key", "value"), WRONG)
def test_a_run_of_wrong_types_is_told(tmp_path, key, value):
    run = write_run(tmp_path, genes=population(60), bootstrap=0)
    record = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps(record | {key: value}))
    with pytest.raises(InputError, match=r"run\.json"):
        read_run(run.path)


@pytest.mark.parametrize(
    "key", ["learner", "split", "seed", "species", "versions", "store", "unit", "features"]
)
@pytest.mark.parametrize("value", [7.5, "x", [1], {"a": [1]}])
def test_an_identity_of_wrong_types_is_told_or_ranked(tmp_path, key, value):
    run = write_run(tmp_path, genes=population(60), bootstrap=0)
    record = json.loads((run.path / "run.json").read_text())
    record["identity"][key] = value
    (run.path / "run.json").write_text(json.dumps(record))
    try:
        found = read_run(run.path)
    except InputError as error:
        assert "run.json" in str(error)
    else:
        leaderboard([found], bootstrap=0)


@pytest.mark.parametrize("name", ["predictions", "metrics"])
def test_tables_of_a_run_are_held_to_their_columns(tmp_path, name):
    run = write_run(tmp_path, genes=population(60), bootstrap=0)
    path = run.path / f"{name}.parquet"
    good = path.read_bytes()
    table = pd.read_parquet(path)
    first, number = ("gene", "y_pred") if name == "predictions" else ("metric", "value")
    for bad in (
        table.drop(columns=first), table.assign(**{number: "x"}), table.assign(**{first: 1.5}),
        pd.DataFrame({"a": [1]}),
    ):  # fmt: skip
        write_table(path, bad)
        with pytest.raises(InputError, match=f"{name}.parquet"):
            read_run(run.path)
    for raw in (b"", b"PAR1", good[:-50], b"PAR1" + good[200:], bytes(1000)):
        path.write_bytes(raw)
        with pytest.raises(InputError, match=f"{name}.parquet"):
            read_run(run.path)


def test_commands_tell_a_strange_run(tmp_path):
    from click.testing import CliRunner

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text('{"status": "ok"}')
    for command in ("report", "leaderboard", "compare"):
        done = CliRunner().invoke(bench, [command, str(tmp_path)])
        assert done.exit_code == 2
        assert "run.json" in done.output
