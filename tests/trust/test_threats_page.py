"""Every threat of docs/threats.md has its test, and each of these exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "threats.md"


def named_tests() -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())


def test_every_test_that_is_named_exists():
    named = named_tests()
    assert len(named) > 30
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text())
        assert name in {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}, (
            file,
            name,
        )


def test_every_threat_names_a_test():
    block = PAGE.read_text().split("<!-- threats -->")[1].split("<!-- /threats -->")[0]
    rows = [line for line in block.splitlines() if line.startswith("| ") and "---" not in line][1:]
    assert len(rows) > 15
    for row in rows:
        cells = row.strip("|").split(" | ")
        assert len(cells) == 4, row
        assert "::" in cells[3], row


def test_every_test_of_trust_is_named_in_the_page():
    named = set(named_tests())
    for file in sorted((ROOT / "tests" / "trust").glob("test_*.py")):
        if file.name == Path(__file__).name:
            continue
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert (f"tests/trust/{file.name}", node.name) in named, (file.name, node.name)
