"""The report: one file, nothing loaded, every name escaped, whatever the runs are like."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from benchmarks.report.html import render_report, write_report
from benchmarks.runs.files import read_runs, write_json
from featurestore.errors import InputError
from tests.builders.runs import METHODS, population, write_benchmark, write_run

EVIL = "<script>alert('x')</script>\"'&$x_1$"
VOID = {"meta", "br", "hr", "img", "input", "link", "line", "circle", "path", "use", "rect"}


class Page(HTMLParser):
    """Collects tags, checks that they nest, and reads the text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag in VOID:
            return
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check_offline(text: str) -> Page:
    page = Page(text)
    for tag, attributes in page.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "img"}
        for name in ("src", "href", "xlink:href", "action", "srcset", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith("#"), (tag, name, value)
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
    assert not re.search(r"https?://", text)
    assert not re.search(r"@import|url\((?!#)", text)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', text))
    assert used <= set(ids)
    return page


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """All synthetic methods × 2 seeds, a failure, a contaminated and an audited one."""
    folder = tmp_path_factory.mktemp("runs")
    genes = population(400)
    write_benchmark(folder, seeds=2, n_genes=400)
    write_run(folder, "deepcre", "onehot", genes=genes, failed="out of memory")
    audited = write_run(
        folder, "ridge", "pc", r2=0.5, genes=genes, contamination={"pc": ["sim_alba"]}
    )
    scores = [{"reason": "overlap", "metric": "r2", "all": 0.36, "without": 0.31}]
    reasons = {"overlap": {"genes": 37, "fraction": 0.0925, "examples": ["SIM00001"]}}
    audit = {"reasons": reasons, "scores": scores, "notes": ["no sequence of sim_nigra"]}
    write_json(audited.path / "run.json", {**audited.run, "audit": audit})
    runs = read_runs(folder)
    path = folder / "out" / "report.html"
    write_report(runs, path, bootstrap=60)
    return path.read_text()


def test_report_is_one_file_that_loads_nothing(full):
    check_offline(full)


def test_report_shows_every_method_and_figure(full):
    page = check_offline(full)
    for learner, features, *_ in METHODS:
        assert f"{learner}@{features}" if features else learner in page.text
    for words in (
        "Simulated data.", "Leaderboard", "Observed against predicted", "Species and folds",
        "Within each species", "Which differences are real?", "Descriptive: 2 repeats × 5 folds",
        "Score against cost", "Learning", "From annotated to scored", "Failed runs",
        "MemoryError: out of memory", "Identity of everything", "How to read this", "14.5 %",
        "pre-trained on sim_alba", "not in the expression table", "not run", "Leakage audit",
        "no sequence of sim_nigra", "Homology alone (family_mean) gives R² 0.0",
    ):  # fmt: skip
        assert words in page.text, words
    assert sum(tag == "svg" for tag, _ in page.tags) > 20


def test_headline_says_the_best_learner_and_its_score(full):
    headline = re.search(r"<h1>(.*?)</h1>", full, re.DOTALL).group(1).replace("\u00a0", " ")
    assert re.match(
        r"ridge on pc explains [45]\d % of the variance of log10\(1\+TPM\) \(median\) in genes of "
        r"families it never saw \(R² 0\.[45]\d, 95 % interval 0\.\d\d to 0\.\d\d\)\.", headline,
    )  # fmt: skip


def test_script_is_the_one_that_the_policy_allows(full):
    page = check_offline(full)
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


def test_same_runs_give_the_same_bytes(tmp_path):
    runs = write_benchmark(tmp_path, seeds=1, n_genes=150, methods=METHODS[:2])
    assert render_report(runs, bootstrap=20) == render_report(runs, bootstrap=20)


def test_every_name_is_escaped(tmp_path):
    genes = population(150, species=(f"{EVIL}_1", "sim_b"))
    genes["gene"] = EVIL + genes["gene"]
    for learner in (EVIL, "knn"):
        run = write_run(
            tmp_path, learner, EVIL, genes=genes, learning=True, target=EVIL,
            contamination={"pc": [f"{EVIL}_1"]}, params={"p": EVIL},
        )  # fmt: skip
        record = json.loads((run.path / "run.json").read_text())
        record["notes"] = [EVIL]
        record["funnel"][1]["lost"] = [{"reason": EVIL, "count": 1, "examples": [EVIL]}]
        write_json(run.path / "run.json", record)
    write_run(tmp_path, "ridge", EVIL, genes=genes, failed=EVIL, target=EVIL)
    text = render_report(read_runs(tmp_path), bootstrap=20)
    page = check_offline(text)
    assert len(page.scripts) == 1
    assert "alert(" not in page.scripts[0]
    assert "<script>alert" not in text
    assert EVIL in page.text  # shown as it is


def test_one_run_makes_a_report(tmp_path):
    run = write_run(tmp_path, "ridge", simulated=False)
    page = check_offline(render_report([run], bootstrap=20))
    assert "Simulated data." not in page.text
    assert "ridge on kmer explains" in page.text


def test_failed_runs_alone_make_a_report(tmp_path):
    runs = [write_run(tmp_path, name, failed="disk full") for name in ("ridge", "knn")]
    page = check_offline(render_report(runs, bootstrap=20))
    assert "No learner has finished here yet." in page.text
    assert "disk full" in page.text


def test_two_tasks_stand_in_sections_of_their_own(tmp_path):
    write_benchmark(tmp_path, seeds=1, n_genes=150, methods=METHODS[:2])
    write_benchmark(tmp_path, seeds=1, n_genes=150, methods=METHODS[:2], task="imputation")
    page = check_offline(render_report(read_runs(tmp_path), bootstrap=20))
    assert [a.get("id") for t, a in page.tags if t == "article"] == ["g0", "g1"]
    assert "2 benchmarks" in page.text


def test_optional_keys_may_be_missing(tmp_path):
    run = write_run(tmp_path, "ridge")
    keep = ("schema", "run", "status", "identity")
    record = {key: run.run[key] for key in keep}
    record["identity"] = {
        key: run.identity[key] for key in ("task", "target", "unit", "learner", "features", "split")
    }
    write_json(run.path / "run.json", record)
    check_offline(render_report(read_runs(tmp_path), bootstrap=20))


def test_constant_predictions_make_a_report(tmp_path):
    genes = population(400)
    table = write_run(tmp_path, "knn", genes=genes).predictions
    runs = [
        write_run(tmp_path, "ridge", genes=genes, predictions=table.assign(y_pred=1.0)),
        write_run(tmp_path, "xgboost", genes=genes, predictions=table.assign(y_pred=float("nan"))),
    ]
    check_offline(render_report(runs, bootstrap=20))


def test_no_runs_are_refused():
    with pytest.raises(InputError, match="bench run"):
        render_report([])
