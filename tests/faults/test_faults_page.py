"""Every fault of docs/faults.md has its test, and every test of faults its row."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "faults.md"


def test_rows_and_tests_belong_together():
    named = set(re.findall(r"`(tests/faults/\w+\.py)::(\w+)`", PAGE.read_text()))
    there = {
        (f"tests/faults/{file.name}", node.name)
        for file in (ROOT / "tests" / "faults").glob("test_*.py")
        if file.name != Path(__file__).name
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    assert named == there


def test_every_row_tells_what_happens_what_is_seen_and_which_test_does_it():
    block = PAGE.read_text().split("<!-- faults -->")[1].split("<!-- /faults -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("| ") and "| **" not in line]
    rows = [line.strip("|").split(" | ") for line in lines]
    assert len(rows) > 20
    for row in rows[1:]:
        assert len(row) == 4, row
        assert all(cell.strip() for cell in row), row
