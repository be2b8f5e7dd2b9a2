"""Malformed data sets end in one message and exit code 2; nothing reaches the terminal raw."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

from tests.builders.hostile import ANNOTATION, FILES, GENOME, fs, write

TOML = FILES["dataset.toml"]
TABLE = FILES["e.tsv"]


def one_mode(line: str) -> str:
    return f"[species.plant]\n{line}\n"


# name of the case: (files, what the message holds)
MISTAKES: dict[str, tuple[dict[str, str | bytes], str]] = {
    # files as a whole
    "utf-16": ({"e.tsv": TABLE.encode("utf-16")}, r"e\.tsv: the file is text in UTF-16"),
    "a web page": ({"g.fa": "\n<!DOCTYPE html>\n<html>404"}, r"g\.fa: the file is a web page"),
    "twice gzipped": ({"g.fa": gzip.compress(gzip.compress(GENOME.encode()))}, "compressed twice"),
    "tar": ({"g.fa": b"g.fa" + bytes(253) + b"ustar" + bytes(250)}, "a tar archive"),
    "git lfs": ({"g.fa": "version https://git-lfs.github.com/spec/v1\n"}, "git lfs pull"),
    "xls": ({"e.tsv": b"\xd0\xcf\x11\xe0" + bytes(9)}, "Excel workbook"),
    "cut gzip": ({"g.fa": gzip.compress(GENOME.encode())[:-9]}, "cut short at byte"),
    "rubbish after gzip": ({"g.fa": gzip.compress(GENOME.encode()) + b"xx"}, "damaged"),
    "NUL in a path": ({"dataset.toml": TOML.replace("g.fa", "g\\u0000")}, "has a NUL in it"),
    "a device": ({"dataset.toml": TOML.replace("g.fa", "/dev/zero")}, "pipe or a device"),
    "a folder": ({"dataset.toml": TOML.replace("g.fa", ".")}, "this is a folder"),
    "below a file": ({"dataset.toml": TOML.replace("g.fa", "e.tsv/g.fa")}, "cannot be read"),
    **{f"empty {name}": ({name: ""}, re.escape(name)) for name in FILES},
    **{f"blank {name}": ({name: "\n \r\n\n"}, re.escape(name)) for name in FILES},
    **{f"NUL {name}": ({name: b"\0" * 99}, re.escape(name)) for name in FILES},
    # genome
    "gaps": ({"g.fa": ">Chr1\nAC-G*T\n"}, r"lines 2, 2: .*'-' at base 3 .*'\*' at base 5"),
    "protein": ({"g.fa": ">Chr1\nMELQ\n"}, "'E' at base 2"),
    "no header": ({"g.fa": "ACGT\n"}, "sequence before the first '>'"),
    # annotation
    "Chr1 for 1": ({"g.fa": GENOME.replace("Chr", "")}, "lacks: Chr1, Chr2; it has 1, 2. Did you mean '1' by 'Chr1'"),
    "1 for chr01": ({"g.fa": GENOME.replace("Chr", "chr0"), "a.gff3": ANNOTATION.replace("Chr", "")}, "Did you mean 'chr01' by '1'"),
    "case of Chr": ({"g.fa": GENOME.replace("Chr", "chr")}, "Did you mean 'chr1' by 'Chr1'"),
    "blanks for tabs": ({"a.gff3": ANNOTATION.replace("\t", " ")}, "nine tab columns"),
    "start > end": ({"a.gff3": ANNOTATION.replace("501\t600", "600\t501")}, r"lines 3, 4: start > end: gene 600 > 501"),
    "1_000": ({"a.gff3": ANNOTATION.replace("601\t800", "6_01\t800")}, "'6_01'"),
    "huge number": ({"a.gff3": ANNOTATION.replace("601\t800", "601\t" + "9" * 5000)}, "no whole number"),
    "transcript twice": ({"a.gff3": ANNOTATION.replace("transcript:g2.1", "transcript:g1.1")}, r"line 4: a transcript id given twice: transcript:g1\.1 \(also line 2\)"),
    "gene twice": ({"a.gff3": ANNOTATION.replace("g2", "g1")}, "a gene id given twice"),
    "control character in an id": ({"a.gff3": ANNOTATION.replace("g1", "g%0A%1B[31m1")}, r"line 1: a gene id that cannot be printed: gene:g\\n\\x1b\[31m1"),
    "GTF gene without gene_id": ({"a.gff3": 'Chr1\tx\tgene\t1\t9\t.\t+\t.\tgene_name "a"; transcript_id "b";\n'}, "a gene without ID"),
    "GTF transcript without gene_id": ({"a.gff3": 'Chr1\tx\ttranscript\t1\t9\t.\t+\t.\ttranscript_id "b"; x "y";\n'}, "no gene_id or transcript_id"),
    # expression
    "open quote": ({"e.tsv": 'gene\ts1\ts2\n"g1\t1\t2\ng2\t3\t4\n'}, r'line 2: a quote " that is not closed: "g1'),
    "long open quote": ({"e.tsv": 'gene\ts1\ts2\n"g1\t1\t2\n' + "g\t3\t4\n" * 30_000}, "line 2: a quote"),
    "two open quotes": ({"f.tsv": 'gene\tfamily\n"g1\tF1\nx\ty\n"g2\tF2\n'}, "line 2: a quote"),
    "underscore": ({"e.tsv": TABLE.replace("\t2", "\t2_0")}, "'2_0' in column 's2'"),
    "decimal comma": ({"e.tsv": TABLE.replace("\t2", "\t2,5")}, "decimals with a point"),
    "thousands": ({"e.tsv": TABLE.replace("\t2", "\t1,234.5")}, "thousands without"),
    "infinite": ({"e.tsv": TABLE.replace("\t2", "\tinf")}, "'inf' in column 's2'"),
    "beyond float32": ({"e.tsv": TABLE.replace("\t2", "\t1e39")}, "'1e39' in column 's2'"),
    "negative": ({"e.tsv": TABLE.replace("\t2", "\t-2")}, "a negative value in a table of unit TPM"),
    "column twice": ({"e.tsv": TABLE.replace("s2", "s1")}, "columns given twice: 's1'"),
    "gene twice in a table": ({"e.tsv": TABLE + "g1\t1\t1\n"}, r"line 4: several rows of one gene: g1 \(also line 2\)"),
    "kallisto": ({"e.tsv": "target_id\tlength\teff_length\test_counts\ttpm\ng1\t9\t9\t3\t4\n"}, "est_counts, tpm are measures of one sample"),
    "salmon": ({"e.tsv": "Name\tLength\tEffectiveLength\tTPM\tNumReads\ng1\t9\t9\t3\t4\n"}, "TPM, NumReads are measures of one sample"),
    "no name over values": ({"e.tsv": "gene\ts1\t\ng1\t1\t2\n"}, "no name over the values of column 3"),
    "ids do not meet": ({"e.tsv": "gene\ts1\tx\nAT1\x1b]0;pwn\x07\t1\t2\n"}, r"AT1\\x1b\]0;pwn\\x07"),
    # families
    "two families": ({"f.tsv": FILES["f.tsv"] + "g1\tF2\n"}, r"line 4: a gene in two families: g1 is in F1 \(line 2\) and F2"),
    # sequences, positions
    "nameless record": ({"dataset.toml": one_mode('sequences = "e.tsv"'), "e.tsv": "gene\tpromoter\n\tACGT\n"}, "line 2: an id that is empty"),
    "record twice but for a prefix": ({"dataset.toml": one_mode('sequences = { promoter = "g.fa" }'), "g.fa": ">gene:g1\nA\n>g1\nC\n"}, "line 3: a record or gene id that is empty or given twice: g1"),
    "sequences of no region": ({"dataset.toml": one_mode("sequences = {}")}, "sequences of no region"),
    "a number for a file": ({"dataset.toml": one_mode("sequences = { promoter = 5 }")}, "sequences.promoter = 5"),
    "position beyond 64 bit": ({"dataset.toml": one_mode('positions = "e.tsv"'), "e.tsv": f"gene\tchrom\ttss\ng\t1\t{'9' * 30}\n"}, "line 2: a position that is no position"),
    "gene without id": ({"dataset.toml": one_mode('positions = "e.tsv"'), "e.tsv": "gene\tchrom\ttss\n\t1\t5\n"}, "line 2: an id that is empty"),
    # dataset.toml
    "nested too deep": ({"dataset.toml": "a = " + "[" * 5000}, "nested too deep"),
    "a number of 5,000 digits": ({"dataset.toml": "a = " + "9" * 5000}, "too many digits"),
    "50,000 brackets": ({"dataset.toml": "[" * 50_000}, "not valid TOML"),
    **{
        f"species {name!r}": ({"dataset.toml": TOML.replace("species.plant", f'species."{name}"')}, "cannot be the name of a folder")
        for name in ("../../x", "..", "/etc", "a/b", ".hidden", "plant\\n", "\\u001b[31m", "zarr.json", "p" * 300)
    },
    "variant set": ({"dataset.toml": TOML + 'variants."../x" = "g.fa"\n'}, r"'\.\./x' cannot be the name of a folder"),
    "embedder": ({"dataset.toml": '[embedders."../x"]\ntype = "kmer"\n' + TOML}, r"'\.\./x' cannot be the name of a folder"),
    "default embedder": ({"dataset.toml": "embedders = ['../../x']\n" + TOML}, r"unknown embedder type '\.\./\.\./x'"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_told(tmp_path, case):
    files, says = MISTAKES[case]
    done = fs("plan", str(write(tmp_path, files)))
    assert done.escaped is None
    assert done.code == 2
    assert re.search(says, done.text), done.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", done.text)
    assert len(done.text) < 5000
    assert "→" in done.text or "Known:" in done.text


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    done = fs("plan", str(write(tmp_path, {"dataset.toml": TOML.replace("g.fa", "pipe")})))
    assert done.code == 2
    assert "a pipe or a device" in done.text


def test_values_of_files_never_reach_the_terminal_raw(tmp_path):
    """Also where nothing is wrong: notes name genes, and the funnel names reasons."""
    files = {
        "e.tsv": TABLE + "x\x1b[2J\t1\t2\n\u202eevil\t1\t2\n",
        "a.gff3": ANNOTATION + "Chr1\tx\tgene\t5\t9\t.\t+\t.\tID=q;biotype=%1B]0;pwn\n",
    }
    write(tmp_path, files)
    for command in ("plan", "build"):
        done = fs(command, str(tmp_path), "--store", str(tmp_path / "s.zarr"))
        assert (done.code, done.escaped) == (0, None)
        assert "\\x1b[2J, \\u202eevil" in done.text
        assert "\x1b" not in done.text


def test_huge_values_are_cut(tmp_path):
    name = "g" * 300_000
    done = fs("plan", str(write(tmp_path, {"a.gff3": ANNOTATION.replace("g1", name)})))
    assert done.code == 0
    assert "g… (300,000 characters)" in done.text
    assert len(done.text) < 3000


@pytest.mark.parametrize("inside", [".", "a.gff3", "folder"])
def test_a_build_replaces_nothing_but_a_store(tmp_path, inside):
    """A finished build puts its folder in the place of --store: files there would be lost."""
    write(tmp_path, {})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    done = fs("build", str(tmp_path), "--store", str(tmp_path / inside))
    assert (done.code, done.escaped) == (2, None)
    assert "name a folder that does not exist yet" in done.text
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_an_empty_folder_may_become_a_store_but_not_the_current_one(tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    (tmp_path / "data").mkdir()
    write(tmp_path / "data", {})
    monkeypatch.chdir(tmp_path / "empty")
    done = fs("build", "../data", "--store", ".")
    assert done.code == 2
    assert "the current folder" in done.text
    monkeypatch.chdir(tmp_path)
    assert fs("build", "data", "--store", "empty").code == 0
    assert fs("build", "data", "--store", "empty").code == 0
    assert fs("verify", "empty").code == 0


@pytest.mark.parametrize("store", ["g.fa/x", "/proc/x", "s" * 400])
def test_what_the_machine_refuses_is_told(tmp_path, store):
    write(tmp_path, {})
    done = fs("build", str(tmp_path), "--store", str(tmp_path / store))
    assert done.escaped is None
    assert done.code in (1, 2)
    assert done.text.startswith("Error: ")


def test_linear_in_hostile_lines(tmp_path):
    """Lines that made a pattern start over at every character: ten times as long, not a hundred."""
    import time

    from featurestore.inputs import toml_text
    from featurestore.inputs.annotation_lines import _gff3_attributes, _gtf_attributes, _parents
    from featurestore.inputs.ids import strip_version

    size = 100_000  # quadratic steps would take minutes
    started = time.perf_counter()
    _gff3_attributes("ID=x;Note=" + " " * size + "#=")
    _gff3_attributes("ID=x;Note=" + " #" * size + "=")
    _parents("Parent=" + " " * size + "#")
    _gtf_attributes('gene_id "g"; ' + "w" * size)
    _gtf_attributes('gene_id "g"; ' + 'w "' * size)
    strip_version("g" + ".1" * size + ".x")
    toml_text.key_lines("[" * size)
    toml_text.key_lines("[" + " " * size)
    assert time.perf_counter() - started < 3


def test_folder_that_may_not_be_listed(tmp_path, monkeypatch):
    """As a user without the right to list a folder sees it (root, who runs tests, may always)."""

    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    path = write(tmp_path, {"dataset.toml": TOML.replace("g.fa", "nothing.fa")})
    monkeypatch.setattr(Path, "iterdir", refused)
    done = fs("plan", str(path))
    assert (done.code, done.escaped) == (2, None)
    assert "nothing.fa: the file does not exist" in done.text
