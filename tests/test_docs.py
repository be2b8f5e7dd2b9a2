"""README and docs tell the truth: links lead somewhere, commands and options exist, tables follow the code."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import benchmarks.cli
import featurestore.cli
from featurestore.schema import REGISTRY

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
IDS = [p.relative_to(ROOT).as_posix() for p in PAGES]
COMMANDS = {"fs": featurestore.cli.cli, "bench": benchmarks.cli.bench}


def code_blocks(text: str) -> Iterator[tuple[str, str]]:
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_to_files(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def command_lines(page: Path) -> Iterator[list[str]]:
    for _, block in code_blocks(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:
                continue  # a drawing, not a command
            if words and words[0] in COMMANDS and len(words) > 1:
                yield words


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_and_options_exist(page):
    for words in command_lines(page):
        group = COMMANDS[words[0]]
        if words[1] in {"--help", "|", "──"} or not re.fullmatch(r"[a-z-]+", words[1]):
            continue
        context = click.Context(group)
        command = group.get_command(context, words[1])
        assert command is not None, " ".join(words)
        known = {option for parameter in command.params for option in parameter.opts} | {
            "--help",
            "-h",
        }
        for word in words[2:]:
            if word.startswith("--"):
                assert word.split("=")[0] in known, " ".join(words)


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_python_blocks_compile(page):
    for language, block in code_blocks(page.read_text()):
        if language == "python":
            compile(block, str(page), "exec")


def format_table() -> str:
    """The arrays of the registry, as docs/format.md shows them."""
    lines = ["| array | dimensions | dtype | layout | what |", "|---|---|---|---|---|"]
    for spec in REGISTRY:
        when = f" *({spec.when})*" if spec.when else ""
        lines.append(
            f"| `{spec.path}` | {', '.join(spec.dims)} | {spec.dtype} | {spec.layout} | {spec.doc}{when} |"
        )
    return "\n".join(lines)


def test_the_format_page_holds_the_registry():
    page = (ROOT / "docs" / "format.md").read_text()
    found = re.search(r"<!-- arrays -->\n(.*?)<!-- /arrays -->", page, re.DOTALL)
    assert found is not None
    assert found[1].strip() == format_table(), "put this there:\n" + format_table()


def test_the_readme_has_the_two_lines_that_ci_calls():
    text = (ROOT / "README.md").read_text()
    for environment in ("demo", "tests"):
        assert re.search(rf"^python3 -m venv .* -e {environment}$", text, re.MULTILINE)
    assert "README.md" in (ROOT / ".ci" / "run").read_text()


def test_every_lower_bound_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [")[1].split("\n]")[0]
    bounds = [line for line in block.splitlines() if ">=" in line]
    assert len(bounds) > 10
    assert all("#" in line for line in bounds)


def test_constraints_pin_every_dependency_and_torch_is_the_cpu_build():
    pins = {
        re.split(r"==", line)[0].lower().replace("_", "-"): line
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("dependencies = [")[1].split("\n]")[0]
    for name in re.findall(r'^\s*"([A-Za-z0-9_-]+)', block, re.MULTILINE):
        assert name.lower().replace("_", "-") in pins
    assert pins["torch"] == "torch==2.13.0"
    assert not any("nvidia" in name for name in pins)
