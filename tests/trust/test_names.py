"""Names are data: they lead to no other folder, run in no spreadsheet, and obey on no terminal."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.cells import for_terminal, safe_cell, safe_row
from tests.builders.hostile import FILES, fs, write

TOML = FILES["dataset.toml"]
UNSAFE = (
    "..", ".", "../x", "a/b", "/etc", "a\\\\b", "a\\u0000b", "zarr.json", "ZARR.JSON", "manifest.json", "__x",
    "x" * 101, "con", "NUL.txt", "com1", "a.", ".git", "a b", "a\\u202eb", "a\\u001b[31m", "ａ", "a\\n", "~", "$HOME",
)  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("what", ["species", "embedder", "variant set", "region"])
def test_no_name_leads_out_of_its_folder(tmp_path, name, what):
    lines = {
        "species": TOML.replace("species.plant", f'species."{name}"'),
        "embedder": f'[embedders."{name}"]\ntype = "kmer"\n' + TOML,
        "variant set": TOML + f'variants."{name}" = "g.fa"\n',
        "region": TOML.replace("promoter =", f'"{name}" ='),
    }
    folder = tmp_path / "few" / "levels" / "deep"
    folder.mkdir(parents=True)
    write(folder, {"dataset.toml": lines[what]})
    done = fs("build", str(folder), "--store", str(folder / "s.zarr"))
    assert (done.code, done.escaped) == (2, None)
    assert not (folder / "s.zarr").exists()
    outside = set(tmp_path.rglob("*")) - set(folder.rglob("*")) - {folder, *folder.parents}
    assert not outside
    assert done.text.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("g.fa", FILES["g.fa"].replace("Chr1", "Chr\x1b[31m1")),
        ("e.tsv", FILES["e.tsv"].replace("s1", "s\x9b31m")),
        ("e.tsv", "gene\tsample\tTPM\ng1\ts\u202e1\t2\ng2\ts\u202e1\t2\n"),
        ("f.tsv", FILES["f.tsv"].replace("F1", "F\x071")),
        ("s.tsv", FILES["s.tsv"].replace("leaf", "leaf\x1b]0;x\x07")),
        ("a.gff3", FILES["a.gff3"].replace("Parent=gene:g1", "Parent=g%1B9")),
        ("p.tsv", "gene\tchrom\ttss\ng1\tc\x1b[2J\t5\n"),
        ("q.tsv", "gene\tpromoter\tfold\ng1\tACGT\t\x1b[2J\n"),
    ],
)
def test_names_that_cannot_be_printed_are_told_and_escaped(tmp_path, file, content):
    toml = {"p.tsv": 'positions = "p.tsv"', "q.tsv": 'sequences = "q.tsv"'}.get(file)
    files: dict[str, str | bytes] = {file: content}
    if toml:
        files["dataset.toml"] = f"[species.plant]\n{toml}\n"
    done = fs("plan", str(write(tmp_path, files)))
    assert (done.code, done.escaped) == (2, None)
    assert f"{file}, " in done.text or f"{file}: " in done.text
    assert "cannot be printed" in done.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.text)


FORMULAS = [
    "=1+1",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    '=HYPERLINK("http://x")',
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_begins_a_formula(text):
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerow(safe_row([text, -1.5, 3, "AT1G01010"]))
    rows = list(csv.reader(io.StringIO(out.getvalue())))
    assert len(rows) == 1
    first, *others = rows[0]
    assert first.startswith("'")
    assert others == ["-1.5", "3", "AT1G01010"]  # numbers stay numbers, names stay names


@given(st.text(max_size=30))
def test_no_text_begins_a_formula_or_a_row(text):
    cell = safe_cell(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    assert cell.isprintable()
    assert len(list(csv.reader(io.StringIO(f'"{cell.replace(chr(34), "")}"')))) == 1


def test_query_writes_cells_that_no_spreadsheet_obeys(tmp_path):
    annotation = FILES["a.gff3"].replace("gene:g1", "=cmd|calc")
    families = "gene\tfamily\n=cmd|calc\t@F1\ng2\tF2\n"
    files = {
        "a.gff3": annotation,
        "f.tsv": families,
        "e.tsv": FILES["e.tsv"].replace("g1", "=cmd|calc"),
    }
    write(tmp_path, files)
    store = str(tmp_path / "s.zarr")
    assert fs("build", str(tmp_path), "--store", store).code == 0
    done = fs("query", store, "--region", "Chr1:1-2000", "--embedder", "kmer", "--format", "csv")
    assert done.code == 0
    (row,) = csv.DictReader(io.StringIO(done.text))
    assert (row["gene"], row["family"]) == ("'=cmd|calc", "'@F1")
    values = [float(v) for k, v in row.items() if k.startswith("promoter")]
    assert np.isfinite(values).all()


@given(st.text(max_size=40))
def test_a_terminal_is_told_nothing_but_lines(text):
    shown = for_terminal(text)
    assert re.fullmatch(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*", shown)
    if text.isprintable():
        assert shown == text


def test_commands_print_no_control_characters_of_a_run(tmp_path):
    import json

    from click.testing import CliRunner

    from benchmarks.cli import bench
    from tests.builders.runs import population, write_run

    evil = "a\x1b[31m\x9b2J\u202e"
    for seed in (0, 1):
        write_run(tmp_path, evil, evil, seed=seed, genes=population(60), bootstrap=0)
    for command in ("leaderboard", "compare"):
        for more in ([], ["--json"]):
            done = CliRunner().invoke(bench, [command, str(tmp_path), "--bootstrap", "0", *more])
            assert done.exit_code == 0, done.output
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", done.output)
            if more:
                json.loads(done.output)
